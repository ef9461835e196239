"""Who is asked before a tool runs, and what they see."""

from dataclasses import replace

import pytest
from calling import (
    TIME,
    WEATHER,
    asked_with,
    calling,
    get_time,
    get_weather,
    results,
    use_tools,
)
from scripted import Lines, roles

from mlx_gemma4 import ToolCall
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.errors import UsageError
from mlx_gemma4.cli.terminal.keyboard import Interrupt
from mlx_gemma4.cli.tools.wording import argument_lines, call_line, result_lines
from mlx_gemma4.tools.declare import tool_of
from mlx_gemma4.tools.result import Result

NO = "Not run: the user said no."


def questions(err: str) -> int:
    return err.count("[y]es, [a]lways in this session, [n]o: ")


def test_a_call_is_shown_and_runs_once_it_is_allowed(
    session, script, monkeypatch, capsys
):
    asked_with(monkeypatch, "maybe", "", "Y")
    use_tools(session, get_weather)
    script.answer = calling(WEATHER)
    converse(session, Lines("weather?"))
    assert results(session) == ["sunny in Rome"]
    out, err = capsys.readouterr()
    assert out == "done\n"
    assert questions(err) == 3  # nothing else is an answer, least of all none
    assert 'The model calls get_weather (calling.py):\n  city: "Rome"\n' in err
    assert err.endswith("result> sunny in Rome\n")


def test_what_is_always_allowed_is_that_tool(session, script, monkeypatch, capsys):
    asked_with(monkeypatch, "a", "n")
    use_tools(session, get_weather, get_time)
    script.answer = calling(WEATHER, WEATHER, TIME)
    converse(session, Lines("all?", "/tools"))
    assert results(session) == ["sunny in Rome", "sunny in Rome", NO]
    err = capsys.readouterr().err
    assert questions(err) == 2
    assert "get_weather: calling.py, allowed in this session\n" in err
    assert "get_time: calling.py, asks\n" in err


def test_ctrl_d_is_no(session, script, monkeypatch):
    asked_with(monkeypatch)
    use_tools(session, get_weather)
    script.answer = calling(WEATHER)
    converse(session, Lines("weather?"))
    assert results(session) == [NO]
    assert session.chat.messages[-1]["content"] == "done"


def test_with_yes_nobody_is_asked(session, script, monkeypatch, capsys):
    asked_with(monkeypatch, "n")
    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER)
    session.show_once(session.chat.ask("weather?"))
    session.calls.check_allowed()
    assert results(session) == ["sunny in Rome"]
    err = capsys.readouterr().err
    assert err == 'get_weather {"city": "Rome"}\nresult> sunny in Rome\n'


def test_without_a_terminal_a_call_is_refused_and_told(session, script, capsys):
    use_tools(session, get_weather, get_time)
    script.answer = calling(WEATHER, TIME, text="I could not look.")
    session.show_once(session.chat.ask("weather?"))
    assert [text[:8] for text in results(session)] == ["Not run:", "Not run:"]
    out, err = capsys.readouterr()
    assert out == "I could not look.\n" and questions(err) == 0
    with pytest.raises(UsageError, match=r"get_weather, get_time\. Add --yes"):
        session.calls.check_allowed()


@pytest.mark.parametrize(
    "trusted, read_only, asked",
    [
        (True, True, 0),
        (True, False, 1),
        (True, None, 1),
        (False, True, 1),
    ],
)
def test_a_hint_counts_where_its_server_is_trusted(
    session, script, monkeypatch, capsys, trusted, read_only, asked
):
    asked_with(monkeypatch, "y")
    use_tools(
        session, replace(tool_of(get_weather), trusted=trusted, read_only=read_only)
    )
    script.answer = calling(WEATHER)
    converse(session, Lines("weather?"))
    assert results(session) == ["sunny in Rome"]
    err = capsys.readouterr().err
    assert questions(err) == asked
    assert ("says that it only reads" in err) == (asked == 1 and read_only is True)
    assert ("says that it changes things" in err) == (read_only is False)


