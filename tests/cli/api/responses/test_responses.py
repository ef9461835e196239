"""`/v1/responses` by OpenAI's own client: on the demo model, and on a scripted one."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import soundfile
from places import SHAPES
from serving import Served, demo, served
from told import Told, said

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli.serve import exchange
from mlx_gemma4.cli.serve.engine import Asked
from mlx_gemma4.errors import ChatError

openai = pytest.importorskip("openai", reason="needs OpenAI's client")

FRANCE = "What is the capital of France?"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
    "strict": False,
}
SHELL = {"type": "custom", "name": "shell", "description": "Runs a line."}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(demo) as running:
        yield running


def client_of(server: Served) -> Any:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Any]:
    with client_of(server) as made:
        yield made


def test_text_and_a_second_turn_that_reads_only_what_is_new(client: Any) -> None:
    first = client.responses.create(model="any", input=FRANCE)
    assert first.output_text == "The capital of France is Paris."
    assert (first.status, first.model) == ("completed", "demo")
    usage = first.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    again = client.responses.create(
        model="any", input="And of Spain?", previous_response_id=first.id
    )
    assert again.output_text == "The capital of Spain is Madrid."
    known = again.usage.input_tokens_details.cached_tokens
    assert known == usage.total_tokens  # the end mark of the answer is one of them


@pytest.mark.slow
def test_picture(client: Any) -> None:
    data = base64.b64encode(SHAPES.read_bytes()).decode()
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
    text = {"type": "input_text", "text": "What is in this picture?"}
    asked = [{"role": "user", "content": [image, text]}]
    answer = client.responses.create(model="any", input=asked)
    assert "red circle" in answer.output_text


@pytest.mark.slow
def test_sound(client: Any) -> None:
    samples, rate = soundfile.read(SHAPES.with_name("speech.wav"))
    file = io.BytesIO()
    soundfile.write(file, samples[: int(2.9 * rate)], rate, format="WAV")
    data = base64.b64encode(file.getvalue()).decode()
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    text = {"type": "input_text", "text": "Transcribe this."}
    asked = [{"role": "user", "content": [sound, text]}]
    answer = client.responses.create(model="any", input=asked)
    assert answer.output_text.startswith("hello open")


@pytest.mark.slow
def test_tool_and_its_result(client: Any) -> None:
    items: list[Any] = [{"role": "user", "content": "What is the weather in Rome?"}]
    asked = client.responses.create(model="any", input=items, tools=[WEATHER])
    (call,) = asked.output
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Rome"})
    result = '{"condition": "sunny", "temperature": 21}'
    output = {"type": "function_call_output", "call_id": call.call_id}
    items += [*asked.output, {**output, "output": result}]
    answer = client.responses.create(model="any", input=items, tools=[WEATHER])
    assert answer.output_text == "It is sunny and 21 degrees in Rome."
    assert (
        answer.usage.input_tokens_details.cached_tokens >= asked.usage.total_tokens - 1
    )


@pytest.mark.slow
def test_schema(client: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra json")
    from pydantic import BaseModel

    class City(BaseModel):
        capital: bool

    answer = client.responses.parse(
        model="any", input="Is Paris a capital?", text_format=City
    )
    assert isinstance(answer.output_parsed, City)


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"background": True}, 400),
        ({"previous_response_id": "resp_none"}, 400),
        ({"conversation": "conv_1"}, 400),
        ({"input": 3}, 400),
        ({"temperature": "hot"}, 400),
        ({"max_output_tokens": 0}, 400),
        ({"text": {"format": {"type": "json_schema"}}}, 400),
        ({"text": {"verbosity": "low"}}, 400),
        ({"reasoning": {"effort": "wild"}}, 400),
        ({"include": ["message.output_text.logprobs"]}, 400),
        ({"input": "word " * 5000}, 400),
        ({"input": "word " * 5000, "stream": True}, 400),
    ],
)
def test_refused(server: Served, wrong: dict[str, Any], status: int) -> None:
    reply = server.ask("POST", "/v1/responses", {"input": "Hi.", **wrong})
    assert reply.status == status
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def follow(asked: Asked) -> list[Chunk]:
    """Thinks and calls; and speaks once there is a result."""
    last = [*(asked.messages or ())][-1]
    if last["role"] == "tool":
        return said(Chunk(f"It says {last['content']}.", 1))
    call = ToolCall("shell", {"input": "ls -l"})
    return said(Chunk("", 1, thought="Look."), Chunk("", 2, tool_calls=(call,)))


def test_stream() -> None:
    with served(lambda: Told(follow)) as server, client_of(server) as client:
        with client.responses.stream(
            model="any", input="Go.", tools=[SHELL], reasoning={"summary": "auto"}
        ) as stream:
            kinds = [event.type for event in stream]
            thought, call = stream.get_final_response().output
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert "response.custom_tool_call_input.done" in kinds
    assert (thought.summary[0].text, call.input) == ("Look.", "ls -l")


@pytest.mark.parametrize("how", ["items", "sealed", "kept"])
def test_thoughts_stay_between_calls(how: str) -> None:
    """Whatever of them clients send back; Codex sends what is sealed, or summaries."""
    engine = Told(follow)
    with served(lambda: engine) as server, client_of(server) as client:
        include = ["reasoning.encrypted_content"] if how == "sealed" else []
        ask = {"model": "any", "tools": [SHELL], "include": include}
        first = client.responses.create(input="Go.", **ask)
        thought, call = (item.to_dict() for item in first.output)
        assert (call["type"], call["input"]) == ("custom_tool_call", "ls -l")
        result = {"type": "custom_tool_call_output", "call_id": call["call_id"]}
        result["output"] = "nothing"
        if how == "sealed":
            del thought["content"]
        items = [{"role": "user", "content": "Go."}, thought, call, result]
        if how == "kept":
            items, ask = [result], {**ask, "previous_response_id": first.id}
        last = client.responses.create(input=items, **ask)
    assert last.output_text == "It says nothing."
    question, called, answered = [*(engine.asked[1].messages or ())]
    assert question["role"] == "user"
    assert called["reasoning"] == "Look."
    assert called["tool_calls"][0]["function"]["arguments"] == {"input": "ls -l"}
    assert answered["content"] == "nothing"


def test_strict_tools_and_choices_reach_the_engine() -> None:
    engine = Told(follow)
    with served(lambda: engine) as server, client_of(server) as client:
        client.responses.create(
            model="any",
            input="Go.",
            tools=[{**WEATHER, "strict": True}],
            tool_choice={"type": "function", "name": "get_weather"},
            parallel_tool_calls=False,
            max_output_tokens=9,
            reasoning={"effort": "high"},
        )
    (asked,) = engine.asked
    assert (asked.tool_choice, asked.parallel_calls) == ("get_weather", False)
    options = {key: asked.options[key] for key in ("strict_tools", "max_tokens")}
    assert options == {"strict_tools": True, "max_tokens": 9}
    assert asked.options["thinking"] is True


def test_what_was_cut_is_not_whole() -> None:
    cut = said(Chunk("Once", 1))
    cut[-1] = Chunk("", 1, finish_reason="length", stats=cut[-1].stats)
    with served(lambda: Told(lambda asked: cut)) as server:
        with client_of(server) as client:
            answer = client.responses.create(model="any", input="Tell.")
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"


def test_a_long_wait_is_told_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LOOK", 0.01)
    monkeypatch.setattr(exchange, "QUIET", 0.02)
    go_on = threading.Event()

    def slow(asked: Asked) -> Iterator[Chunk]:
        go_on.wait(60)
        yield from said(Chunk("At last.", 1))

    with served(lambda: Told(slow)) as server, client_of(server) as client:
        with client.responses.stream(model="any", input="Go.") as stream:
            kinds = []
            for event in stream:
                kinds.append(event.type)
                if len(kinds) == 5:
                    go_on.set()
            assert stream.get_final_response().output_text == "At last."
    assert kinds[:5] == ["response.created", *["response.in_progress"] * 4]


def test_what_fails_in_the_middle_says_so() -> None:
    def breaks(asked: Asked) -> Iterator[Chunk]:
        yield Chunk("Once", 1)
        raise ChatError("That was too much.")

    with served(lambda: Told(breaks)) as server:
        with client_of(server) as client:
            stream = client.responses.create(model="any", input="Tell.", stream=True)
            events = list(stream)
        whole = server.ask("POST", "/v1/responses", {"input": "Tell."})
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message == "That was too much."
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (whole.status, whole.json()["error"]["message"]) == (
        400,
        "That was too much.",
    )
