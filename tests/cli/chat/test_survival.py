"""A conversation survives whatever happens in it, and what happens to its program."""

import io
import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import Lines, chunks, roles

from mlx_gemma4 import Chunk
from mlx_gemma4.cli.chat import commands, lines
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.chat.lines import KeptHistory, PlainReader
from mlx_gemma4.errors import RoomError

FAULTS = (
    RuntimeError("[metal::malloc] Attempting to allocate 9 bytes"),
    RuntimeError("unforeseen"),
    MemoryError(),
    RoomError("Memory ran out in the middle of the answer."),
    OSError(36, "File name too long"),
    EOFError("a decoder's"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    RecursionError("too deep"),
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "gemma4" / "rescued"


def failing(fault: BaseException, after: str = "") -> Callable[..., Iterator[Chunk]]:
    def answer(messages: list[dict]) -> Iterator[Chunk]:
        if messages[-1]["content"] == "fail":
            if after:
                yield Chunk(after, token=1)
            raise fault
        yield from chunks("well")

    return answer


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_turn_that_fails_is_a_note(session, script, capsys, fault):
    script.answer = failing(fault)
    converse(session, Lines("one", "fail", "two"))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and (str(fault).splitlines() or ["memory"])[-1] in told[0]
    assert [m["content"] for m in session.chat.messages] == ["one", "well"] + [
        "two",
        "well",
    ]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_command_that_fails_is_a_note(session, capsys, monkeypatch, fault):
    def fail(session: object, words: str) -> None:
        raise fault

    broken = commands.Command(fail, "/save FILE", "")
    monkeypatch.setitem(commands.COMMANDS, "/save", broken)
    converse(session, Lines("one", "/save x", "two"))
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert roles(session) == "user assistant user assistant"


def test_what_was_said_before_a_fault_is_kept(session, script):
    script.answer = failing(RuntimeError("unforeseen"), after="half an ")
    converse(session, Lines("fail"))
    assert session.chat.messages[-1]["content"] == "half an "


def test_an_edit_that_fails_takes_nothing_back(session, script):
    script.answer = failing(RuntimeError("unforeseen"))
    converse(session, Lines("one", "two", "/edit fail"))
    assert [m["content"] for m in session.chat.messages][::2] == ["one", "two"]


@pytest.mark.parametrize("command", ["/save", "/load", "/image", "/audio", "/edit"])
@pytest.mark.parametrize(
    "name", ["~chats/x", "~nobody/x", "n" * 5000, "a\0b", "/", ".", "~"]
)
def test_names_that_are_none(seeing, here, capsys, command, name):
    converse(seeing, Lines("one", f"{command} {name}", "two"))
    told = capsys.readouterr().err
    assert command == "/edit" or len(told.splitlines()) == 1
    assert "GEMMA4_DEBUG" not in told
    assert roles(seeing).startswith("user assistant user assistant")


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False)])
def test_the_fault_itself_is_shown_to_those_who_ask(
    session, script, capsys, monkeypatch, value: str, shown: bool
):
    monkeypatch.setenv("GEMMA4_DEBUG", value)
    script.answer = failing(RuntimeError("unforeseen"))
    converse(session, Lines("fail", "two"))
    assert ("Traceback" in capsys.readouterr().err) is shown
    assert roles(session) == "user assistant"


def test_a_crash_keeps_the_conversation(session, script, capsys, state):
    with pytest.raises(RuntimeError, match="terminal"):
        converse(session, Lines("one", RuntimeError("terminal")))
    (kept,) = state.iterdir()
    assert f"The conversation is kept: /load {kept}" in capsys.readouterr().err
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    session.chat.clear()
    converse(session, Lines(f"/load {kept}"))
    assert [m["content"] for m in session.chat.messages] == ["one", "you said one"]


def test_nothing_is_kept_of_nothing_nor_where_the_user_leaves(session, state):
    with pytest.raises(RuntimeError):
        converse(session, Lines(RuntimeError("terminal")))
    converse(session, Lines("one", "/bye"))
    assert not state.exists()


def test_where_it_cannot_be_kept_the_crash_is_told(session, capsys, state):
    state.parent.parent.write_text("no folder")
    with pytest.raises(RuntimeError, match="terminal"):
        converse(session, Lines("one", RuntimeError("terminal")))
    assert "could not be kept" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_keeps_the_conversation(
    session, script, state, number, request
):
    given = signal.signal(number, signal.SIG_DFL)  # which nohup, for one, changes
    request.addfinalizer(lambda: signal.signal(number, given))

    def answer(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("half an ", token=1)
        os.kill(os.getpid(), number)
        yield Chunk("answer", token=1)

    script.answer = answer
    with pytest.raises(SystemExit) as ended:
        converse(session, Lines("one"))
    assert ended.value.code == 128 + number
    (kept,) = state.iterdir()
    assert json.loads(kept.read_text())["messages"][-1]["content"].startswith("half")
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_full_disk_leaves_what_was_saved(session, monkeypatch, capsys, tmp_path):
    file = tmp_path / "talk.json"
    converse(session, Lines("one", f"/save {file}"))
    saved = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    converse(session, Lines("two", f"/save {file}", "three"))
    told = capsys.readouterr().err
    assert f"The disk is full: {file} was not written." in told
    assert file.read_bytes() == saved
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]
    assert roles(session) == "user assistant " * 2 + "user assistant"


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    stream: Any = io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape")
    monkeypatch.setattr(sys, "stdin", stream)


def test_a_line_that_is_no_text_is_not_sent(session, script, monkeypatch, capsys):
    typed(monkeypatch, b"one\ncaf\xe9\ntwo\n")
    converse(session, PlainReader())
    assert "not UTF-8 text" in capsys.readouterr().err
    assert [m["content"] for m in session.chat.messages][::2] == ["one", "two"]


@pytest.mark.parametrize("start", [b"", b'"""'])
def test_a_line_without_measure_is_not_sent(
    session, script, monkeypatch, capsys, start
):
    monkeypatch.setattr(lines, "LONGEST", 100)
    typed(monkeypatch, b"one\n" + start + b"x" * 101 + b"\n" + b"y" * 100 + b"\n")
    converse(session, PlainReader())
    assert "more than 100 characters" in capsys.readouterr().err
    sent = [m["content"] for m in session.chat.messages][::2]
    assert sent == ["one", "y" * 100]


def test_a_line_that_never_ends(session, script, monkeypatch, state):
    monkeypatch.setattr(lines, "LONGEST", 100)
    typed(monkeypatch, b"one\n" + b"x" * 20_000)
    with pytest.raises(ValueError, match="does not end"):
        converse(session, PlainReader())
    assert len(list(state.iterdir())) == 1


def test_a_history_that_cannot_grow_stops_nobody(tmp_path: Path):
    history = KeptHistory(tmp_path)  # a folder
    history.store_string("hello")


def test_a_full_disk_under_the_answers_ends_the_conversation(
    session, script, monkeypatch, state
):
    def full(text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.stdout, "write", full)
    with pytest.raises(OSError, match="No space"):
        converse(session, Lines("one", "two"))
    assert len(script.asked) == 1
