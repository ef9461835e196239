"""Transcripts over HTTP."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from places import SHAPES
from scripted_engine import ScriptedEngine
from serving import Reply, Served, demo, served

from mlx_gemma4.recordings import transcribe
from mlx_gemma4.recordings.pieces import Segment

SPEECH = SHAPES.with_name("speech.wav")
KIND = {"Content-Type": "multipart/form-data; boundary=x"}


class Listener(ScriptedEngine):
    model = processor = None
    defaults: Mapping[str, Any] = {}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Hears the same in any recording."""

    def heard(
        model: Any, processor: Any, samples: Any, **options: Any
    ) -> Iterator[Segment]:
        options["progress"](1.0)
        asked.append((options["language"], options["translate"]))
        for start, text in enumerate(("One, two.", "Three.")):
            yield Segment(start, start + 1, text, f"{text}!")

    asked: list[Any] = []
    monkeypatch.setattr(transcribe, "transcribe", heard)
    with served(Listener) as running:
        running.engine.asked = asked  # type: ignore[attr-defined]
        yield running


def form(**fields: str | bytes) -> bytes:
    parts = []
    for name, value in fields.items():
        named = f'name="{name.replace("__", "[]")}"'
        if isinstance(value, bytes):
            named += '; filename="talk.wav"'
        head = f"--x\r\nContent-Disposition: form-data; {named}\r\n\r\n".encode()
        parts.append(head + (value if isinstance(value, bytes) else value.encode()))
    return b"\r\n".join([*parts, b"--x--\r\n"])


def ask(server: Served, kind: str = "transcriptions", **fields: str | bytes) -> Reply:
    body = form(**{"model": "any", "file": SPEECH.read_bytes(), **fields})
    return server.ask("POST", f"/v1/audio/{kind}", body, KIND)


TEXTS = {
    "text": ("text/plain", "One, two.\nThree.\n"),
    "srt": (
        "application/x-subrip",
        "1\n00:00:00,000 --> 00:00:01,000\nOne, two.\n\n"
        "2\n00:00:01,000 --> 00:00:02,000\nThree.\n",
    ),
    "vtt": (
        "text/vtt",
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nOne, two.\n\n"
        "00:00:01.000 --> 00:00:02.000\nThree.\n",
    ),
}


@pytest.mark.parametrize("shape", TEXTS)
def test_text(server: Served, shape: str):
    reply = ask(server, response_format=shape)
    kind, text = TEXTS[shape]
    assert (reply.status, reply.data.decode()) == (200, text)
    assert reply.headers["content-type"] == f"{kind}; charset=utf-8"


def test_json(server: Served):
    usage = {"type": "duration", "seconds": 4.549}
    whole = {"text": "One, two. Three.", "usage": usage}
    assert ask(server).json() == whole
    verbose = ask(server, response_format="verbose_json", language="de").json()
    assert verbose == {
        **whole,
        "task": "transcribe",
        "language": "german",
        "duration": 4.549,
        "segments": [
            {"id": 0, "start": 0, "end": 1, "text": "One, two."},
            {"id": 1, "start": 1, "end": 2, "text": "Three."},
        ],
    }
    assert server.engine.asked == [(None, None), ("German", None)]  # type: ignore[attr-defined]


def test_a_stream(server: Served):
    reply = ask(
        server, stream="true", timestamp_granularities__="segment", temperature="0"
    )
    told = [json.loads(line[6:]) for line in reply.data.decode().strip().split("\n\n")]
    assert [event.get("delta") for event in told] == ["One, two.", " Three.", None]
    assert told[-1]["type"] == "transcript.text.done"
    assert told[-1]["text"] == "One, two. Three."


def test_a_translation(server: Served):
    reply = ask(server, "translations", response_format="verbose_json").json()
    assert (reply["task"], reply["language"]) == ("translate", "english")
    assert reply["text"] == "One, two.! Three.!"
    assert reply["segments"][1]["text"] == "Three.!"


def test_what_cannot_be_done_is_refused_by_its_name(server: Served):
    refused = {
        "prompt": "GPT",
        "temperature": "0.5",
        "timestamp_granularities__": "word",
        "include__": "logprobs",
        "response_format": "diarized_json",
        "chunking_strategy": '{"type": "server_vad"}',
        "language": "q",
        "stream": "perhaps",
        "keywords__": "Gemma",
    }
    for name, value in refused.items():
        reply = ask(server, **{name: value})
        assert reply.status == 400, name
        assert name.removesuffix("__") in reply.json()["error"]["message"]
    for body in (form(model="any"), form(file="no file")):
        reply = server.ask("POST", "/v1/audio/transcriptions", body, KIND)
        assert reply.status == 400
        assert "one file, called file" in reply.json()["error"]["message"]
    assert ask(server, stream="true", response_format="srt").status == 400
    damaged = ask(server, file=b"no sound at all")
    assert damaged.status == 400 and "cannot be decoded" in damaged.data.decode()
    assert server.ask("POST", "/v1/audio/transcriptions", {}).status == 415


@pytest.mark.slow
def test_the_client_hears_what_the_command_hears():
    openai = pytest.importorskip("openai", reason="needs OpenAI's client")
    with served(demo) as running:
        client = openai.OpenAI(base_url=running.url, api_key="any", max_retries=0)
        heard = client.audio.transcriptions.create(model="any", file=SPEECH)
        shown = client.audio.transcriptions.create(
            model="any", file=SPEECH, response_format="srt", language="en"
        )
        streamed = [
            event.delta
            for event in client.audio.transcriptions.create(
                model="any", file=SPEECH, stream=True
            )
            if event.type == "transcript.text.delta"
        ]
    assert heard.text == "hello open 3 red window play music stop"
    assert "".join(streamed) == heard.text
    assert "00:00:02,320 --> 00:00:04,549\nwindow play music stop\n" in shown
