"""`gemma4 transcribe`: names, files that are none, and what becomes of the others."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from describing import picture
from listening import run

from mlx_gemma4.cli import loading


def test_one_bad_recording_does_not_stop_the_others(listener):
    talk = listener.talk(Path("good.wav"), 5)
    Path("bad.wav").write_bytes(b"not a recording")
    result = run("bad.wav", "good.wav", "-o", "out")
    assert result.exit_code == 5
    assert "bad.wav cannot be decoded" in result.stderr
    assert Path("out/good.txt").read_text() == f"{talk.text}\n"
    assert not Path("out/bad.txt").exists()


def test_every_bad_recording_is_told(listener):
    talk = listener.talk(Path("good.wav"), 5)
    Path("empty.wav").touch()
    picture("a.png")
    Path("a.png").rename("picture")
    result = run("empty.wav", "good.wav", "picture")
    assert (result.exit_code, result.stdout) == (5, f"good.wav:\n{talk.text}\n")
    assert result.stderr.splitlines() == [
        "gemma4: empty.wav is empty: get the file again.",
        "gemma4: picture is a PNG picture, not a recording: gemma4 describe says what "
        "is in it.",
        "2 of 3 gave no transcript: empty.wav, picture",
    ]


def test_patterns_that_the_shell_left(listener):
    first = listener.talk(Path("a.wav"), 2, seed=1).text
    second = listener.talk(Path("b.wav"), 2, seed=2).text
    assert run("*.wav").stdout == f"a.wav:\n{first}\n\nb.wav:\n{second}\n"


def test_a_recording_cut_short_is_told(listener):
    talk = listener.talk(Path("talk.wav"), 8)
    data = Path("talk.wav").read_bytes()
    Path("talk.wav").write_bytes(data[: len(data) // 2])
    result = run("talk.wav")
    assert result.exit_code == 5 and talk.text.startswith(result.stdout.split()[0])
    assert result.stderr == (
        "Warning: talk.wav is damaged: only 4.0 of 8.0 s could be read.\n"
    )


def test_errors_as_json(listener):
    Path("bad.wav").write_bytes(b"not a recording")
    result = run("bad.wav", "--json")
    assert result.exit_code == 5 and result.stdout == ""
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["file"]) == (5, "bad.wav")


def test_standard_input(listener):
    talk = listener.talk(Path("talk.wav"), 5)
    result = run("-", stdin=Path("talk.wav").read_bytes())
    assert result.stdout == f"{talk.text}\n"
    picture("a.png")
    result = run("-", stdin=Path("a.png").read_bytes())
    assert (result.exit_code, result.stdout) == (5, "")
    assert "Standard input is a PNG picture, not a recording" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "Name a recording"),
        (("a.wav", "--mic"), 2, "either recordings or --mic"),
        (("missing.wav",), 5, "no file missing.wav"),
        (("a.wav", "-l", "q1"), 2, "--language 'q1'"),
        (("a.wav", "--translate", "d\ne"), 2, "--translate"),
        (("a.wav", "a.wav", "-f", "srt"), 2, "need a folder"),
        (("a.wav", "-f", "srt", "--json"), 2, "add -o DIR"),
        (("a.wav", "sub/a.wav", "-o", "out"), 2, "both be written to out/a.txt"),
        (("a.wav", "-o", "a.wav"), 5, "Cannot write to a.wav"),
        (("a.wav", "-o", "locked"), 5, "Cannot write to locked: Permission denied"),
        (("https://host/a.wav",), 5, "is a URL: download the recording first"),
        (("*.mp3",), 5, "no file *.mp3"),
        (("-", "-"), 2, "only once"),
        (("a.wav", "-f", "doc"), 2, "doc"),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(
    listener, monkeypatch, arguments, code, told
):
    monkeypatch.setattr(loading, "load_to_chat", None)
    access = os.access  # for the super-user every folder is open
    monkeypatch.setattr(os, "access", lambda p, m: p.name != "locked" and access(p, m))
    Path("sub").mkdir()
    for name in ("a.wav", "sub/a.wav"):
        listener.talk(Path(name), 2)
    result = run(*arguments)
    assert (result.exit_code, told in result.stderr) == (code, True)


@pytest.mark.parametrize("name", ["~nobody-here/a.wav", "x" * 300])
def test_names_that_cannot_be_files(listener, name):
    result = run(name)
    assert result.exit_code == 5 and "There is no file" in result.stderr


@pytest.mark.parametrize(
    "name", ["gone.wav", "*.mp3", "https://host/b.wav", "~no/b.wav"]
)
def test_a_missing_file_stops_none_of_the_others(listener, name):
    talk = listener.talk(Path("a.wav"), 5)
    result = run(name, "a.wav", "-o", "texts")
    assert result.exit_code == 5
    assert Path("texts", "a.txt").read_text() == f"{talk.text}\n"
    assert f"1 of 2 gave no transcript: {name}" in result.stderr


FAULTS = [MemoryError(), RuntimeError("unforeseen"), OSError("odd"), AttributeError()]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_nothing_that_happens_with_one_stops_the_others(listener, monkeypatch, fault):
    """What was heard of it before is kept."""
    first = listener.talk(Path("a.wav"), 100, seed=1)
    second = listener.talk(Path("b.wav"), 5, seed=2)
    generate = listener.generate

    def failing(*arguments: Any, **options: Any) -> Any:
        if len(listener.asked) == 2:
            listener.asked.append({})
            raise fault
        return generate(*arguments, **options)

    monkeypatch.setattr(listener, "generate", failing)
    result = run("a.wav", "b.wav", "-o", "texts")
    assert result.exit_code == 5
    assert Path("texts", "b.txt").read_text() == f"{second.text}\n"
    part = Path("texts", "a.partial.txt").read_text().split()
    assert part and part == first.text.split()[: len(part)]
    assert "1 of 2 gave no transcript: a.wav" in result.stderr


def test_a_full_disk_stops_the_rest(listener, monkeypatch):
    for number, name in enumerate(("a.wav", "b.wav")):
        listener.talk(Path(name), 5, seed=number)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("a.wav", "b.wav", "-o", "texts")
    assert result.exit_code == 4 and len(listener.asked) == 1
    assert "The disk is full: " in result.stderr and "a.txt was not" in result.stderr
    assert not list(Path("texts").iterdir())


def test_a_name_that_looks_like_a_file_s(listener):
    talk = listener.talk(Path("my\u202ftalk.wav"), 2)
    assert run("my talk.wav").stdout == f"{talk.text}\n"


def test_a_track_that_is_not_there(listener):
    pytest.importorskip("av", reason="PyAV is not installed (extra `media`)")
    talk = listener.talk(Path("a.wav"), 2)
    result = run("a.wav", "--track", "2")
    assert result.exit_code == 5
    assert "a.wav has 1 sound track: there is no track 2." in result.stderr
    assert run("a.wav", "--track", "1").stdout == f"{talk.text}\n"


def test_every_missing_recording_is_named(listener):
    result = run("a.wav", "b.wav")
    assert result.exit_code == 5
    assert "There is no file a.wav. There is no file b.wav." in result.stderr
