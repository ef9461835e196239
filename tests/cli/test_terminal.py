"""`gemma4 chat` on a terminal: line editing, Ctrl-C, history, colour."""

import signal
from pathlib import Path

import pytest
from command import ENDLESS, ESCAPE, GREEDY, QUESTION

PROMPT = r"leaves\s*>"


def test_conversation_on_a_terminal(terminal, gemma4):
    chat = terminal("chat", "-m", "demo", *GREEDY)
    chat.wait_for(PROMPT)
    chat.type(QUESTION + "\r")
    chat.wait_for("Paris[^>]*>")
    chat.type("\x03")
    chat.wait_for("Ctrl-D or /bye[^>]*>")
    chat.type("\x04")
    assert chat.finish() == 0
    history = Path(gemma4.environ["XDG_STATE_HOME"]) / "gemma4" / "history"
    assert QUESTION in history.read_text()


@pytest.mark.slow
def test_no_history_keeps_none(terminal, gemma4):
    chat = terminal("chat", "-m", "demo", "--no-history")
    chat.wait_for(PROMPT)
    chat.type("/bye\r")
    assert chat.finish() == 0
    assert not Path(gemma4.environ["XDG_STATE_HOME"]).exists()


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_keeps_the_conversation(terminal):
    chat = terminal("chat", "-m", "demo", *ENDLESS)
    chat.wait_for(PROMPT)
    chat.type(QUESTION + "\r")
    chat.wait_for_answer()
    chat.process.send_signal(signal.SIGINT)
    chat.wait_for(r"\(stopped\)[^>]*>")
    chat.type("/set temperature 0\r")
    chat.wait_for(r"temperature = 0\.0[^>]*>")
    chat.type(f"/edit {QUESTION}\r")
    chat.wait_for("Paris[^>]*>")
    chat.type("\x04")
    assert chat.finish() == 0


@pytest.mark.slow
def test_colour_on_a_terminal_is_on_stderr_only(terminal):
    chat = terminal("chat", "-m", "demo", QUESTION, *GREEDY, "--stats")
    assert chat.finish() == 0
    assert "Paris" in chat.screen
    assert "\x1b[2m" in chat.screen  # the stats


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(terminal, gemma4, setting):
    gemma4.environ.update(setting)
    chat = terminal("chat", "-m", "demo", QUESTION, *GREEDY, "--stats")
    assert chat.finish() == 0
    assert "Paris" in chat.screen
    assert ESCAPE not in chat.screen


@pytest.mark.slow
def test_a_dumb_terminal_gets_a_plain_prompt(terminal, gemma4):
    gemma4.environ["TERM"] = "dumb"
    chat = terminal("chat", "-m", "demo", *GREEDY)
    chat.wait_for(PROMPT)
    chat.type(QUESTION + "\n")
    chat.wait_for("Paris")
    chat.type("\x04")
    assert chat.finish() == 0
    assert ESCAPE not in chat.screen
