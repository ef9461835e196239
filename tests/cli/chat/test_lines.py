"""How `gemma4 chat` reads what is typed: lines, keys, completion, history."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from mlx_gemma4.cli.chat.commands import complete
from mlx_gemma4.cli.chat.lines import (
    TerminalReader,
    WordCompleter,
    continuation,
    message_text,
    open_history,
    unfinished,
)


def test_messages_over_several_lines():
    assert unfinished("one\\") and not unfinished("one")
    assert message_text("one\\\ntwo") == "one\ntwo"
    assert unfinished('"""one') and not unfinished('"""one\ntwo"""')
    assert message_text('"""\none\ntwo\n"""') == "one\ntwo"


@pytest.fixture
def typed() -> Iterator[Callable[[str], str]]:
    """Types into a terminal reader and gives the message it read."""
    with create_pipe_input() as pipe:
        reader = TerminalReader(
            complete, InMemoryHistory(), input=pipe, output=DummyOutput()
        )

        def type_in(keys: str) -> str:
            pipe.send_text(keys)
            return reader.read("> ")

        yield type_in


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("hello\r", "hello"),
        ("one\x1b\rtwo\r", "one\ntwo"),  # Alt-Enter
        ("one\\\rtwo\r", "one\ntwo"),
        ('"""one\rtwo"""\r', "one\ntwo"),
        ("\x1b[200~pasted\nlines\x1b[201~\r", "pasted\nlines"),
    ],
)
def test_keys_on_a_terminal(typed, keys, message):
    assert typed(keys) == message


def test_ctrl_d_and_ctrl_c_on_a_terminal(typed):
    with pytest.raises(EOFError):
        typed("\x04")
    with pytest.raises(KeyboardInterrupt):
        typed("half a li\x03")


def test_arrow_up_brings_back_the_last_message(typed):
    assert typed("first\r") == "first"
    assert typed("\x1b[A\r") == "first"


def test_completion_offers_what_may_follow(tmp_path: Path):
    def offered(before: str) -> list[str]:
        event = CompleteEvent(completion_requested=True)
        found = WordCompleter(complete).get_completions(Document(before), event)
        return [completion.text for completion in found]

    (tmp_path / "talk.json").touch()
    assert offered("/th") == ["/think"]
    assert offered("/think o") == ["on", "off"]
    assert offered("/think on o") == []
    assert offered("/set te") == ["temperature"]
    assert offered(f"/load {tmp_path}/ta") == [f"{tmp_path}/talk.json"]
    assert offered("/copy ") == ["code"]
    assert offered("/ed") == ["/edit"]
    assert offered("plain text") == []
    assert "demo" in offered("/model d")


def test_paths_are_completed_wherever_they_may_stand(tmp_path: Path, monkeypatch):
    def offered(before: str) -> list[str]:
        event = CompleteEvent(completion_requested=True)
        found = WordCompleter(complete).get_completions(Document(before), event)
        return [f"{each.text} as {each.display_text}" for each in found]

    (tmp_path / "some notes.txt").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert offered("read ./s") == ["./some\\ notes.txt as some\\ notes.txt"]
    assert offered("what is in\n./pic") == ["./pictures/ as pictures/"]
    assert offered("compare ./pictures/a.png with ./pictures/") == [
        "./pictures/a.png as a.png"
    ]
    assert offered(f"{tmp_path}/pict") == [f"{tmp_path}/pictures/ as pictures/"]
    assert offered("/edit see './s") == ["'./some notes.txt' as some notes.txt'"]
    assert offered("pic") == []


def test_commands_are_listed_with_what_they_do():
    event = CompleteEvent(completion_requested=True)
    found = WordCompleter(complete).get_completions(Document("/und"), event)
    assert [each.display_meta_text for each in found] == ["take back the last message"]


def test_a_line_that_the_window_broke_is_told_from_a_new_one():
    assert continuation(2, 1, 0) == [("class:prompt", "· ")]
    assert continuation(12, 1, 0) == [("class:prompt", "          · ")]
    assert continuation(12, 0, 1) == [("class:prompt", " " * 12)]


def test_ctrl_g_opens_the_editor(typed, monkeypatch):
    monkeypatch.setattr(
        Buffer, "open_in_editor", lambda buffer: buffer.insert_text(" and more")
    )
    assert typed("one\x07\r") == "one and more"


def test_history_is_private(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    open_history().append_string("hello")
    file = tmp_path / "gemma4" / "history"
    assert "hello" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_history_that_cannot_be_written_is_kept_in_memory(
    tmp_path: Path, monkeypatch, capsys
):
    (tmp_path / "gemma4").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert isinstance(open_history(), InMemoryHistory)
    assert "No history is kept" in capsys.readouterr().err
