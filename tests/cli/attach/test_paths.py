"""Paths in what is typed: dropped files, and the arguments of commands."""

from pathlib import Path

import pytest

from mlx_gemma4.cli.attach.paths import (
    Taken,
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
    for name in (*NAMES, "notes.txt", "hello"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.wav").write_bytes(b"x")
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
    assert take_paths(line) == Taken([here / name for name in names], "", [])


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
        ("sum up ./notes.txt, please", ["notes.txt"], "sum up notes.txt, please"),
        ("./notes.txt is old", ["notes.txt"], "notes.txt is old"),
        (
            "is ./a.png in ./notes.txt or ./x/../x/b.wav?",
            ["a.png", "notes.txt", "x/../x/b.wav"],
            "is in notes.txt or?",
        ),
    ],
)
def test_files_in_a_message(here: Path, line: str, names: list[str], rest: str) -> None:
    found = [here / name for name in names]
    assert take_paths(line.replace("{}", str(here))) == Taken(found, rest, [])


@pytest.mark.parametrize(
    "line",
    [
        "what is a.png",  # a word that happens to be a file here
        "in `./a.png` it says",  # shown as code
        "hello",  # a file, too, but a word before that
        "x./a.png and http://host{}/a.png",
        "file://other{}/a.png please",
        "file://[{}/a.png please",
        "/",
        "a" * 5000,
        "~nobody-by-this-name/a.png is it",
        "it costs ~5 or /2 or and/or",
        "GET /api/v1/users fails",
        "/api/v1/users",
        "run\n./hello\nand\n. ./notes.txt\nthen ./gone/x.sh",  # a script, pasted
        "what is in {} and / and ~/",  # folders
    ],
)
def test_what_stays_text(here: Path, line: str) -> None:
    line = line.replace("{}", str(here))
    assert take_paths(line) == Taken([], line, [])


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("see ./nowhere.png", ["./nowhere.png"]),
        ("./gone.png, or '~/gone it.txt'?", ["./gone.png", "'~/gone it.txt'"]),
        ("what is {}/nope", ["{}/nope"]),
        ("a\n./nowhere.png\nb", ["./nowhere.png"]),
        ("nul \0 ./a\0.png", ["./a\0.png"]),
        ("'~/a.png", ["'~/a.png"]),  # the quotation is left open
    ],
)
def test_what_was_meant_to_be_a_path(here: Path, line: str, missing: list[str]) -> None:
    line = line.replace("{}", str(here))
    missing = [f"{word} (no such file)" for word in missing]
    missing = [word.replace("{}", str(here)) for word in missing]
    assert take_paths(line) == Taken([], line, missing)


def test_a_file_that_is_of_no_use_in_a_sentence(here: Path) -> None:
    (here / "program").write_bytes(b"\x7fELF\0")
    missing = ["./program (neither text nor a medium)"]
    assert take_paths("run ./program") == Taken([], "run ./program", missing)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("./notes.txt", "notes.txt"),
        ("notes.txt", "notes.txt"),
        ("{}/hello", "hello"),
        ("'./notes.txt' ", "notes.txt"),
    ],
)
def test_a_line_that_is_a_text_file(here: Path, line: str, name: str) -> None:
    line = line.replace("{}", str(here))
    assert take_paths(line) == Taken([here / name], "", [])


def test_nothing_but_files_of_both_kinds(here: Path) -> None:
    found = [here / "a.png", here / "notes.txt"]
    assert take_paths("./a.png ./notes.txt ") == Taken(found, "", [])
    assert take_paths(f"file://{here}/a.png\r\nfile://{here}/notes.txt").files == found


@pytest.mark.parametrize(
    "line",
    ["./gone.png", "'~/gone one.wav'", "~/a.png ~/gone.png", "gone.png", "./gone.md"],
)
def test_nothing_but_paths_and_one_leads_nowhere(here: Path, line: str) -> None:
    with pytest.raises(InputError, match=rf"There is no file {here}/gone"):
        take_paths(line)


def test_nothing_but_a_file_that_is_of_no_use(here: Path) -> None:
    (here / "program").write_bytes(b"\x7fELF\0")
    (here / "all.zip").write_bytes(b"PK\3\4")
    for name in ("program", "all.zip"):
        with pytest.raises(InputError, match=f"{name} is neither text nor a medium"):
            take_paths(f"./{name}")
    with pytest.raises(InputError, match="x is a folder: name the files in it"):
        take_paths("./x")


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
