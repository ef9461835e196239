"""A chat is kept as it is held: every message once, branches, half an answer."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scripted import Lines, branch, chunks

from mlx_gemma4 import Chunk
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.logs import keeping, opening
from mlx_gemma4.cli.logs.keeping import first_note
from mlx_gemma4.cli.logs.store import Store, opened


def tree(number: int = 1) -> dict[str, str | None]:
    """What is said on all branches of a conversation, and what it follows."""
    with opened() as store:
        turns = {turn.id: turn for turn in store.turns(number, all=True)}
        above = [turns.get(turn.parent or 0) for turn in turns.values()]
        said = [turn.message["content"] for turn in turns.values()]
    return dict(zip(said, [up and up.message["content"] for up in above], strict=True))


def test_every_turn_is_kept_once(kept, capsys, store):
    converse(kept, Lines("one", "two", "/bye"))
    assert branch() == ["one", "you said one", "two", "you said two"]
    assert len(tree()) == 4
    assert capsys.readouterr().err == (
        f"Conversations are kept in {store}: `gemma4 logs` shows them, --no-log or "
        "GEMMA4_LOG=0 keeps none.\n"
    )
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.parent.stat().st_mode) == 0o700


def test_the_home_folder_is_not_spelled_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert " in ~/x/logs.db: " in first_note(Path("/home/ann/x/logs.db"))
    assert " in /home/anna/logs.db: " in first_note(Path("/home/anna/logs.db"))


def test_nothing_is_made_where_nothing_is_said(kept, store):
    converse(kept, Lines("/help", "/bye"))
    assert not store.parent.exists()


def test_edits_and_further_answers_are_branches(kept, script):
    answers = iter(("a", "b", "c", "d"))
    script.answer = lambda messages: chunks(next(answers))
    converse(kept, Lines("one", "two", "/regen", "/edit three"))
    assert branch() == ["one", "a", "three", "d"]
    assert tree() == {
        "one": None,
        "a": "one",
        "two": "a",
        "b": "two",
        "c": "two",
        "three": "a",
        "d": "three",
    }


def test_the_first_question_edited_stays_the_same_conversation(kept):
    converse(kept, Lines("one", "/edit two"))
    assert branch("1") == ["two", "you said two"] and len(tree()) == 4


def test_what_is_taken_back_is_left_behind(kept):
    converse(kept, Lines("one", "two", "/undo"))
    assert branch() == ["one", "you said one"] and len(tree()) == 4


def test_a_cleared_chat_and_a_loaded_one_are_others(kept, tmp_path):
    file = tmp_path / "talk.json"
    converse(kept, Lines("one", f"/save {file}", "/clear", "two"))
    converse(kept, Lines(f"/load {file}", "three"))
    assert branch("1") == ["one", "you said one"]
    assert branch("2") == ["two", "you said two"]
    assert branch("3") == ["one", "you said one", "three", "you said three"]


def test_an_answer_is_on_the_disk_before_it_is_shown(kept, script, monkeypatch):
    """Whole sentences of it, whatever the clock says; the question before all."""
    monkeypatch.setattr(keeping, "LONGEST", float("inf"))
    pieces = ("One. ", "Two, ", "three. ", "Four ", "and.")
    seen: list[list[str]] = []
    show = type(kept)._show_chunk

    def answer(messages: list[dict]) -> Iterator[Chunk]:
        seen.append(branch())
        yield from (Chunk(piece, token=1) for piece in pieces)
        yield chunks("", finish_reason="stop")[-1]

    def shown(session, chunk: Chunk) -> None:
        seen.append(branch())
        show(session, chunk)

    script.answer = answer
    monkeypatch.setattr(type(kept), "_show_chunk", shown)
    converse(kept, Lines("go"))
    assert seen == [
        ["go"],
        ["go", "One. "],
        ["go", "One. "],
        ["go", "One. Two, three. "],
        ["go", "One. Two, three. "],
        ["go", "One. Two, three. Four and."],
        ["go", "One. Two, three. Four and."],
    ]


def test_without_a_pause_it_is_written_now_and_then(kept, script, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(keeping.time, "monotonic", lambda: now[0])
    seen: list[str] = []

    def answer(messages: list[dict]) -> Iterator[Chunk]:
        for moment in (1.0, 1.1, 1.2, 1.3, 1.4):
            now[0] = moment
            yield Chunk("la ", token=1)
            seen.append(branch()[-1])
        yield from chunks("")

    script.answer = answer
    converse(kept, Lines("sing"))
    assert seen == ["la ", "la ", "la ", "la la la la ", "la la la la "]


def test_half_an_answer_is_kept_and_says_so(kept, script):
    def answer(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("half", token=1)
        raise RuntimeError("unforeseen")

    script.answer = answer
    converse(kept, Lines("one"))
    with opened() as store:
        finish = [turn.finish for turn in store.turns(1)]
    assert branch() == ["one", "half"] and finish == ["whole", "interrupted"]


def test_a_question_without_answer_is_taken_back(session, store, script):
    session.keep("work")

    def answer(messages: list[dict]) -> Iterator[Chunk]:
        if messages[-1]["content"] == "fail":
            raise RuntimeError("unforeseen")
        yield from chunks("well")

    script.answer = answer
    converse(session, Lines("fail", "one", "fail", "two"))
    assert branch("work") == ["one", "well", "two", "well"]
    with opened() as store:
        assert store.count() == 1 and len(store.turns(store.found(None), True)) == 4


def test_calls_and_their_results(kept, script):
    from mlx_gemma4.chat.calls import ToolCall

    call = Chunk("", token=1, tool_calls=(ToolCall("look", {"at": 1}),))
    script.answer = lambda messages: [call, *chunks(f"{len(messages)} read")]
    converse(kept, Lines("one", "seen", "seen again"))
    with opened() as store:
        turns = [turn.message for turn in store.turns(1)]
    assert [m["role"] for m in turns] == [m["role"] for m in kept.chat.messages]
    assert turns == kept.chat.messages
    assert "tool" in {m["role"] for m in turns}


def test_files_are_kept_by_path_and_hash(seeing, here, store):
    seeing.keep()
    converse(seeing, Lines("./a.png what"))
    with opened() as found:
        (asked, _) = found.turns(1)
    picture, text = asked.message["content"]
    whole = (here / "a.png").read_bytes()
    assert picture["path"] == f"{here}/a.png" and picture["bytes"] == len(whole)
    assert len(picture["sha256"]) == 64 and text["text"] == "what"
    assert whole not in store.read_bytes()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert keeping.print_of(str(tmp_path / "pipe")) == {}
    assert keeping.print_of(str(tmp_path / "missing")) == {}


def test_two_at_once(kept, session, script):
    """Each has its own; the lock is never held while a model answers."""
    import copy

    other = copy.copy(session)
    other.chat = copy.copy(session.chat)
    other.keep()

    def answer(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("first. ", token=1)
        if messages[-1]["content"] == "outer":
            converse(other, Lines("inner"))
        yield from chunks("end")

    script.answer = answer
    converse(kept, Lines("outer"))
    assert branch("1") == ["outer", "first. end"]
    assert branch("2") == ["inner", "first. end"]


def test_two_that_begin_the_same_name_are_branches_of_one(session, store):
    for words in ("one", "two"):
        session.chat.clear()
        session.keep("work")
        converse(session, Lines(words))
    assert branch("work") == ["two", "you said two"] and len(tree()) == 4


def test_a_conversation_removed_meanwhile(kept, capsys):
    converse(kept, Lines("one"))
    with opened() as store:
        store.remove([1])
    converse(kept, Lines("two", "three"))
    told = capsys.readouterr().err.splitlines()
    assert told[1:] == [
        "The conversation was removed meanwhile. Nothing more of this conversation is "
        "kept."
    ]
    assert len(kept.chat.messages) == 6


def sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as store:
        store.execute(statement)


FAULTS = {
    "no database": lambda path: path.write_bytes(b"not a database" * 100),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "newer": lambda path: sql(path, "PRAGMA user_version = 2"),
    "no table": lambda path: sql(path, "DROP TABLE message"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_cannot_be_used_is_one_note(kept, store, capsys, fault):
    opening.make(store)
    FAULTS[fault](store)
    before = store.read_bytes() if store.is_file() else b""
    converse(kept, Lines("one", "two"))
    (told,) = capsys.readouterr().err.splitlines()
    assert str(store) in told and "Nothing more of this conversation is kept." in told
    assert ("newer" in told) is (fault == "newer")
    assert [m["content"] for m in kept.chat.messages][::2] == ["one", "two"]
    assert not store.is_file() or store.read_bytes() == before


def test_a_folder_that_cannot_be_made(kept, store, capsys):
    store.parent.parent.write_text("no folder")
    converse(kept, Lines("one", "two"))
    (told,) = capsys.readouterr().err.splitlines()
    assert "Cannot write" in told and len(kept.chat.messages) == 4


def test_a_full_disk_in_the_middle_of_an_answer(kept, script, monkeypatch, capsys):
    converse(kept, Lines("one"))
    limit = "PRAGMA max_page_count = 1"  # what is there stays
    kept.keeper._store.db.execute(limit)
    script.answer = lambda messages: chunks("more. " * 2000)
    converse(kept, Lines("two", "three"))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "The disk is full" in told[1]
    assert len(kept.chat.messages) == 6
    assert branch()[:2] == ["one", "you said one"]


def test_a_store_to_be_read_only(kept, script, capsys):
    converse(kept, Lines("one"))
    kept.keeper._store.db.execute("PRAGMA query_only = 1")
    converse(kept, Lines("two", "three"))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "cannot be opened or written" in told[1]
    assert branch() == ["one", "you said one"]


def test_what_the_chat_is_held_with_is_kept(kept, store):
    kept.chat.declared = [{"type": "function", "function": {"name": "look"}}]
    converse(kept, Lines("one", "/set temperature 0.5", "/system be brief", "two"))
    with opened() as found:
        setup = found.setup(1)
    assert setup.settings.temperature == 0.5 and setup.system == "be brief"
    assert setup.tools == kept.chat.declared and setup.model == "scripted"


def test_halves_of_characters_are_no_fault(kept, script, capsys):
    script.answer = lambda messages: chunks("well")
    converse(kept, Lines("caf\udce9"))
    assert branch()[0] == "caf?"
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_crash_says_how_to_go_on(kept, capsys):
    with pytest.raises(RuntimeError, match="terminal"):
        converse(kept, Lines("one", RuntimeError("terminal")))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "The conversation is kept: gemma4 chat --session 1"
    )


def test_a_store_that_another_made_meanwhile(store):
    opening.make(store)
    first = store.read_bytes()
    opening.make(store)
    assert store.read_bytes() == first and list(store.parent.iterdir()) == [store]
    Store(store).close()


def test_an_answer_that_is_gone_on_with(kept, script, monkeypatch):
    """The whole of it follows the same question; the half stays beside it."""
    monkeypatch.setattr(keeping, "LONGEST", float("inf"))

    def answer(messages: list[dict]) -> Iterator[Chunk]:
        cut = len(script.asked) == 1
        yield Chunk("Half", token=1, finish_reason="length" if cut else None)
        if not cut:
            seen.append(branch())
            yield Chunk(", whole.", token=1)
            seen.append(branch())
            yield Chunk("", token=1, finish_reason="stop")

    seen: list[list[str]] = []
    script.answer = answer
    converse(kept, Lines("one", "/continue"))
    assert seen == [["one", "Half"], ["one", "Half, whole."]]
    assert tree() == {"one": None, "Half": "one", "Half, whole.": "one"}
    assert branch() == ["one", "Half, whole."]


def test_another_model_goes_on(kept, tmp_path):
    kept.adapter = tmp_path
    converse(kept, Lines("one"))
    kept.model_name, kept.adapter = "other", None
    converse(kept, Lines("two"))
    with opened() as store:
        held = store.setup(1)
    assert (held.model, held.adapter) == ("other", None) and len(branch()) == 4
