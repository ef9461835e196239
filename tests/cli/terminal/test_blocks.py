"""Markdown as rows: what is shown of each kind of block, and that nothing is lost."""

import re

import pytest

from mlx_gemma4.cli.terminal import blocks as module
from mlx_gemma4.cli.terminal.blocks import blocks, stacked
from mlx_gemma4.cli.terminal.styled import STYLE, shown_columns

STYLES = {"bold": "1", "dim": "2", "italic": "3", "underlined": "4", "struck": "9"}


def shown(source: str, room: int = 40) -> list[str]:
    """The rows without their styles."""
    return [STYLE.sub("", row).rstrip() for row in stacked(blocks(source, room))]


def styled(source: str) -> str:
    return "\n".join(stacked(blocks(source, 80)))


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("", []),
        ("one\ntwo", ["one", "two"]),
        ("one  \ntwo<br>three", ["one", "two", "three"]),
        ("# Title\ntext", ["Title", "text"]),
        ("Title\n=====\n\ntext", ["Title", "", "text"]),
        ("a\n\n\n\nb", ["a", "", "b"]),
        ("text:\n* a\n* b", ["text:", "• a", "• b"]),
        ("- a\n\n- b\n\n  c", ["• a", "", "• b", "", "  c"]),
        ("- a\n  - b\n    - c\n- d", ["• a", "  • b", "    • c", "• d"]),
        ("9. a\n10. b\n    - c", ["9. a", "10. b", "    • c"]),
        ("1) a\n1) b", ["1) a", "1) b"]),
        ("- [ ] a\n- [x] b", ["• [ ] a", "• [x] b"]),
        ("-", ["•"]),
        ("> a\n> b\n>\n> > c", ["│ a", "│ b", "│", "│ │ c"]),
        ("---", ["─" * 40]),
        ("see [this](http://e.org/a_b)", ["see this (http://e.org/a_b)"]),
        ("<http://e.org> <a@e.org>", ["http://e.org a@e.org"]),
        ("[http://e.org](http://e.org)", ["http://e.org"]),
        ("![a cat](cat.png)", ["a cat (cat.png)"]),
        ("[a](http://e.org/Bär b)", ["[a](http://e.org/Bär b)"]),
        ("[a](http://e.org/Bär)", ["a (http://e.org/Bär)"]),
        ("a & b &amp; c < d", ["a & b & c < d"]),
    ],
)
def test_what_is_shown(source: str, rows: list[str]) -> None:
    assert shown(source) == rows


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 * 4 = 24 and 5 *6",
        "a snake_case_name, __init__.py",
        "$a_1 * b_1 = c_1 * d_1$ and \\(x_1 * y_1\\)",
        "$$\nx_1 = a_1\ny_1 * z_1 * 2\n$$",
        "\\[\nx = {1}\n\\]",
        "so:\n$$\nx = a \\\\\n- b\n+ c*d*e\n=\n$$\nand",
        "$$ one\n\ntwo",
        "it costs $5 and $10",
        "<b>no HTML</b> <script>x</script>",
        "[1]: http://e.org/reference",
        "a footnote[^1] and [2]",
        "**unclosed",
        "`unclosed",
        "[a](javascript:alert(1))",
    ],
)
def test_what_is_no_markdown_stays_as_it_is(text: str) -> None:
    assert "\n".join(shown(text, 80)) == text.replace("__init__", "init")


def test_styles() -> None:
    assert styled("**b** *i* ~~s~~ `c`") == (
        "\x1b[1mb\x1b[0m \x1b[3mi\x1b[0m \x1b[9ms\x1b[0m \x1b[36mc\x1b[0m"
    )
    assert styled("a **b *c***") == "a \x1b[1mb \x1b[0m\x1b[1;3mc\x1b[0m"
    assert styled("# a") == "\x1b[1;35ma\x1b[0m"
    assert styled("[a](http://b)") == "\x1b[4ma\x1b[0m\x1b[2m (http://b)\x1b[0m"


def test_no_row_ends_within_a_style() -> None:
    rows = stacked(blocks("**bold words over several rows** and more", 12))
    assert len(rows) > 2
    assert all(row.count("\x1b[1m") == row.count("\x1b[0m") for row in rows)


