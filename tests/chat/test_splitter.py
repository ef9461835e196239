"""Thought, calls and answer, whatever way the marks fall across chunks."""

import re
from itertools import combinations
from random import Random

import pytest

from mlx_gemma4.chat.calls import QUOTE
from mlx_gemma4.chat.splitter import (
    MARKERS,
    Fragment,
    Splitter,
    StopStrings,
    opens_thought,
)
from mlx_gemma4.chat.tools import parse_call
from mlx_gemma4.errors import ChatError

WEATHER = 'call:get_weather{city:<|"|>Rome<|"|>}'
ODD_STRING = 'call:w{t:<|"|>}<tool_call|> <turn|><channel|>{<|"|>}'


def joined(pieces: list[Fragment]) -> list[tuple[str, str]]:
    """Neighbouring pieces of one kind as one; calls stay apart."""
    result: list[tuple[str, str]] = []
    for piece in pieces:
        if result and result[-1][0] == piece.kind != "tool_call":
            result[-1] = (piece.kind, result[-1][1] + piece.text)
        else:
            result.append((piece.kind, piece.text))
    return result


def split(*chunks: str, inside_thought: bool = False) -> list[tuple[str, str]]:
    splitter = Splitter(inside_thought)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    return joined(pieces + splitter.finish())