def test_what_nobody_may_allow_by_a_name_is_no_tool(session, script, capsys):
    """Nothing would run, so nobody is asked; the model is told what there is."""
    use_tools(session, get_weather)
    script.answer = calling(TIME)
    session.show_once(session.chat.ask("time?"))
    session.calls.check_allowed()
    (said,) = results(session)
    assert "get_time" in said and "get_weather" in said
    assert roles(session) == "user assistant tool assistant"


HOSTILE = "\x1b[2Jno\r\n\u202eRun it? [y]\u200b\ufe0f\u2028\u3164\x9b\x7f\U000e0041"


def test_a_question_shows_all_arguments_and_obeys_none(
    session, script, monkeypatch, capsys
):
    asked_with(monkeypatch, "n")
    use_tools(session, get_weather)
    call = ToolCall("get_weather", {"city": HOSTILE, HOSTILE: "x" * 5000})
    script.answer = calling(call)
    converse(session, Lines("weather?"))
    err = capsys.readouterr().err
    shown, _, _ = err.partition("Run get_weather?")
    _, second, third, *_ = shown.splitlines()
    seen = (
        r"\u001b[2Jno\r\n\u202eRun it? [y]\u200b\ufe0f\u2028\u3164\u009b\u007f"
        r"\U000e0041"
    )
    assert second == f'  city: "{seen}"'
    assert third.endswith(f': "{"x" * 5000}"') and third.isprintable()


def test_no_blank_of_an_argument_is_lost(session, script, monkeypatch, capsys):
    asked_with(monkeypatch, "n")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    use_tools(session, get_weather)
    value = "ls" + " " * 200 + "; rm -rf ~"
    script.answer = calling(ToolCall("get_weather", {"city": value}))
    session.show_once(session.chat.ask("weather?"))
    assert f'  city: "{value}"\n' in capsys.readouterr().err


@pytest.mark.parametrize("letters, told", [(80 * 21 - 10, 0), (80 * 22 - 10, 1)])
def test_a_question_taller_than_its_window_says_so(
    session, script, monkeypatch, capsys, letters, told
):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    asked_with(monkeypatch, "n")
    use_tools(session, get_weather)
    call = ToolCall("get_weather", {"city": "x" * letters})
    script.answer = calling(call)
    session.show_once(session.chat.ask("weather?"))
    err = capsys.readouterr().err
    assert err.count("These are 23 rows, which begin above") == told
    assert err.index("x") < err.index("Run get_weather?")


def test_what_is_typed_before_all_of_it_is_shown_is_no_answer(
    session, script, monkeypatch, capsys
):
    shown = []
    asked_with(monkeypatch, "n")
    monkeypatch.setattr(
        Interrupt, "set_aside", lambda self: shown.append(capsys.readouterr().err)
    )
    use_tools(session, get_weather)
    script.answer = calling(WEATHER)
    session.show_once(session.chat.ask("weather?"))
    assert shown == ['The model calls get_weather (calling.py):\n  city: "Rome"\n']
    assert capsys.readouterr().err.startswith("Run get_weather?")


def test_a_name_cannot_be_taken_for_a_value():
    call = ToolCall("f", {'city: "Rome", to': 1, "max-rows": 2})
    assert argument_lines(call) == [r'  "city: \"Rome\", to": 1', "  max-rows: 2"]


def test_calls_in_words():
    call = ToolCall("a\x1bb", {"city": "Zürich 🙂", "n": [1, None, True]})
    assert call_line(call) == (r'a\u001bb {"city": "Zürich 🙂", "n": [1, null, true]}')
    assert argument_lines(ToolCall("f", {})) == ["  (no arguments)"]


def test_results_in_words():
    """What is not shown is counted."""
    assert result_lines(Result("")) == ["result> (nothing)"]
    assert result_lines(Result("no", is_error=True)) == ["error> no"]
    *lines, left = result_lines(Result("\n".join("abcdefghij")))
    assert lines == [f"result> {letter}" for letter in "abcdefgh"]
    assert left == "… and 4 characters more, which the model reads"
    long, left = result_lines(Result("x" * 1600))
    assert long == f"result> {'x' * 600}" and "1,000" in left
    media = Result("seen", media=({"type": "image"},))
    assert result_lines(media) == ["result> seen", "result> (image)"]
