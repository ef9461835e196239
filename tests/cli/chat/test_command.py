"""The conversation loop of `gemma4 chat`, with a scripted model and user."""

import json
import os
import signal
from collections.abc import Iterator

import pytest
from scripted import Lines, chunks, roles

from mlx_gemma4 import Chunk, ToolCall
from mlx_gemma4.cli.chat.interactive import SecondInterrupt, converse
from mlx_gemma4.errors import ChatError

WEATHER = ToolCall("get_weather", {"city": "Rome"})


def test_turns_are_remembered(session, script, capsys):
    converse(session, Lines("one", "two"))
    assert roles(session) == "user assistant user assistant"
    assert [m["content"] for m in script.asked[1].messages] == [
        "one",
        "you said one",
        "two",
    ]
    assert capsys.readouterr().out == "you said one\nyou said two\n"


def test_first_question_comes_from_the_command_line(session, capsys):
    converse(session, Lines(), first="hello")
    assert capsys.readouterr().out == "you said hello\n"


def test_blank_lines_ask_nothing(session, script):
    converse(session, Lines("", "   ", "\n"))
    assert script.asked == []


def test_one_prefix_cache_serves_the_whole_conversation(session, script):
    converse(session, Lines("one", "two", "/regen"))
    assert len({id(asked.prefix) for asked in script.asked}) == 1


def test_thoughts_are_kept_apart(session, script, capsys):
    script.answer = lambda messages: [
        Chunk("", token=1, thought="hmm"),
        *chunks("done"),
    ]
    session.screen.show_thinking = True
    converse(session, Lines("why", "/think on", "and why"))
    assert session.chat.messages[1]["reasoning"] == "hmm"
    assert session.chat.messages[1]["content"] == "done"
    assert [asked.thinking for asked in script.asked] == [False, True]
    captured = capsys.readouterr()
    assert captured.out == "done\ndone\n"
    assert captured.err.startswith("hmm\n")


def test_hidden_thoughts_are_not_printed(session, script, capsys):
    script.answer = lambda messages: [
        Chunk("", token=1, thought="secret"),
        *chunks("done"),
    ]
    converse(session, Lines("why"))
    assert "secret" not in "".join(capsys.readouterr())


def test_tool_call_waits_for_its_result(session, script, capsys):
    script.answer = lambda messages: (
        chunks("sunny")
        if messages[-1]["role"] == "tool"
        else chunks("", tool_calls=(WEATHER,), finish_reason="tool_calls")
    )
    reader = Lines("weather?", '{"sky": "clear"}')
    converse(session, reader)
    assert reader.prompts == ["> ", "result of get_weather> ", "> "]
    result = script.asked[1].messages[-1]
    call = script.asked[1].messages[-2]["tool_calls"][0]
    assert result["role"] == "tool" and result["content"] == '{"sky": "clear"}'
    assert result["tool_call_id"] == call["id"]
    assert call["function"] == {"name": "get_weather", "arguments": {"city": "Rome"}}
    out = capsys.readouterr().out.splitlines()
    assert json.loads(out[0]) == {"name": "get_weather", "arguments": {"city": "Rome"}}
    assert out[1] == "sunny"


def test_every_call_of_an_answer_gets_its_result(session, script):
    two = (WEATHER, ToolCall("get_time", {"city": "Oslo"}))
    script.answer = lambda messages: (
        chunks("both known")
        if messages[-1]["role"] == "tool"
        else chunks("", tool_calls=two, finish_reason="tool_calls")
    )
    reader = Lines("weather and time?", "sunny", "noon")
    converse(session, reader)
    assert reader.prompts[1:3] == ["result of get_weather> ", "result of get_time> "]
    assert len(script.asked) == 2
    assert roles(session) == "user assistant tool tool assistant"


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(session, script, capsys):
    def interrupted(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("par", token=1)
        os.kill(os.getpid(), signal.SIGINT)
        yield Chunk("tial", token=1)
        raise AssertionError("went on after Ctrl-C")

    script.answer = interrupted
    before = signal.getsignal(signal.SIGINT)
    converse(session, Lines("go"))
    assert signal.getsignal(signal.SIGINT) is before
    assert session.chat.messages[-1] == {"role": "assistant", "content": "partial"}
    captured = capsys.readouterr()
    assert captured.out == "partial\n"
    assert captured.err == "(stopped) /continue goes on with it.\n"


def test_an_answer_stopped_before_its_first_word_leaves_no_trace(session, script):
    def interrupted(messages: list[dict]) -> Iterator[Chunk]:
        os.kill(os.getpid(), signal.SIGINT)
        yield Chunk("", token=1)

    script.answer = interrupted
    converse(session, Lines("go"))
    assert session.chat.messages == []


def test_ctrl_c_twice_leaves(session, script):
    def interrupted(messages: list[dict]) -> Iterator[Chunk]:
        yield Chunk("par", token=1)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield Chunk("", token=1)

    script.answer = interrupted
    with pytest.raises(SecondInterrupt):
        converse(session, Lines("go"))


def endless_prefill(messages: list[dict]) -> Iterator[Chunk]:
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("read on after Ctrl-C")
    yield


def test_ctrl_c_stops_the_reading_of_a_prompt_at_once(session, script, capsys):
    converse(session, Lines("one"))
    answer, script.answer = script.answer, endless_prefill
    converse(session, Lines("a long text"))
    assert capsys.readouterr().err == "(stopped)\n"
    assert [m["content"] for m in session.chat.messages] == ["one", "you said one"]
    script.answer = answer
    converse(session, Lines("two"))
    assert session.chat.messages[-1]["content"] == "you said two"


def test_ctrl_c_again_at_the_prompt_leaves(session, script):
    script.answer = endless_prefill
    with pytest.raises(SecondInterrupt):
        converse(session, Lines("a long text", KeyboardInterrupt(), "never read"))


def test_ctrl_c_at_the_prompt_gives_a_hint_and_goes_on(session, capsys):
    converse(session, Lines(KeyboardInterrupt(), "hello"))
    captured = capsys.readouterr()
    assert captured.err == "Ctrl-D or /bye leaves.\n"
    assert captured.out == "you said hello\n"


def test_a_refused_message_does_not_end_the_chat(session, script, capsys):
    def refuse(messages: list[dict]) -> Iterator[Chunk]:
        raise ChatError("too long")
        yield

    script.answer = refuse
    converse(session, Lines("x"))
    assert capsys.readouterr().err == "too long\n"
    assert session.chat.messages == []


def test_json_prints_one_object_per_answer(session, capsys):
    session.screen.as_json = True
    converse(session, Lines("one", "two"))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a["text"] for a in answers] == ["you said one", "you said two"]
    read, drafts = {"prompt": 20, "cached": 8}, {"drafted": 0, "accepted": 0}
    assert answers[0]["usage"] == {**read, "completion": 3, **drafts}
    assert answers[0]["seed"] == 7


def test_what_others_wrote_meanwhile_is_not_drawn_over(session, monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr(session.screen, "answer", drawn.append)
    monkeypatch.setattr(session.screen, "resumed", lambda: drawn.append("anew"))
    suspended = iter([False, True, False])
    session.show(session.chat.ask("it"), resumed=lambda: next(suspended))
    assert drawn == ["you ", "anew", "said ", "it"]