CASES = {
    "an answer": ("Hello <b>!</b>", [("answer", "Hello <b>!</b>")]),
    "nothing": ("", []),
    "a thought": (
        "<|channel>thought\nHm.\nYes.\n<channel|>Hello<turn|>",
        [("thought", "Hm.\nYes."), ("answer", "Hello")],
    ),
    "an empty thought": ("<|channel>thought\n<channel|>Hi", [("answer", "Hi")]),
    "a name without its newline": ("<|channel>thought<channel|>Hi", [("answer", "Hi")]),
    "one newline belongs to the mark": (
        "<|channel>thought\n\nHm\n\n<channel|>\nHi\n",
        [("thought", "\nHm\n"), ("answer", "\nHi\n")],
    ),
    "a call": (
        f"<|tool_call>{WEATHER}<tool_call|><|tool_response>",
        [("tool_call", WEATHER)],
    ),
    "calls side by side": (
        f"I look.<|tool_call>{WEATHER}<tool_call|><|tool_call>call:b{{}}<tool_call|>",
        [("answer", "I look."), ("tool_call", WEATHER), ("tool_call", "call:b{}")],
    ),
    "a call inside a thought": (
        f"<|channel>thought\nLet's go.<|tool_call>{WEATHER}<tool_call|>Done",
        [("thought", "Let's go."), ("tool_call", WEATHER), ("answer", "Done")],
    ),
    "a thought closed after the call": (
        f"<|channel>thought\nGo\n<|tool_call>{WEATHER}<tool_call|><channel|>Done",
        [("thought", "Go\n"), ("tool_call", WEATHER), ("answer", "Done")],
    ),
    "a call without its opening mark": (
        f"<|channel>thought\nGo\n<channel|>{WEATHER}<tool_call|>",
        [("thought", "Go"), ("tool_call", WEATHER)],
    ),
    "a call without any mark after a thought": (
        f"<|channel>thought\nGo\n<channel|>\n{WEATHER}<turn|>",
        [("thought", "Go"), ("answer", "\n"), ("tool_call", WEATHER)],
    ),
    "what looks like a call, and goes on": (
        "<|channel>thought\nGo\n<channel|>call:f{a:1} is how you call f.",
        [("thought", "Go"), ("answer", "call:f{a:1} is how you call f.")],
    ),
    "what looks like a call, without any thought": (
        "call:f{a:1}<turn|>",
        [("answer", "call:f{a:1}")],
    ),
    "a call that only the tool's turn follows": (
        "call:f{a:1}<|tool_response>",
        [("tool_call", "call:f{a:1}")],
    ),
    "a word that begins like a call": ("call: me", [("answer", "call: me")]),
    "the end of an answer is no call": ("So: call:f{}", [("answer", "So: call:f{}")]),
    "marks and braces inside a string": (
        f"<|tool_call>{ODD_STRING}<tool_call|>ok",
        [("tool_call", ODD_STRING), ("answer", "ok")],
    ),
    "a call that lacks its closing mark": (
        f"<|tool_call>{WEATHER}<|tool_response>",
        [("tool_call", WEATHER)],
    ),
    "a call that lacks its closing mark before another": (
        f"<|tool_call>{WEATHER}<|tool_call>call:b{{}}<tool_call|>",
        [("tool_call", WEATHER), ("tool_call", "call:b{}")],
    ),
    "call cut off in its name": (
        "<|tool_call>call:get_wea",
        [("malformed_call", "call:get_wea")],
    ),
    "second call cut off in its name": (
        "<|tool_call>call:a{x:1},call:dele",
        [("malformed_call", "call:a{x:1},call:dele")],
    ),
    "call without arguments": (
        "<|tool_call>call:get_weather<tool_call|>",
        [("tool_call", "call:get_weather")],
    ),
    "a call cut off": (
        'Look: <|tool_call>call:get_weather{city:<|"|>Ro',
        [("answer", "Look: "), ("malformed_call", f"call:get_weather{{city:{QUOTE}Ro")],
    ),
    "a call cut off by the next": (
        "<|tool_call>call:a{b:<|tool_call>call:b{}<tool_call|>",
        [("malformed_call", "call:a{b:"), ("tool_call", "call:b{}")],
    ),
    "a malformed call": (
        f"<|tool_call>call:a({QUOTE}b{QUOTE})<tool_call|>c",
        [("malformed_call", f"call:a({QUOTE}b{QUOTE})"), ("answer", "c")],
    ),
    "a call that a mark spoils": (
        f"<channel|>call:f{{}}{QUOTE} is not a call{QUOTE}",
        [("answer", "call:f{} is not a call")],
    ),
    "a string in the quotes of JSON": (
        '<|tool_call>call:f{a:"}"}<tool_call|>',
        [("tool_call", 'call:f{a:"}"}')],
    ),
    "a quote that is not closed": (
        f"<|tool_call>call:f{{a:{QUOTE}1}}<tool_call|>",
        [("malformed_call", f"call:f{{a:{QUOTE}1}}")],
    ),
    "a quote within a string": (
        f"<|tool_call>call:f{{a:{QUOTE}say {QUOTE} now{QUOTE}}}<tool_call|>ok",
        [
            ("tool_call", f"call:f{{a:{QUOTE}say {QUOTE} now{QUOTE}}}"),
            ("answer", "ok"),
        ],
    ),
    "several calls between two marks": (
        "<|tool_call>call:a{x:1}, call:b(y='}')<tool_call|>ok",
        [("tool_call", "call:a{x:1}, call:b(y='}')"), ("answer", "ok")],
    ),
    "what looks like a call after a call": (
        "<channel|><|tool_call>call:f{}<tool_call|>call:g{}<turn|>",
        [("tool_call", "call:f{}"), ("answer", "call:g{}")],
    ),
    "braces that do not match": (
        f"<|tool_call>call:f{{a:{{}}<tool_call|>{QUOTE}c",
        [("malformed_call", "call:f{a:{}"), ("answer", "c")],
    ),
    "another channel": (
        "<|channel>plan\nFirst<channel|>Hi",
        [("thought", "plan\nFirst"), ("answer", "Hi")],
    ),
    "a name that only begins like thought": (
        "<|channel>though\nt<channel|>Hi",
        [("thought", "though\nt"), ("answer", "Hi")],
    ),
    "an unclosed thought": ("<|channel>thought\nHm\n", [("thought", "Hm\n")]),
    "an unclosed thought of nothing but its name": ("<|channel>thought", []),
    "an unclosed name": ("<|channel>thou", [("thought", "thou")]),
    "two thoughts": (
        "<|channel>thought\nA<channel|>b<|channel>thought\nC<channel|>d",
        [("thought", "A"), ("answer", "b"), ("thought", "C"), ("answer", "d")],
    ),
    "a thought reopened": (
        "<|channel>thought\nA<|channel>thought\nB<channel|>c",
        [("thought", "AB"), ("answer", "c")],
    ),
    "a name and an end without a beginning": (
        f"<|tool_call>{WEATHER}<tool_call|>thought\n<channel|>Done",
        [("tool_call", WEATHER), ("answer", "Done")],
    ),
    "an answer that begins like a name": (
        "thoughtful",
        [("answer", "thoughtful")],
    ),
    "an answer that is the name": ("thought\n", [("answer", "thought\n")]),
    "a stray end": ("Hi<channel|> you<tool_call|>", [("answer", "Hi you")]),
    "what resembles marks": (
        "<|channe <chan|> <|turn <turn <||turn> <<turn |> <turn|",
        [("answer", "<|channe <chan|> <|turn <turn <||turn> <<turn |> <turn|")],
    ),
    "a mark right after a false start": ("a<<turn|>b", [("answer", "a<b")]),
}