def test_code_can_be_copied() -> None:
    """No border, no padding, no row broken, and tabs as they are."""
    code = ["def f(x):", "", "\tif x:", "\t\treturn " + "x + " * 20 + "1  "]
    source = "```python\n" + "\n".join(code) + "\n```"
    rows = [STYLE.sub("", row) for row in stacked(blocks(source, 40))]
    assert rows == ["python", *code]


def test_code_stands_apart() -> None:
    source = "so:\n```\na\n\n```\nand\n\n    b\n\nc"
    assert shown(source) == ["so:", "", "a", "", "", "and", "", "b", "", "c"]


def test_code_in_a_list() -> None:
    source = "1. do\n\n   ```sh\n   run\n     it\n   ```\n2. done"
    assert shown(source) == ["1. do", "", "   sh", "   run", "     it", "", "2. done"]


TABLE = """\
| Name | Size | What it is for |
|:-----|-----:|:--------------:|
| `e2b` | 4 | small **and** quick |
| 日本 | 22 | |
"""


def test_a_table() -> None:
    assert shown(TABLE) == [
        "Name │ Size │ What it is for",
        "─────┼──────┼────────────────",
        "e2b  │    4 │ small and quick",
        "日本 │   22 │",
    ]


def test_a_table_is_as_wide_as_the_window() -> None:
    assert shown(TABLE, 24) == [
        "Name │ Size │ What it is",
        "     │      │    for",
        "─────┼──────┼───────────",
        "e2b  │    4 │ small and",
        "     │      │   quick",
        "日本 │   22 │",
    ]


def test_a_table_that_is_too_wide_is_a_list() -> None:
    assert shown(TABLE, 18) == [
        "Name: e2b",
        "Size: 4",
        "What it is for:",
        "  small and quick",
        "",
        "Name: 日本",
        "Size: 22",
        "What it is for:",
    ]


def test_lines_of_a_cell() -> None:
    rows = shown("| a | b |\n|---|---|\n| one<br>two | `x` |")
    assert rows[2:] == ["one │ x", "two │"]


def test_a_bar_too_many_loses_nothing() -> None:
    source = "| sign | means |\n|---|---|\n| `a || b` | or |"
    assert shown(source) == source.split("\n")


@pytest.mark.parametrize("room", [1, 10, 40])
def test_no_word_is_broken(room: int) -> None:
    words = "some words of rather different lengths"
    source = f"# {words}\n\n- {words}\n  > {words}\n\n| {words} | {words} |\n|-|-|\n"
    rows = shown(f"{source}| {words} | {words} |", room)
    found = re.findall(r"\w+", " ".join(rows))
    assert set(found) == set(words.split())
    assert room < 40 or all(shown_columns(row) <= room for row in rows)


HARMLESS = [
    "&#27;[2J and &#x9b;2J &#13; &#8;",
    "[a](http://e.org/&#27;]0;x&#7;)",
    "<http://e.org/%1b[2J>",
    "```a\x1b[2Jb\n\x1b]0;title\x07\n```",
    "| a\x1b[2J | `b\x9b2J` |\n|-|-|\n| \x08 | \x7f\r |",
    "    \x1b[31mcode",
]


@pytest.mark.parametrize("source", HARMLESS)
def test_control_characters_are_harmless(source: str) -> None:
    rows = "\n".join(stacked(blocks(source, 40)))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", STYLE.sub("", rows))


@pytest.mark.parametrize("mark", [">", "- ", "1. ", "**", "[", "`", "|", "*_"])
def test_depths_lose_nothing(mark: str) -> None:
    assert "deep" in "".join(shown(mark * 300 + " deep"))


@pytest.mark.parametrize("count", [20, 60])
def test_lists_in_lists_lose_nothing(count: int) -> None:
    rows = shown("\n".join("  " * n + f"- item{n}" for n in range(count)))
    assert re.findall(r"item\d+", "".join(rows)) == [f"item{n}" for n in range(count)]


def test_a_plain_paragraph_needs_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer to import than a short answer may take."""
    monkeypatch.setattr(module, "_tree", None)
    assert shown("The capital of France is Paris.") == [
        "The capital of France is Paris."
    ]
    with pytest.raises(TypeError):
        shown("**Paris**")
