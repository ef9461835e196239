"""Paths in what is typed: dropped files, and the arguments of commands."""

from pathlib import Path

import pytest

from mlx_gemma4.cli.attach.paths import (
    escaped,
    last_word,
    named_paths,
    path_of,
    take_paths,
)
from mlx_gemma4.cli.errors import InputError, UsageError

NAMES = ("a.png", "my photo.png", "it's (1).jpg", "grün\u202fam.png", "b.wav", "c.mp4")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and home, with some files."""
    for name in (*NAMES, "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("{}/a.png", ["a.png"]),
        ("  {}/a.png \n", ["a.png"]),
        ("{}/my\\ photo.png ", ["my photo.png"]),
        ("'{}/my photo.png'", ["my photo.png"]),
        ('"{}/my photo.png"', ["my photo.png"]),
        ("{}/my photo.png", ["my photo.png"]),
        ("{}/it\\'s\\ \\(1\\).jpg", ["it's (1).jpg"]),
        ("'{}/it'\\''s (1).jpg'", ["it's (1).jpg"]),
        ("{}/it's (1).jpg", ["it's (1).jpg"]),
        ("{}/grün\u202fam.png", ["grün\u202fam.png"]),
        ("file://{}/my%20photo.png", ["my photo.png"]),
        ("file://localhost{}/gr%C3%BCn%E2%80%AFam.png", ["grün\u202fam.png"]),
        ("~/a.png", ["a.png"]),
        ("./a.png", ["a.png"]),
        ("a.png", ["a.png"]),
        ("my\\ photo.png", ["my photo.png"]),
        ("{}/a.png {}/b.wav", ["a.png", "b.wav"]),
        (
            "'{}/my photo.png' {}/my\\ photo.png ~/c.mp4",
            ["my photo.png"] * 2 + ["c.mp4"],
        ),
        ("file://{}/a.png\r\nfile://{}/b.wav\r\n", ["a.png", "b.wav"]),
    ],
)
def test_a_line_of_dropped_files(here: Path, line: str, names: list[str]) -> None:
    line = line.replace("{}", str(here))
    assert take_paths(line) == ([here / name for name in names], "")


@pytest.mark.parametrize(
    ("line", "names", "rest"),
    [
        ("What is in ./a.png?", ["a.png"], "What is in?"),
        ("{}/a.png what is it", ["a.png"], "what is it"),
        ("Compare ./a.png, ./b.wav and more", ["a.png", "b.wav"], "Compare, and more"),
        ("one\n./a.png\ntwo", ["a.png"], "one\n\ntwo"),
        ("don't '{}/my photo.png' can't", ["my photo.png"], "don't can't"),
        ("is '{}/my photo.png'?", ["my photo.png"], "is?"),
        ("keep  two blanks ./a.png", ["a.png"], "keep  two blanks"),
    ],
)
def test_files_in_a_message(here: Path, line: str, names: list[str], rest: str) -> None:
    found, text = take_paths(line.replace("{}", str(here)))
    assert (found, text) == ([here / name for name in names], rest)


@pytest.mark.parametrize(
    "line",
    [
        "what is a.png",  # a word that happens to be a file here
        "in `./a.png` it says",  # shown as code
        "notes.txt",
        "./notes.txt",
        "see ./nowhere.png",
        "x./a.png and http://host{}/a.png",
        "file://other{}/a.png please",
        "file://[{}/a.png please",
        "/",
        "'~/a.png",
        "a" * 5000,
        "~nobody-by-this-name/a.png is it",
        "nul \0 ./a\0.png",
    ],
)
def test_what_stays_text(here: Path, line: str) -> None:
    line = line.replace("{}", str(here))
    assert take_paths(line) == ([], line)


@pytest.mark.parametrize(
    "line", ["./gone.png", "'~/gone one.wav'", "~/a.png ~/gone.png"]
)
def test_nothing_but_paths_and_one_leads_nowhere(here: Path, line: str) -> None:
    with pytest.raises(InputError, match=rf"There is no file {here}/gone"):
        take_paths(line)


def test_what_a_command_names(here: Path) -> None:
    both = [here / "a.png", here / "my photo.png"]
    assert named_paths("a.png my\\ photo.png") == both
    assert named_paths("'a.png'  \"my photo.png\"") == both
    assert named_paths("my photo.png") == both[1:]
    assert named_paths("it's (1).jpg") == [here / "it's (1).jpg"]
    assert named_paths("nowhere.png") == [here / "nowhere.png"]
    with pytest.raises(UsageError, match="left open in: 'a b.png"):
        named_paths("'a b.png")
    with pytest.raises(UsageError, match="lies on another machine"):
        path_of("file://server/a.png")


def test_escaped_names_are_read_back(here: Path) -> None:
    for name in (*NAMES, "a$b`c`.png", 'q"uote.png', "#1 [x]*?.png", "back\\slash.png"):
        assert named_paths(escaped(name)) == [here / name]


def test_the_word_that_is_being_typed() -> None:
    assert last_word("/image a.png my\\ ph") == "my\\ ph"
    assert last_word("/image 'my ph") == "'my ph"
    assert last_word("/image ") == ""
    assert last_word("/im") == "/im"