@pytest.mark.parametrize("name", CASES)
def test_splits(name: str):
    text, expected = CASES[name]
    assert split(text) == expected


@pytest.mark.parametrize("name", CASES)
def test_every_cut_gives_the_same(name: str):
    text, expected = CASES[name]
    assert split(*text) == expected
    places = range(1, len(text))
    pairs = list(combinations(places, 2))
    for a, b in Random(0).sample(pairs, min(len(pairs), 150)):
        assert split(text[:a], text[a:b], text[b:]) == expected, (a, b)
    for a in places:
        assert split(text[:a], text[a:]) == expected, a


def test_random_streams_do_not_depend_on_their_cuts():
    rng = Random(2)
    words = [*MARKERS, *["<|channel>", "<channel|>", "<|tool_call>", '<|"|>'] * 4]
    words += ["thought\n", "call:f{", "}", "{", "\n", "a b", "<", "<|", "|>", ","] * 3
    for _ in range(1000):
        text = "".join(rng.choice(words) for _ in range(rng.randrange(1, 14)))
        inside = rng.random() < 0.3
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(6)))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
        whole = split(text, inside_thought=inside)
        assert split(*chunks, inside_thought=inside) == whole, chunks


def test_no_special_token_reaches_answer_or_thought():
    rng = Random(3)
    words = [*MARKERS, *["<|channel>", "<channel|>", "<|tool_call>", '<|"|>'] * 4]
    words += ["thought\n", "call:f{", "}", "{", "\n", "a b", ","] * 3
    for _ in range(2000):
        text = "".join(rng.choice(words) for _ in range(rng.randrange(1, 14)))
        for kind, shown in split(text, inside_thought=rng.random() < 0.3):
            leaks = {mark for mark in MARKERS if mark in shown}
            if kind == "malformed_call":
                leaks -= {QUOTE}
            assert kind == "tool_call" or not leaks, text
            if kind == "tool_call":
                parse_call(shown)


def test_nothing_of_a_call_is_lost():
    """Read or not: what stood between the marks comes out, letter for letter."""
    rng = Random(6)
    pieces = f"call: f {{ }} ( ) [ ] , : = {QUOTE} {QUOTE} ' \" a b 1 True é".split()
    pieces += [" ", "\n", "call:f{", "a:"]
    kinds = set()
    for _ in range(3000):
        call = "".join(rng.choices(pieces, k=rng.randrange(1, 20)))
        call = rng.choice([call, f"call:f{{a:{call}}}"])
        found = split(f"Look:<|tool_call>{call}<tool_call|>Done")
        assert "".join(text for _, text in found) == f"Look:{call}Done", call
        kinds |= {kind for kind, _ in found}
    assert kinds == {"answer", "tool_call", "malformed_call"}


