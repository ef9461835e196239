"""/continue, /copy and /history: what can be done with an answer."""

import sys

import pytest
from scripted import Lines, chunks, roles

from mlx_gemma4 import Chunk, Response, ToolCall
from mlx_gemma4.cli.chat import answers
from mlx_gemma4.cli.chat.answers import code_in, open_block
from mlx_gemma4.cli.chat.interactive import converse
from mlx_gemma4.cli.chat.session import ends_of
from mlx_gemma4.generation.answer import Stats

CODE = "Two:\n\n```python\nprint(1)\n```\n\n- in a list\n\n  ```\n  x = 2\n  ```\n\nend"


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What came to the clipboard."""
    texts: list[str] = []

    def take(text: str) -> str:
        texts.append(text)
        return "a board"

    monkeypatch.setattr(answers, "put_on_clipboard", take)
    return texts


def test_a_cut_answer_is_gone_on_with(session, script, capsys):
    script.answer = lambda messages: chunks("half an", finish_reason="length")
    converse(session, Lines("go"))
    assert "/continue goes on with it." in capsys.readouterr().err
    script.answer = lambda messages: chunks("half an answer")
    converse(session, Lines("/continue"))
    assert capsys.readouterr().out == " answer\n"
    first, second = script.asked
    assert second.messages == first.messages
    assert (second.begun, second.seed) == ([1, 1], first.seed)
    assert session.chat.messages[-1]["content"] == "half an answer"
    converse(session, Lines("/continue"))
    assert "at its end" in capsys.readouterr().err
    assert len(script.asked) == 2


def test_what_an_answer_began_with_stays(session, script):
    script.answer = lambda messages: chunks("half", finish_reason="length")
    converse(session, Lines("/think on", "go", "/think off", "/continue"))
    assert [asked.thinking for asked in script.asked] == [True, True]
    converse(session, Lines("next"))
    assert script.asked[-1].thinking is False


def test_on_a_terminal_the_last_block_is_shown_again(
    session, script, capsys, monkeypatch
):
    script.answer = lambda messages: chunks("one\n\nhalf an", finish_reason="length")
    converse(session, Lines("go"))
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    script.answer = lambda messages: chunks("one\n\nhalf an answer")
    converse(session, Lines("/continue"))
    assert capsys.readouterr().out == "half an answer\n"
    assert session.chat.messages[-1]["content"] == "one\n\nhalf an answer"


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("a b", "a b"),
        ("one\n\ntwo", "two"),
        ("one\n\n```\nx\n\ny", "```\nx\n\ny"),
        ("one\n\n```\nx\n\ny\n```\n\nbehind", "behind"),
        ("one\n\n", ""),
    ],
)
def test_where_the_last_block_begins(text: str, block: str):
    assert text[open_block(text) :] == block


def test_a_continuation_that_fails_leaves_the_answer(session, script, capsys):
    script.answer = lambda messages: chunks("half an", finish_reason="length")
    converse(session, Lines("go"))
    before = session.chat.messages[-1]

    def fail(messages):
        yield from chunks("half an")[:1]
        raise RuntimeError("unforeseen")

    script.answer = fail
    converse(session, Lines("/continue"))
    assert "unforeseen" in capsys.readouterr().err
    assert session.chat.messages[-1] is before
    script.answer = lambda messages: chunks("half an answer")
    converse(session, Lines("/continue"))
    assert session.chat.messages[-1]["content"] == "half an answer"


def test_a_call_is_not_shown_again(session, script, capsys):
    call = ToolCall("now", {})
    begun = Chunk("", token=1, tool_calls=(call,))
    rest = [Chunk("", token=1), Chunk("", token=2, tool_calls=(call,))]
    script.answer = lambda messages: [begun, Chunk("", 1, finish_reason="length")]
    converse(session, Lines("go"))
    assert capsys.readouterr().out.count("now") == 1
    script.answer = lambda messages: [begun, *rest, *chunks("so")]
    converse(session, Lines("/continue"))
    assert capsys.readouterr().out.count("now") == 1
    assert len(session.chat.messages[-1]["tool_calls"]) == 2


@pytest.mark.parametrize("lines", [(), ("one", "/undo")])
def test_there_is_nothing_to_go_on_with(session, capsys, lines):
    converse(session, Lines(*lines, "/continue", "/copy", "/history"))
    told = capsys.readouterr().err
    for said in ("no answer to go on", "no answer to copy", "Nothing was said"):
        assert said in told


def test_an_answer_is_copied_or_the_code_in_it(session, script, copied, capsys):
    script.answer = lambda messages: chunks(CODE)
    lines = ("/copy", "/copy code", "/copy code 2", "/copy code 3", "/copy all")
    converse(session, Lines("go", *lines))
    assert copied == [CODE, "print(1)\n\nx = 2\n", "x = 2\n"]
    said = capsys.readouterr().err
    assert "Copied the answer: 13 lines, to a board." in said
    assert "2 blocks of code" in said and "not 'all'" in said


def test_an_answer_without_code(session, copied, capsys):
    converse(session, Lines("one", "/copy code"))
    assert "no block of code" in capsys.readouterr().err
    assert copied == []
    assert code_in("    indented = 1\n", "code")[0] == "indented = 1\n"
    assert code_in("```\nnever closed", "code")[0] == "never closed"


def test_history_shows_who_said_what(session, capsys):
    converse(session, Lines("one\ntwo", "three"))
    capsys.readouterr()
    converse(session, Lines("/history"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        *("> one", "> two", "you said one", "two"),
        *("> three", "you said three"),
    ]
    assert roles(session) == "user assistant user assistant"


def test_a_thought_that_went_round_in_circles_says_what_helps() -> None:
    stats = Stats(prompt_tokens=1, cached_tokens=0, seed=0, loops=1)
    answer = Response(thought="so, so", finish_reason="stop", stats=stats)
    told = list(ends_of(answer))
    assert len(told) == 2 and all("--think-budget N" in note for note in told)
    assert not list(ends_of(Response(text="Yes.", finish_reason="stop")))
