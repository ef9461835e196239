"""`gemma4 logs`: conversations are listed, shown, sought, exported and removed."""

import gc
import json
import stat
from pathlib import Path

import pytest
from scripted import Lines, branch, chunks
from typer.testing import CliRunner, Result

from mlx_gemma4.cli.app import app
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.logs import removing, report
from mlx_gemma4.cli.logs import search as searching
from mlx_gemma4.cli.logs.rows import Summary
from mlx_gemma4.cli.logs.store import opened, session_names
from mlx_gemma4.cli.terminal.text import columns as columns_of

CAFES = "Où est un café straße? C++ and 法国的首都是巴黎。"


def logs(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["logs", *arguments])


def objects(*arguments: str) -> list[dict]:
    return [json.loads(line) for line in logs(*arguments, "--json").stdout.splitlines()]


@pytest.fixture
def two(kept, script, capsys) -> None:
    """Two conversations: one about cafés, and one called work."""
    script.answer = lambda messages: chunks(f"**{messages[-1]['content']}**")
    converse(kept, Lines(CAFES))
    kept.chat.clear()
    kept.keep("work")
    converse(kept, Lines("first", "second\nline", "/regen"))
    kept.keeper.close()
    capsys.readouterr()


def test_the_list(two):
    rows = objects()
    assert rows == objects("list")
    assert [(r["id"], r["name"], r["messages"]) for r in rows] == [
        (2, "work", 5),
        (1, None, 2),
    ]
    assert rows[0]["first"] == "first" and rows[1]["first"] == CAFES
    lines = logs().stdout.splitlines()
    assert lines[0].startswith("   2  20")
    assert lines[0].endswith("    5  scripted  work: first")
    assert lines[1].endswith(f"2  scripted  {CAFES}")


def test_a_long_list_says_that_it_goes_on(two):
    said = logs("-n", "1")
    assert len(said.stdout.splitlines()) == 1
    assert said.stderr == "1 older one: -n 0 lists all.\n"
    assert not logs("list", "-n", "0").stderr


def test_what_was_taken_back_is_not_shown_in_silence(kept, capsys):
    converse(kept, Lines("one", "/undo"))
    assert logs("show").stderr == "All of it was taken back: --all shows it.\n"
    assert logs("show", "--all").stdout.startswith("> one\n")


def test_lines_fit_the_terminal():
    summary = Summary(1, None, "scripted", 0.0, 0.0, 2, "words " * 50)
    for columns in (40, 80):
        line = report.list_line(summary, columns)
        assert len(line) == columns and line.endswith("…")
        assert ("scripted" in line) is (columns == 80)
    wide = report.list_line(Summary(1, None, "m", 0.0, 0.0, 2, "潮汐" * 40), 40)
    assert columns_of(wide) in (39, 40) and wide.endswith("…")


def test_what_was_found_fits_the_terminal():
    match = searching.Match(1, None, "user", 0.0, "潮汐" * 20)
    assert all(columns_of(row) <= 40 for row in report.match_lines(match, 40))
    assert list(report.match_lines(match, None))[1:] == [f"      user: {'潮汐' * 20}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE message SET rest = '{'",
        "UPDATE message SET rest = '[]'",
        "UPDATE message SET rest = '{\"content\": 5}'",
        "UPDATE conversation SET settings = '[]'",
        "UPDATE conversation SET tools = '{}'",
    ],
)
def test_a_damaged_conversation_is_named_and_can_be_removed(two, change):
    with opened() as store:
        store.db.execute(change)
    said = logs("export", "1")
    assert said.exit_code == 5 and "Conversation 1 is damaged" in said.stderr
    del said  # whose error still holds what was being read
    gc.collect()
    assert logs("rm", "1", "--yes").exit_code == 0


def test_where_there_is_nothing(store):
    said = logs()
    assert (said.exit_code, said.stdout) == (0, "")
    assert said.stderr == "No conversation is kept yet. gemma4 chat begins one.\n"
    for arguments in (["show"], ["search", "x"], ["export"], ["rm", "--all", "-y"]):
        said = logs(*arguments)
        assert said.exit_code == 2 and "No conversation is kept yet" in said.stderr
    assert not store.exists() and session_names() == []


@pytest.mark.parametrize("emptied", [False, True])
def test_what_was_read_is_removed_without_conversations(store, request, emptied):
    if emptied:
        request.getfixturevalue("two")
        assert logs("rm", "--all", "-y").exit_code == 0
    file = store.parent / "prompts" / f"{'0' * 64}.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    assert logs("rm", "--all").exit_code == 2 and file.exists()
    said = logs("rm", "--all", "-y")
    assert said.exit_code == 0 and "Removed what was read of prompts." in said.stderr
    assert not file.exists()


def test_a_conversation_is_shown(two):
    assert logs("show").stdout == (
        "> first\n\n**first**\n\n> second\n> line\n\n**second\nline**\n"
    )
    assert logs("show", "1").stdout.startswith("> Où est un café")
    assert logs("show", "work", "--all").stdout.count("**second") == 2
    (whole,) = objects("show", "work")
    assert [m["role"] for m in whole["messages"]] == ["user", "assistant"] * 2
    assert whole["settings"]["temperature"] is None and whole["model"] == "scripted"
    (every,) = objects("show", "work", "--all")
    parents = {m["id"]: m["parent"] for m in every["messages"]}
    first = min(parents)
    assert parents[first + 3] == parents[first + 4] == first + 2


def test_one_that_is_not_there(two):
    said = logs("show", "wrok")
    assert said.exit_code == 2
    assert "There is no conversation wrok. Did you mean work?" in said.stderr
    assert "gemma4 logs lists them" in logs("show", "9").stderr