def test_a_thought_that_the_prompt_opened():
    text = "Hm\n<channel|>Hi"
    assert split(*text, inside_thought=True) == [("thought", "Hm"), ("answer", "Hi")]


def test_every_special_token_is_taken_out():
    for mark in MARKERS - {"<|channel>", "<channel|>", "<|tool_call>"}:
        assert split(f"a{mark}b") == [("answer", "ab")]
        thought = f"<|channel>thought\na{mark}b<channel|>"
        assert split(thought) == [("thought", "ab")] or mark == "<tool_call|>"
    splitter = Splitter(special_tokens=["<unused7>"])
    assert joined(splitter.feed("a<unused7>b")) == [("answer", "ab")]


def test_only_the_beginning_of_a_mark_is_held_back():
    splitter = Splitter()
    assert splitter.feed("Hello <") == [Fragment("answer", "Hello ")]
    assert splitter.feed("b> and <|chan") == [Fragment("answer", "<b> and ")]
    assert splitter.feed("ged") == [Fragment("answer", "<|changed")]
    assert splitter.feed(" a\n") == [Fragment("answer", " a\n")]
    assert splitter.finish() == []


def test_what_is_no_call_is_let_go_as_soon_as_that_is_certain():
    splitter = Splitter()
    assert splitter.feed("<channel|>call:f{a:1}\n") == []
    assert splitter.feed(QUOTE) == [Fragment("answer", "call:f{a:1}\n")]
    assert splitter.feed("x") == [Fragment("answer", "x")]


def test_a_thought_streams_up_to_its_last_newline():
    splitter = Splitter(inside_thought=True)
    assert splitter.feed("Hm\nso\n") == [Fragment("thought", "Hm\nso")]
    assert splitter.feed("on") == [Fragment("thought", "\non")]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<|turn>model\n", False),
        ("<|turn>model\n<|channel>thought\n<channel|>", False),
        ("<tool_response|><|channel>thought\n", True),
        ("<|channel>thought\nas far as", True),
        ("<|channel>thought\nx<turn|>\n<|turn>model\n", False),
        ("", False),
    ],
)
def test_whether_a_prompt_ends_in_a_thought(prompt: str, expected: bool):
    marks = ["<|channel>", "<channel|>", "<|turn>", "<turn|>"]
    special = {mark: number for number, mark in enumerate(marks)}
    pieces = re.split("(" + "|".join(map(re.escape, marks)) + ")", prompt)
    ids = [special.get(piece, 9) for piece in pieces]
    assert opens_thought(ids, special) is expected


def stopped(stops: list[str], *chunks: str) -> tuple[str, bool]:
    strings = StopStrings(stops)
    shown = "".join(strings.feed(chunk)[0] for chunk in chunks)
    return shown + strings.finish(), strings.hit


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        (["STOP"], "go on STOP here", ("go on ", True)),
        (["STOP"], "go on STO", ("go on STO", False)),
        (["b", "ab"], "cab", ("c", True)),
        (["abcd", "bc"], "abcx", ("a", True)),
        (["abcd", "bc"], "abcd", ("", True)),
        (["aab"], "aaab", ("a", True)),
        (["\n\n"], "a\nb\n\nc", ("a\nb", True)),
        ([], "text", ("text", False)),
    ],
)
def test_stop_strings(stops: list[str], text: str, expected: tuple[str, bool]):
    assert stopped(stops, text) == expected
    assert stopped(stops, *text) == expected


def test_stop_strings_hold_back_what_may_begin_one():
    strings = StopStrings(["END", "ED"])
    assert strings.feed("the E") == ("the ", False)
    assert strings.feed("nd EN") == ("End ", False)
    assert strings.feed("D more") == ("", True)
    assert strings.feed("and more") == ("", True)
    assert strings.finish() == ""


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ChatError, match="stop string"):
        StopStrings(["a", ""])
