"""`gemma4 transcribe` with a model that writes down what a made-up talk says."""

import importlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from listening import run

from mlx_gemma4.audio.files import RATE
from mlx_gemma4.audio.framing import AudioSampleConfig
from mlx_gemma4.cli import loading
from mlx_gemma4.cli.transcribe import output
from mlx_gemma4.prompt.transcription import split_translation, transcription_prompt


@pytest.mark.slow
def test_text_of_a_long_recording(listener):
    talk = listener.talk(Path("talk.wav"), 600)
    result = run("talk.wav")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == talk.text.split()
    assert result.stderr == ""
    assert len(listener.asked) > 20
    assert all(asked["n"] <= 30 * RATE for asked in listener.asked)
    assert {asked["temperature"] for asked in listener.asked} == {0.0}


def test_a_model_without_a_tower_hears_as_long_as_is_asked(listener):
    """30 s unless told otherwise, for that is what its checkpoint states."""
    talk = listener.talk(Path("talk.wav"), 100)
    _, processor = loading.load_to_chat("m")
    processor.media.audio = AudioSampleConfig()
    for options, most, times in (((), 30, 4), (("--piece", "60"), 60, 2)):
        listener.asked.clear()
        result = run("talk.wav", *options)
        assert result.exit_code == 0 and result.stdout.split() == talk.text.split()
        assert all(asked["n"] <= most * RATE for asked in listener.asked)
        assert len(listener.asked) >= times
        assert max(asked["n"] for asked in listener.asked) > (most - 14) * RATE
    assert run("talk.wav", "--piece", "4").exit_code == 2


@pytest.mark.parametrize(
    ("seconds", "told"),
    [("60", "at most 30 s"), *((s, "at least 5") for s in ("0", "nan", "-30"))],
)
def test_pieces_that_a_tower_cannot_hear_are_refused(listener, seconds, told):
    Path("unread.wav").write_bytes(b"no sound")
    result = run("unread.wav", "--piece", seconds)
    assert result.exit_code == 2 and not listener.asked
    assert f"has {seconds} s; " in result.stderr and told in result.stderr


def test_drafts_are_made_as_is_said(listener):
    listener.talk(Path("talk.wav"), 20)
    assert run("talk.wav", "--draft", "lookup").exit_code == 0
    assert run("talk.wav").exit_code == 0
    assert [asked["draft"] for asked in listener.asked] == ["lookup", None]
    done = run("talk.wav", "--draft", "lockup")
    assert done.exit_code == 2 and "Did you mean lookup?" in done.stderr


def test_the_context_is_kept_as_is_said(listener):
    listener.talk(Path("talk.wav"), 20)
    assert run("talk.wav", "--kv-bits", "8", "--max-context", "900").exit_code == 0
    assert run("talk.wav", "--kv-bits", "0").exit_code == 0
    said = [(asked["kv_bits"], asked["max_context"]) for asked in listener.asked]
    assert said == [(8, 900), (None, None)]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_never_overlap(listener, form):
    talk = listener.talk(Path("talk.wav"), 100)
    text = run("talk.wav", "--format", form).stdout
    times = [
        int(h) * 3600 + int(m) * 60 + float(s.replace(",", "."))
        for h, m, s in re.findall(r"(\d\d):(\d\d):(\d\d[.,]\d{3})", text)
    ]
    assert times == sorted(times) and 0 <= times[0] and times[-1] <= 100
    words = re.sub(r"WEBVTT|^\d+$|.*-->.*", "", text, flags=re.MULTILINE)
    assert words.split() == talk.text.split()


