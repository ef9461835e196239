"""Rows that end between words, of whole texts and of such that come in pieces."""

import random

import pytest

from mlx_gemma4.cli.terminal.text import columns
from mlx_gemma4.cli.terminal.wrap import Flow, rows, wrapped

FLOWS = "A word, a fence of rows and\n\n  an indented line, not\tmore than that.  \n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", [""]),
        ("one", ["one"]),
        ("one two three", ["one two", "three"]),
        ("one two  three", ["one two", "three"]),
        ("exactly 10", ["exactly 10"]),
        ("exactly 10 ", ["exactly 10"]),
        ("  indented too", ["  indented", "too"]),
        ("one\n\ntwo", ["one", "", "two"]),
        ("a https://e.org/long b", ["a", "https://e.org/long", "b"]),
        ("one two\u00a0three", ["one", "two\u00a0three"]),
        ("東京は日本の首都です。", ["東京は日本", "の首都で", "す。"]),
        ("東京は日本、の首", ["東京は日", "本、の首"]),
        ("e\u0301" * 10 + " x", ["e\u0301" * 10, "x"]),
        ("👍🏽 👍🏽 👍🏽 👍🏽", ["👍🏽 👍🏽 👍🏽", "👍🏽"]),
    ],
)
def test_rows(text: str, shown: list[str]) -> None:
    assert [text[row] for row in rows(text, 10)] == shown


@pytest.mark.parametrize("room", [10, 17, 80])
def test_pieces_give_what_the_whole_gives(room: int) -> None:
    text = f"{FLOWS}{'東京は日本の首都です。' * 3} \u00e9 {'x' * 30} end\n last one"
    chosen = random.Random(1)
    for _ in range(5):
        flow, left, shown = Flow(), text, ""
        while left:
            count = chosen.randint(1, 9)
            shown += flow.take(left[:count], room)
            left = left[count:]
        assert shown + flow.rest(room) == wrapped(text, room)


def test_words_come_once_they_are_whole() -> None:
    flow = Flow()
    assert [flow.take(piece, 80) for piece in ("One", " two", " th", "ree\n", "4")] == [
        "",
        "One",
        " two",
        " three\n",
        "",
    ]
    assert flow.rest(80) == "4"


def test_what_is_wider_than_the_window_does_not_wait() -> None:
    flow = Flow()
    assert flow.take("see ", 10) + flow.take("https://e.org/", 10) == (
        "see\nhttps://e.org/"
    )
    assert flow.take("page", 10) + flow.take(" x", 10) + flow.rest(10) == "page\nx"


def test_code_is_not_broken() -> None:
    code = "```sh\nrun --this with --many --options\n```\n"
    flow = Flow()
    shown = "".join(flow.take(piece, 10) for piece in (code[:9], code[9:20], code[20:]))
    assert shown == code
    assert flow.take("and words again ", 10) + flow.rest(10) == "and words\nagain"


def test_a_window_that_becomes_narrower() -> None:
    flow = Flow()
    shown = flow.take("one two three four ", 40)
    shown += flow.take("five six seven eight", 10) + flow.rest(10)
    first, *rest = shown.split("\n")
    assert shown.split() == "one two three four five six seven eight".split()
    assert rest and all(columns(row) <= 18 for row in rest)