@pytest.mark.parametrize("indexed", [True, False])
def test_words_are_found(two, monkeypatch, indexed):
    if not indexed:
        without = "CREATE VIRTUAL TABLE search USING missing"
        monkeypatch.setattr(searching, "SEARCH", without)
    with opened() as store:
        for words in ("CAFE", "cafe ou", "STRAß", "c++", "首都", "caf straße"):
            found = searching.search(store, words.split(), -1)
            roles = [(match.conversation, match.role) for match in found]
            assert roles == [(1, "assistant"), (1, "user")], words
        for words in ("nowhere", "first café", "%", "_", '"', "OR", "a*"):
            assert searching.search(store, words.split(), -1) == [], words


def test_what_was_found_is_shown(two):
    lines = logs("search", "LIN").stdout.splitlines()
    assert len(lines) == 6 and lines[0].startswith("   2  20")
    assert lines[0].endswith("  work")
    assert lines[1] == "      assistant: **second line**"
    assert len(logs("search", "lin", "-n", "1").stdout.splitlines()) == 2
    (match, *_) = objects("search", "lin")
    assert match["excerpt"] == "**second line**" and match["name"] == "work"
    said = logs("search", "nowhere")
    assert (said.exit_code, said.stdout) == (0, "")
    assert said.stderr == "No message holds that.\n"


def test_no_words(two):
    assert logs("search", " ").exit_code == logs("search").exit_code == 2


def test_what_came_since_is_found_too(kept):
    converse(kept, Lines("apples"))
    assert len(objects("search", "apples")) == 2
    converse(kept, Lines("pears"))
    assert len(objects("search", "pears")) == 2 and len(objects("search", "app")) == 2


def test_half_an_answer_is_found_while_it_comes(kept, script):
    def answer(messages):
        yield from chunks("Apples and. pears")[:-1]
        found.append(objects("search", "apples"))
        yield from chunks("then")
        found.append(objects("search", "apples"))

    found: list = []
    script.answer = answer
    converse(kept, Lines("what"))
    assert [len(each) for each in (*found, objects("search", "apples"))] == [1, 1, 1]
    assert len(objects("search", "then")) == 1


@pytest.mark.slow
def test_what_was_exported_can_be_loaded(two, kept, tmp_path):
    file = tmp_path / "talk.json"
    said = logs("export", "work", "-o", str(file))
    assert f"Wrote 4 messages to {file}." in said.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert logs("export", "work").stdout == file.read_text()
    assert logs("export", "-o", str(file)).exit_code == 2
    assert logs("export", "1", "-o", str(file), "--overwrite").exit_code == 0
    kept.keep()
    converse(kept, Lines(f"/load {file}", "more"))
    assert branch()[0] == CAFES and len(branch()) == 4
    assert logs("export", "work", "-f", "md").stdout == logs("show", "work").stdout


def test_files_go_out_as_paths(seeing, here, store):
    seeing.keep()
    converse(seeing, Lines("./a.png what"))
    seeing.keeper.close()
    assert logs("show").stdout.startswith("> what (a.png)\n")
    saved = json.loads(logs("export").stdout)
    assert saved["messages"][0]["content"][0] == {
        "type": "image",
        "path": f"{here}/a.png",
        "image_tokens": None,
    }


def test_nothing_is_removed_unasked(two):
    for arguments in (["1"], ["--all"]):
        said = logs("rm", *arguments)
        assert said.exit_code == 2 and "add --yes" in said.stderr
    assert logs("rm").exit_code == logs("rm", "1", "--all", "-y").exit_code == 2
    assert logs("rm", "1", "missing", "-y").exit_code == 2
    assert len(objects()) == 2


@pytest.mark.parametrize("answer", [True, False])
def test_the_question_before(two, monkeypatch, answer):
    asked: list[str] = []
    monkeypatch.setattr(removing, "confirmed", lambda q: asked.append(q) or answer)
    logs("rm", "1", "1", "work")
    assert asked == ["Remove 2 conversations?"]
    assert len(objects()) == (0 if answer else 2)


@pytest.mark.parametrize("sought", [True, False])
def test_what_is_removed_is_gone_from_the_disk(kept, store, sought):
    converse(kept, Lines(*(f"xylophone{n} " + "filler " * 60 for n in range(20))))
    kept.chat.clear()
    kept.begin_anew()
    converse(kept, Lines("stays"))
    if sought:
        assert objects("search", "xylophone7")
    assert b"xylophone7" in contents(store)
    assert "Removed 1 conversation." in logs("rm", "1", "-y").stderr
    assert b"xylophone" not in contents(store)
    assert not objects("search", "xylophone7") and len(objects("search", "stays")) == 2
    assert branch() == ["stays", "you said stays"]


def contents(store: Path) -> bytes:
    """Whatever is on the disk of a store."""
    return b"".join(file.read_bytes() for file in store.parent.iterdir())


@pytest.mark.slow
def test_a_store_that_cannot_be_read(store):
    store.parent.mkdir(parents=True)
    store.write_text("damaged" * 100)
    for arguments in ([], ["rm", "--all", "-y"]):
        said = logs(*arguments)
        assert said.exit_code == 5 and f"{store} is damaged" in said.stderr
    assert session_names() == []


def test_names_to_complete(two, kept):
    kept.keep("play")
    kept.chat.clear()
    converse(kept, Lines("three"))
    assert session_names() == ["play", "work"]


def test_help_names_the_commands():
    said = logs("--help").stdout
    assert all(word in said for word in ("list", "show", "search", "export", "rm"))
