"""`gemma4 describe --each`: one answer a file, whatever becomes of the others."""

import json
from pathlib import Path
from typing import Any

import pytest
from describing import CAT, content, picture, run
from scripted import chunks

from mlx_gemma4.cli import loading
from mlx_gemma4.errors import DiskFullError, MediaError


def test_each(seer):
    picture("a.png")
    picture("b.png")
    result = run("a.png", "b.png", "What?", "--each", "--stats")
    assert result.stdout == "a.png:\nWhat?\n\nb.png:\nWhat?\n"
    assert result.stderr.count("tok/s") == 4
    assert len(content(seer)) == 2
    assert Path(content(seer)[0]["path"]).name == "b.png"  # errors name it
    lines = run("a.png", "b.png", "--each", "--json").stdout.splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.png", "b.png"]
    assert run("a.png", "--each").stdout == "Describe this image.\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_one_bad_file_stops_none_of_the_others(seer, as_json):
    Path("bad.png").write_bytes(b"no picture")
    Path("cut.png").write_bytes(Path(picture("a.png")).read_bytes()[:500])
    options = ("--each", *(["--json"] if as_json else []))
    result = run("bad.png", "a.png", "cut.png", "a.png", *options)
    assert result.exit_code == 5
    assert result.stdout.count("Describe this image.") == 2
    assert "2 of 4 gave no answer: bad.png, cut.png" in result.stderr
    assert "cut.png is damaged" in result.stderr
    if as_json:
        lines = [json.loads(line) for line in result.stderr.splitlines()]
        errors = [line["error"] for line in lines if "error" in line]
        told = [(error["code"], error["file"]) for error in errors]
        assert told == [(5, "bad.png"), (5, "cut.png")]
    else:
        assert result.stdout.startswith("a.png:\n")


def test_an_answer_that_never_began_has_no_header(seer):
    """A video is read only when it is asked about."""
    for name in ("a.mp4", "b.mp4"):
        Path(name).write_bytes(b"left to the processor")
    echo = seer.answer

    def damaged(messages: list[dict]) -> Any:
        if messages[-1]["content"][0]["type"] == "video":
            raise MediaError("it is damaged")
        return echo(messages)

    seer.answer = damaged
    result = run("a.mp4", picture("c.png"), "b.mp4", "--each")
    assert result.stdout == "c.png:\nDescribe this image.\n"
    assert result.stderr.splitlines() == [
        "gemma4: a.mp4: it is damaged",
        "gemma4: b.mp4: it is damaged",
        "2 of 3 gave no answer: a.mp4, b.mp4",
    ]


def test_a_file_named_twice_counts_twice(seer):
    Path("bad.png").write_bytes(b"no picture")
    result = run("bad.png", picture("a.png"), "bad.png", "a.png", "bad.png", "--each")
    assert result.stderr.count("bad.png is in no picture format") == 3
    assert "3 of 5 gave no answer: bad.png, bad.png, bad.png\n" in result.stderr
    one = "a.png:\nDescribe this image.\n"
    assert result.stdout == f"{one}\n{one}"


FAULTS = [MemoryError(), RuntimeError("unforeseen"), OSError("odd"), EOFError()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_nothing_that_happens_with_one_stops_the_others(seer, fault):
    def fail(messages: list[dict]) -> Any:
        if len(seer.asked) != 2:
            raise fault
        return chunks("well")

    seer.answer = fail
    result = run(*map(picture, ("a.png", "b.png", "c.png")), "--each")
    assert (result.exit_code, result.stdout) == (5, "b.png:\nwell\n")
    assert result.stderr.endswith("2 of 3 gave no answer: a.png, c.png\n")


@pytest.mark.parametrize(("fault", "code"), [(MemoryError(), 4), (OSError("odd"), 1)])
def test_all_failed_alike(seer, fault, code):
    def fail(messages: list[dict]) -> Any:
        raise fault

    seer.answer = fail
    result = run(picture("a.png"), picture("b.png"), "--each")
    assert (result.exit_code, result.stdout) == (code, "")
    assert "2 of 2 gave no answer" in result.stderr


def test_a_full_disk_stops_the_rest(seer):
    def fail(messages: list[dict]) -> Any:
        raise DiskFullError("The disk is full.")

    seer.answer = fail
    result = run(picture("a.png"), picture("b.png"), "--each")
    assert result.exit_code == 4 and len(seer.asked) == 1


@pytest.mark.parametrize(
    "name", ["gone.png", "no/*.png", "sub", "~nobody-here/a.png", "x" * 5000 + ".png"]
)
def test_a_missing_file_stops_none_of_the_others(seer, name):
    Path("sub").mkdir()
    result = run(name, picture("a.png"), "--each")
    assert (result.exit_code, result.stdout) == (
        5,
        "a.png:\nDescribe this image.\n",
    )
    assert "1 of 2 gave no answer" in result.stderr
    assert run(name, "a.png").exit_code == 5  # one answer for all: nothing is left out
    assert len(seer.asked) == 1


def test_where_all_are_missing_no_model_is_loaded(seer, monkeypatch):
    monkeypatch.setattr(loading, "load_to_chat", None)
    result = run("gone.png", "too.png", "--each")
    assert (result.exit_code, result.stderr) == (
        5,
        "gemma4: There is no file gone.png.\n",
    )


def test_boxes_in_each_picture(seer):
    Path("sub").mkdir()
    seer.answer = lambda messages: chunks(CAT)
    result = run(
        picture("a.png"), picture("b.png"), "--each", "--boxes", "sub/{name}-boxes.png"
    )
    assert result.exit_code == 0
    assert [json.loads(line)["drawn"] for line in result.stdout.splitlines()] == [
        "sub/a-boxes.png",
        "sub/b-boxes.png",
    ]
    assert sorted(p.name for p in Path("sub").iterdir()) == [
        "a-boxes.png",
        "b-boxes.png",
    ]