@pytest.mark.parametrize("option", ["--json", "--format=json"])
def test_json(listener, option):
    talk = listener.talk(Path("talk.wav"), 70)
    value = json.loads(run("talk.wav", option).stdout)
    assert (value["file"], value["model"], value["duration"]) == ("talk.wav", "m", 70)
    assert value["text"].split() == talk.text.split()
    assert [s["id"] for s in value["segments"]] == list(range(len(value["segments"])))
    times = [time for s in value["segments"] for time in (s["start"], s["end"])]
    assert times == sorted(times) and 0 <= times[0] < times[-1] <= 70
    assert value["stats"]["seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["srt", "vtt", "json"])
@pytest.mark.parametrize("folder", [(), ("-o", "texts")])
def test_ctrl_c_keeps_what_was_heard(listener, form, folder):
    talk = listener.talk(Path("talk.wav"), 100)
    listener.patience = 2
    result = run("talk.wav", "--format", form, *folder)
    assert result.exit_code == 130
    found, told = result.stdout, r"Printed 0:\d\d of 1:40\."
    if folder:
        (file,) = Path("texts").iterdir()
        assert file.name == f"talk.partial.{form}"
        found, told = file.read_text(), rf"Wrote 0:\d\d of 1:40 to {file}\."
    assert re.search(told, result.stderr)
    words = talk.text.split()
    assert words[0] in found and words[-1] not in found


def test_ctrl_c_keeps_the_piece_before_it(listener):
    """It waits for the next one, with which it may share words."""
    talk = listener.talk(Path("talk.wav"), 55)
    listener.patience = 1
    assert run("talk.wav", "--format", "srt", "-o", "texts").exit_code == 130
    assert talk.text.split()[0] in Path("texts", "talk.partial.srt").read_text()
    listener.asked.clear()
    result = run("talk.wav")
    assert result.exit_code == 130 and talk.text.startswith(result.stdout.split()[0])


def test_ctrl_c_ends_it_even_if_nothing_can_be_kept(listener, monkeypatch):
    def full(file: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "save_text", full)
    for number, name in enumerate(("a.wav", "b.wav")):
        listener.talk(Path(name), 55, seed=number)
    listener.patience = 1
    result = run("a.wav", "b.wav", "--format", "srt", "-o", "texts")
    assert result.exit_code == 130
    assert "a.partial.srt: No space left on device" in result.stderr
    assert len(listener.asked) == 1


def test_ctrl_c_leaves_another_recordings_transcript_alone(listener):
    for number, name in enumerate(("a.partial.wav", "a.wav")):
        listener.talk(Path(name), 55, seed=number)
    whole = run("a.partial.wav", "-o", "texts")
    assert whole.exit_code == 0
    before = Path("texts", "a.partial.txt").read_text()
    listener.patience = 2 * len(listener.asked) + 1
    result = run("a.partial.wav", "a.wav", "-o", "texts", "--overwrite")
    assert result.exit_code == 130
    assert "a.partial.txt is another recording's" in result.stderr
    assert Path("texts", "a.partial.txt").read_text() == before


def test_ctrl_c_before_anything_was_heard(listener):
    listener.talk(Path("talk.wav"), 100)
    listener.patience = 0
    result = run("talk.wav", "--format", "srt", "-o", "texts")
    assert result.exit_code == 130
    assert not list(Path("texts").iterdir())


def test_several_recordings_are_told_apart(listener):
    first = listener.talk(Path("a.wav"), 5, seed=1)
    second = listener.talk(Path("b.wav"), 5, seed=2)
    out = run("a.wav", "b.wav").stdout
    assert out == f"a.wav:\n{first.text}\n\nb.wav:\n{second.text}\n"


def test_files_in_a_folder(listener):
    talk = listener.talk(Path("a.wav"), 5)
    result = run("a.wav", "-o", "new/out", "-f", "srt")
    assert result.stdout == "" and "Wrote new/out/a.srt." in result.stderr
    assert talk.text.split()[0] in Path("new/out/a.srt").read_text()
    result = run("a.wav", "-o", "new/out", "-f", "vtt", "--json")
    assert json.loads(result.stdout)["text"] == talk.text
    assert Path("new/out/a.vtt").read_text().startswith("WEBVTT")


def test_a_file_that_is_there_is_not_replaced(listener, monkeypatch):
    talk = listener.talk(Path("a.wav"), 5)
    listener.talk(Path("b.wav"), 5, seed=1)
    Path("b.txt").write_text("my notes")
    with monkeypatch.context() as patched:
        patched.setattr(loading, "load_to_chat", None)
        result = run("a.wav", "b.wav", "-o", ".")
    assert result.exit_code == 2
    assert "b.txt exists; add --overwrite to replace it." in result.stderr
    assert Path("b.txt").read_text() == "my notes" and not Path("a.txt").exists()
    assert run("a.wav", "b.wav", "-o", ".", "--overwrite").exit_code == 0
    assert Path("a.txt").read_text() == f"{talk.text}\n"
    assert Path("b.txt").read_text() != "my notes"


def test_what_was_left_over_is_replaced(listener):
    """A part of an earlier try does not stand in the way of the next."""
    listener.talk(Path("talk.wav"), 100)
    for patience in (1, 3):
        listener.patience = len(listener.asked) + patience
        assert run("talk.wav", "-o", "texts").exit_code == 130
    part = Path("texts", "talk.partial.txt").read_text()
    assert len(part.splitlines()) > 1


def test_silence(listener):
    soundfile.write("silence.wav", np.zeros(RATE * 40), RATE)
    result = run("silence.wav")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing was said" in result.stderr and listener.asked == []


def test_translation(listener):
    talk = listener.talk(Path("talk.wav"), 40)
    listener.translate = True
    result = run("talk.wav", "--language", "en", "--translate", "de")
    assert result.stdout.replace("auf ", "").split() == talk.text.split()
    assert "in English, then translate it into German" in listener.asked[0]["prompt"]
    value = json.loads(run("talk.wav", "--translate", "German", "--json").stdout)
    assert value["text"].split() == talk.text.split()
    assert value["translation"].startswith("auf ")
    assert value["translated_to"] == "German"


def test_what_was_not_translated_is_reported_not_lost(listener):
    talk = listener.talk(Path("talk.wav"), 5)
    result = run("talk.wav", "--translate", "German")
    assert f"was not translated into German: {talk.text}" in result.stderr
    assert result.stdout == ""


def test_an_answer_without_end_is_reported(listener):
    listener.talk(Path("talk.wav"), 10)
    listener.finish_reason = "length"
    result = run("talk.wav")
    assert re.search(r"Warning: .* 0\.0 to 10\.0 s was cut off", result.stderr)
    assert listener.asked[0]["max_tokens"] == 64 + 200


def test_a_model_without_ears(listener, monkeypatch):
    listener.talk(Path("a.wav"), 2)
    model = SimpleNamespace(config=SimpleNamespace(audio_config=None))
    processor = SimpleNamespace(template=None)
    monkeypatch.setattr(loading, "load_to_chat", lambda *_: (model, processor))
    result = run("a.wav")
    assert result.exit_code == 2 and "m cannot hear" in result.stderr


def test_the_microphone(listener, monkeypatch):
    talk = listener.talk(Path("talk.wav"), 5)
    module = importlib.import_module("mlx_gemma4.cli.transcribe.mic")
    monkeypatch.setattr(module, "record", lambda screen: (talk.samples, RATE))
    assert run("--mic").stdout == f"{talk.text}\n"
    assert json.loads(run("--mic", "--json").stdout)["file"] == "microphone"


def test_prompts_are_those_of_the_model_card():
    assert transcription_prompt().startswith(
        "Transcribe the following speech segment in its original language. Follow"
    )
    assert transcription_prompt("French").startswith(
        "Transcribe the following speech segment in French into French text.\n\nFollow"
    )
    assert transcription_prompt("French", "Greek").endswith(
        "output the string 'Greek: ', then the translation in Greek."
    )


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("Hallo\nEnglish: Hello", ("Hallo", "Hello")),
        ("Hallo\n\nenglish : Hello\nthere", ("Hallo", "Hello\nthere")),
        ("Hallo\nHello", ("Hallo", "Hello")),
        ("English: Hello", ("", "Hello")),
        ("Hallo", ("Hallo", "")),
        ("", ("", "")),
    ],
)
def test_answers_with_a_translation(answer, parts):
    assert split_translation(answer, "English") == parts


def test_the_bar_shows_only_on_a_terminal(listener, monkeypatch):
    listener.talk(Path("talk.wav"), 70)
    assert "━" not in run("talk.wav").stderr
    drawn = property(lambda screen: not screen.as_json)
    monkeypatch.setattr("mlx_gemma4.cli.render.Screen.draws", drawn)
    shown = run("talk.wav").stderr
    assert re.search(r"talk\.wav ━+[╸╺]? +\d\d% \S+", shown)
    assert "━" not in run("talk.wav", "--json").stderr
