"""Calls of answers that were cut, and of models that do not stop calling."""

import pytest
from calling import WEATHER, calling, get_weather, results, use_tools
from scripted import Lines, chunks

from mlx_gemma4 import Chunk
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.errors import AnswerError


@pytest.mark.parametrize("reason", ["length", "closed", "loop"])
def test_a_call_of_an_answer_that_was_cut_is_not_run(session, script, reason):
    use_tools(session, get_weather, yes=True)
    script.answer = lambda messages: chunks(
        "", tool_calls=(WEATHER,), finish_reason=reason
    )
    converse(session, Lines("weather?"))
    assert len(script.asked) == 1
    (said,) = results(session)
    assert said.startswith("Not run: the answer was cut off")
    with pytest.raises(AnswerError, match="--max-tokens"):
        session.calls.check_answered(session.chat)
    script.answer = calling(WEATHER)
    converse(session, Lines("/continue"))
    assert session.chat.messages[-1]["content"] == "done"
    session.calls.check_answered(session.chat)


def test_a_model_that_calls_on_and_on_has_to_answer(session, script, capsys):
    def endless(messages: list[dict]) -> list[Chunk]:
        if script.asked[-1].tool_choice == "none":
            return chunks("enough")
        return chunks("", tool_calls=(WEATHER,), finish_reason="tool_calls")

    use_tools(session, get_weather, yes=True, most=2)
    script.answer = endless
    session.show_once(session.chat.ask("weather?"))
    session.calls.check_answered(session.chat)
    assert [said[:5] for said in results(session)] == ["sunny", "sunny", "Not r"]
    choices = [asked.tool_choice for asked in script.asked]
    assert choices == [None, None, None, "none"]
    out, err = capsys.readouterr()
    assert out == "enough\n"
    assert "--max-rounds allows more" in err
    session.show_once(session.chat.ask("and now?"))  # counted anew
    assert len(script.asked) == 8


def test_where_it_does_not_even_then_the_turn_ends(session, script, capsys):
    use_tools(session, get_weather, yes=True, most=1)
    script.answer = lambda messages: chunks(
        "", tool_calls=(WEATHER,), finish_reason="tool_calls"
    )
    converse(session, Lines("weather?"))
    assert len(script.asked) == 3 and session.chat.open_call() is None
    assert "(stopped: it calls tools all the time)" in capsys.readouterr().err
    with pytest.raises(AnswerError, match="called tools 1 times"):
        session.calls.check_answered(session.chat)
    script.answer = lambda messages: chunks("fine")
    converse(session, Lines("thanks"))
    session.calls.check_answered(session.chat)
    assert "(stopped" not in capsys.readouterr().err
