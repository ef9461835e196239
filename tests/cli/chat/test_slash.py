"""The slash commands of `gemma4 chat`."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripted import Lines, chunks, roles

from mlx_gemma4 import ToolCall
from mlx_gemma4.cli.chat.commands import complete, is_command
from mlx_gemma4.cli.chat.help import help_lines
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.settings import Settings


def test_regen_asks_again_with_another_seed(session, script):
    session.chat.settings.seed = 40
    converse(session, Lines("one", "/regen"))
    assert [asked.seed for asked in script.asked] == [40, 41]
    assert script.asked[0].messages == script.asked[1].messages
    assert roles(session) == "user assistant"


def test_undo_and_edit_take_back_a_whole_turn(session, script):
    reader = Lines("one", "two", "/undo", "/edit uno", "/edit", "/bye")
    converse(session, reader)
    assert script.asked[2].messages == [{"role": "user", "content": "uno"}]
    assert reader.drafts[-1] == "uno"
    assert session.chat.messages == []


def test_system_goes_first_and_can_be_taken_away(session, script):
    converse(session, Lines("/system be brief", "one", "/system off", "two"))
    assert script.asked[0].messages[0] == {"role": "system", "content": "be brief"}
    assert script.asked[1].messages[0]["role"] == "user"


def test_set_changes_sampling(session, script, capsys):
    lines = ("/set temperature 0", "/set top_k 5", "one", "/set top_k default", "two")
    converse(session, Lines(*lines))
    assert (script.asked[0].temperature, script.asked[0].top_k) == (0.0, 5)
    assert script.asked[1].top_k is None
    assert "temperature = 0.0\n" in capsys.readouterr().err


def test_set_switches_loops_and_limits_thoughts(session, script, capsys):
    lines = ("/set stop_loops off", "/set think_budget 9", "one")
    converse(session, Lines(*lines, "/set stop_loops default", "two"))
    first, second = script.asked
    assert (first.stop_loops, first.think_budget) == (False, 9)
    assert second.stop_loops is True
    said = capsys.readouterr().err
    assert "stop_loops = off\nthink_budget = 9\n" in said and "stop_loops = on" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/set colour 3", "no setting 'colour'"),
        ("/set temprature 1", "Did you mean temperature?"),
        ("/temperature 1", "no command /temperature"),
        ("/hlep", "Did you mean /help?"),
        ("/bye now", "nothing behind it, but 'now'"),
        ("/regen please", "nothing behind it"),
        ("/undo 2", "nothing behind it"),
        ("/set top_p 2", "above 0 and at most 1"),
        ("/set top_p nan", "must be a number"),
        ("/set top_p 0", "above 0"),
        ("/set top_k half", "takes a whole number"),
        ("/set stop_loops 1", "Say on or off"),
        ("/set max_tokens 0", "whole number from 1"),
        ("/think maybe", "on or off"),
        ("/nonsense", "no command /nonsense"),
        ("/regen", "no answer"),
        ("/undo", "nothing to undo"),
        ("/edit", "no message"),
        ("/stats", "no finished answer"),
        ("/save", "Name a file"),
        ("/load nowhere.json", "Cannot read nowhere.json"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(session, script, capsys, line, said):
    converse(session, Lines(line))
    assert said in capsys.readouterr().err
    assert script.asked == []


def test_stats_show_speed_and_context(session, capsys):
    converse(session, Lines("one two", "/stats"))
    assert capsys.readouterr().err.splitlines() == [
        "4 tok · 6.0 tok/s · ttft 0.25 s · prefill 48 tok/s (8 cached) · peak 1.50 GB",
        "context 24 of 4,096 tokens",
    ]


def test_a_cut_off_answer_says_so(session, script, capsys):
    script.answer = lambda messages: chunks("half an", finish_reason="length")
    converse(session, Lines("go"))
    assert "token limit" in capsys.readouterr().err


def test_an_answer_that_is_only_a_thought_says_so(session, script, capsys):
    script.answer = lambda messages: chunks("", thought="hm", finish_reason="stop")
    converse(session, Lines("go"))
    assert "only thought, and gave no answer" in capsys.readouterr().err


def test_help_names_every_command(session, capsys):
    converse(session, Lines("/help"))
    said = capsys.readouterr().err
    for command in complete("/"):
        assert command in said


@pytest.mark.parametrize("columns", [40, 80])
def test_help_fits_the_window(session, capsys, monkeypatch, columns: int):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = list(help_lines({"Group": [("/some [THING…]", "does something")]}))
    assert max(map(len, lines[:-2])) <= columns
    together = "  /some [THING…]  does something" in lines
    assert together == (columns == 80)


def test_they_are_words_where_nobody_types(session, script):
    converse(session, Lines("help", "exit", "one"))
    assert len(script.asked) == 3


@pytest.mark.parametrize("word", ["exit", "QUIT", "help", "?"])
def test_words_that_mean_a_command(session, script, capsys, monkeypatch, word: str):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    reader = Lines(word, "one")
    converse(session, reader)
    leaves = word in ("exit", "QUIT")
    assert reader.lines == (["one"] if leaves else [])
    assert ("/undo" in capsys.readouterr().err) is not leaves
    assert len(script.asked) == (0 if leaves else 1)


def test_a_word_may_be_the_result_of_a_tool(session, script):
    call = ToolCall("ask_user", {})
    script.answer = lambda messages: chunks(
        "", tool_calls=(call,), finish_reason="tool_calls"
    )
    reader = Lines("go", "help")
    converse(session, reader)
    assert session.chat.messages[2]["content"] == "help"


def test_a_word_in_a_sentence_is_sent(session, script):
    converse(session, Lines("help me", "exit?"))
    assert len(script.asked) == 2


def test_show_says_what_answers_and_how(seeing, here, capsys):
    lines = ("/show", "/think on", "/set top_k 5", "/system be brief", "/image a.png")
    converse(seeing, Lines(*lines))
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["model: tiny", "adapter: (none)"]
    assert "takes: text, pictures, sound, videos" in told
    assert {"system: (none)", "settings: (none)", "attached: (none)"} < set(told)
    converse(seeing, Lines("/show"))
    told = capsys.readouterr().err.splitlines()
    assert {"system: be brief", "settings: think on, top_k 5"} < set(told)
    assert "attached: a.png" in told and not any("files:" in line for line in told)
    converse(seeing, Lines("what is it", "/show"))
    assert "files: a.png\nattached: (none)\n" in capsys.readouterr().err


def test_a_context_that_is_nearly_full_is_told_of(session, capsys):
    read = session.chat._prefix.tokens
    told = []
    for used in (3000, 3277, 3300, 3900, 4095, 100, 3300):
        read[:] = [0] * used
        converse(session, Lines("one"))
        told.append("% full" in capsys.readouterr().err)
    assert told == [False, True, False, True, True, False, True]
    session.chat.clear()
    assert session.status() == "context 0 % · scripted"


def test_a_full_context_does_not_go_on(session, script, capsys):
    script.answer = lambda messages: chunks("half an", finish_reason="length")
    session.chat._prefix.tokens[:] = [0] * 4095
    converse(session, Lines("go"))
    told = capsys.readouterr().err
    assert "100 % full: 4,095 of 4,096 tokens. /undo" in told
    assert "/continue" not in told


def test_save_and_load_bring_a_conversation_back(session, script, tmp_path: Path):
    file = tmp_path / "talk.json"
    lines = ("/system be brief", "/set temperature 0.5", "one", f"/save {file}")
    converse(session, Lines(*lines, "/clear", "/system off", "/set temperature 1"))
    assert session.chat.messages == []
    converse(session, Lines(f"/load {file}"))
    assert roles(session) == "user assistant"
    assert session.chat.system == "be brief"
    assert session.chat.settings == Settings(temperature=0.5)


def test_save_keeps_a_conversation_from_being_emptied(session, tmp_path: Path, capsys):
    file = tmp_path / "talk.json"
    converse(session, Lines("one", f"/save {file}"))
    before = file.read_text()
    converse(session, Lines("/clear", f"/save {file}"))
    assert file.read_text() == before
    assert "nothing was saved" in capsys.readouterr().err


def test_save_spares_files_of_others(session, tmp_path: Path, capsys):
    file = tmp_path / "thesis.json"
    file.write_text("{}")
    converse(session, Lines("one", f"/save {file}"))
    assert file.read_text() == "{}"
    assert "not a conversation" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": "none"},
        {"settings": {"temperature": 1}},
        {"system": 3},
        {"settings": asdict(Settings(temperature="hot"))},  # type: ignore[arg-type]
        {"settings": asdict(Settings(max_tokens=0))},
        {"settings": asdict(Settings(top_p=True))},
        {"settings": asdict(Settings(think="no"))},  # type: ignore[arg-type]
        {"settings": asdict(Settings(stop=("",)))},
        {"settings": asdict(Settings()) | {"stop": 3}},
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
        {"messages": [{"role": "assistant", "content": "", "tool_calls": None}]},
        {"messages": [{"role": "tool", "content": "answers nothing"}]},
    ],
)
def test_a_damaged_file_changes_nothing(session, tmp_path: Path, capsys, damage):
    file = tmp_path / "talk.json"
    converse(session, Lines("one", f"/save {file}"))
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    converse(session, Lines(f"/load {file}"))
    said = capsys.readouterr().err
    assert "damaged" in said and str(file) in said
    assert roles(session) == "user assistant"
    assert session.chat.settings == Settings()


@pytest.mark.parametrize("start", ["", '{"format": "gemma4-chat", "messages": '])
def test_a_file_that_is_nested_too_deeply(session, tmp_path: Path, capsys, start):
    file = tmp_path / "talk.json"
    file.write_text(start + "[" * 100_000)
    converse(session, Lines(f"/load {file}"))
    assert f"{file} is nested too deeply" in capsys.readouterr().err


def test_half_a_character_can_be_saved(session, tmp_path: Path):
    file = tmp_path / "talk.json"
    converse(session, Lines("one \ud83d", f"/save {file}", "/clear", f"/load {file}"))
    assert session.chat.messages[0]["content"] == "one \ud83d"


def test_a_command_may_be_followed_by_a_line_end(session):
    converse(session, Lines("/system\nbe brief\nand kind"))
    assert session.chat.system == "be brief\nand kind"


def test_notes_hold_no_control_characters(session, capsys):
    session.screen.note("tensor \x1b]0;owned\x07 \x9b2J")
    assert capsys.readouterr().err == "tensor ]0;owned 2J\n"


def test_commands_are_told_from_messages():
    assert is_command("/help") and is_command("/set x 1") and is_command("/?")
    assert not is_command("/etc/hosts is a file")
    assert not is_command("//help is sent")
    assert not is_command("no /help here")


def test_a_double_slash_sends_a_slash(session, script):
    converse(session, Lines("//help"))
    assert script.asked[0].messages[-1]["content"] == "/help"
