"""The calls of a turn: run in order, answered, and stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

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
from scripted import Lines, chunks, roles

from mlx_gemma4 import Chunk
from mlx_gemma4.chat.messages import plain_messages
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.errors import ChatError

NOT_RUN = "Not run: the turn was stopped."
BROKEN = "It was stopped while it ran: what it has done is not known."


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_calls_are_run_in_order_and_the_model_goes_on(session, script, capsys):
    use_tools(session, get_weather, get_time, yes=True)
    script.answer = calling(TIME, WEATHER, text="both are known")
    converse(session, Lines("time and weather?"))
    assert results(session) == ["noon in Oslo", "sunny in Rome"]
    assert roles(session) == "user assistant tool tool assistant"
    declared = [tool["function"]["name"] for tool in script.asked[0].tools]
    assert declared == ["get_weather", "get_time"]
    assert capsys.readouterr().out == "both are known\n"


def test_a_tool_that_fails_is_told(session, script):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        raise OSError("no sky")

    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER)
    converse(session, Lines("weather?"))
    (said,) = results(session)
    assert "no sky" in said
    assert session.chat.messages[-1]["content"] == "done"


def test_what_a_tool_prints_is_no_answer(session, script, capfd):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        print("looking")
        code = "import sys; print('a program', repr(sys.stdin.read()))"
        subprocess.run([sys.executable, "-c", code], check=True)
        return repr(sys.stdin.read())

    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER)
    session.show_once(session.chat.ask("weather?"))
    out, err = capfd.readouterr()
    assert out == "done\n"
    assert "looking\n" in err and "a program ''\n" in err
    assert results(session) == ["''"]


def test_tools_that_are_only_declared_are_left_to_the_user(session, script, capsys):
    declared = {"type": "function", "function": {"name": "get_time"}}
    session.chat.declared = [declared]
    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER, TIME, WEATHER)
    reader = Lines("all?", "half past", "/tools")
    converse(session, reader)
    assert reader.prompts == ["> ", "result of get_time> ", "> ", "> "]
    assert results(session) == ["sunny in Rome", "half past", "sunny in Rome"]
    out, err = capsys.readouterr()
    assert out == '{"name": "get_time", "arguments": {"city": "Oslo"}}\ndone\n'
    assert "get_time: --tools, is not run: you type its results\n" in err


def test_a_tool_that_runs_takes_the_place_of_one_that_a_kept_one_declares(session):
    session.chat.declared = [
        {"type": "function", "function": {"name": "get_weather"}},
        {"type": "function", "function": {"name": "get_time"}},
    ]
    use_tools(session, get_weather)
    names = [tool["function"]["name"] for tool in session.chat.tools]
    assert names == ["get_time", "get_weather"]


def stopping(session, script) -> None:
    """What is said after a Ctrl-C is a message as ever, and all calls have results."""
    script.answer = lambda messages: chunks("go on")
    reader = Lines("next")
    converse(session, reader)
    assert reader.prompts[0] == "> "
    plain_messages(session.chat.messages)
    assert session.chat.open_call() is None


def test_ctrl_c_in_a_tool_stops_the_turn(session, script, capsys):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        press_ctrl_c()
        return "not reached"

    use_tools(session, get_weather, get_time, yes=True)
    script.answer = calling(TIME, WEATHER, TIME)
    converse(session, Lines("all?"))
    assert results(session) == ["noon in Oslo", BROKEN, NOT_RUN]
    assert len(script.asked) == 1
    assert capsys.readouterr().err.endswith("(stopped) /continue goes on with it.\n")
    stopping(session, script)


def test_a_tool_that_takes_ctrl_c_for_itself_stops_the_turn(session, script):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        try:
            press_ctrl_c()
            return "not reached"
        except KeyboardInterrupt:
            return "I go on"

    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER, WEATHER)
    converse(session, Lines("weather?"))
    assert results(session) == ["I go on", NOT_RUN]
    assert len(script.asked) == 1


def test_the_model_goes_on_with_a_stopped_turn_if_it_is_told(session, script, capsys):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        press_ctrl_c()
        return "not reached"

    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER, text="I was stopped.")
    converse(session, Lines("weather?", "/continue", "/regen"))
    assert roles(session) == "user assistant tool assistant"
    assert capsys.readouterr().out == "I was stopped.\n" * 2


def test_ctrl_c_at_the_question_stops_the_turn(session, script, monkeypatch):
    asked_with(monkeypatch)
    monkeypatch.setattr("sys.stdin.readline", lambda: signal.raise_signal(2))
    use_tools(session, get_weather, get_time)
    script.answer = calling(WEATHER, TIME)
    converse(session, Lines("all?"))
    assert results(session) == [NOT_RUN, NOT_RUN]
    stopping(session, script)


def test_ctrl_c_while_the_model_calls_stops_the_turn(session, script):
    def interrupted(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("", token=1, tool_calls=(WEATHER,))
        press_ctrl_c()
        yield Chunk("", token=1, tool_calls=(TIME,))
        raise AssertionError("went on after Ctrl-C")

    use_tools(session, get_weather, get_time, yes=True)
    script.answer = interrupted
    converse(session, Lines("all?"))
    assert results(session) == [NOT_RUN, NOT_RUN]
    stopping(session, script)


def test_one_answer_that_is_stopped_has_no_open_call(session, script):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        raise KeyboardInterrupt

    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER, WEATHER)
    with pytest.raises(KeyboardInterrupt):
        session.show_once(session.chat.ask("weather?"))
    assert results(session) == [BROKEN, NOT_RUN]


def test_undo_edit_and_regen_around_calls(session, script):
    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER)
    converse(session, Lines("one", "two", "/regen"))
    assert roles(session) == " ".join(["user assistant tool assistant"] * 2)
    converse(session, Lines("/undo", "/edit uno"))
    assert roles(session) == "user assistant tool assistant"
    assert session.chat.messages[0]["content"] == "uno"


def test_regen_where_half_of_the_results_are_there(session, script):
    """They are no question: the model answers the user anew."""
    session.chat.declared = [{"type": "function", "function": {"name": "get_time"}}]
    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER, TIME)
    converse(session, Lines("all?"))
    script.answer = lambda messages: chunks("no calls now")
    converse(session, Lines("/regen"))
    assert roles(session) == "user assistant"


def test_what_was_run_stays_where_the_answer_fails(session, script, capsys):
    def failing(messages: list[dict]) -> Iterator[Chunk]:
        if messages[-1]["role"] == "tool":
            raise ChatError("The prompt is too long.")
        yield from chunks("", tool_calls=(WEATHER,), finish_reason="tool_calls")

    use_tools(session, get_weather, yes=True)
    script.answer = failing
    converse(session, Lines("weather?"))
    assert roles(session) == "user assistant tool"
    assert "too long" in capsys.readouterr().err
    script.answer = calling(WEATHER)
    converse(session, Lines("/continue"))
    assert roles(session) == "user assistant tool assistant"


def test_an_answer_that_fails_leaves_no_call_open(session, script):
    def failing(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("", token=1, tool_calls=(WEATHER,))
        raise ChatError("No memory is left.")

    use_tools(session, get_weather, yes=True)
    script.answer = failing
    lines = Lines("weather?", "/show")
    converse(session, lines)
    assert results(session) == [NOT_RUN]
    assert set(lines.prompts) == {"> "}


def test_ctrl_c_beside_a_tool_leaves_no_call_open(session, script, monkeypatch):
    def stopped() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER, WEATHER)
    monkeypatch.setattr(session, "follow", stopped)
    converse(session, Lines("weather?"))
    assert results(session) == ["sunny in Rome", NOT_RUN]


def test_json_holds_calls_and_their_results(session, script, capsys):
    session.screen.as_json = True
    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER)
    converse(session, Lines("weather?", "/undo"))
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["text"], answer["tool_calls"]) == ("done", [])
    (before,) = answer["rounds"]
    assert before["finish_reason"] == "tool_calls"
    assert before["tool_calls"] == [
        {
            "name": "get_weather",
            "arguments": {"city": "Rome"},
            "result": "sunny in Rome",
            "is_error": False,
        }
    ]
    assert [json.loads(line) for line in err.splitlines()] == [
        {"note": "Took back: weather?"}
    ]


def test_json_of_a_turn_that_was_stopped(session, script, capsys):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        raise KeyboardInterrupt

    session.screen.as_json = True
    use_tools(session, get_weather, yes=True)
    script.answer = calling(WEATHER)
    with pytest.raises(KeyboardInterrupt):
        session.show_once(session.chat.ask("weather?"))
    answer = json.loads(capsys.readouterr().out)
    assert answer["rounds"] == []
    assert answer["tool_calls"][0]["result"] == BROKEN
    assert answer["tool_calls"][0]["is_error"] is True
