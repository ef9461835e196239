"""An answer as it comes: always what the whole would be, and little drawn twice."""

import random
import re
from collections.abc import Sequence

import pytest
from windows import Window

from mlx_gemma4.cli.terminal import markdown
from mlx_gemma4.cli.terminal.blocks import blocks, stacked
from mlx_gemma4.cli.terminal.live import Live
from mlx_gemma4.cli.terminal.markdown import Markdown
from mlx_gemma4.cli.terminal.styled import STYLE

ANSWER = """\
# An answer

Some **bold words** and `code`, [a link](https://example.org/x) and more of the same
to fill the rows.
Second line, **still *going* on**.

* one is long enough that it goes on in a second row
* two
    1. nested

       ```py
       code()
       ```
* [ ] three

```sh
cd there

  run --with --many --options --and-more
```
| Name | Size | What |
|------|-----:|------|
| a **b** | 1 | words that need a second row of it |
| c | 22 | `x` |

> a quote
> of two lines

1. first

   more of it

2. second

---
The end is **not closed and `neither is this"""


@pytest.fixture(autouse=True)
def every_piece_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "INTERVAL", 0)
    monkeypatch.setattr(markdown, "SHARE", 0)


class Drawn:
    """In place of Live: what was printed for good, and what was drawn each time."""

    room = 60

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tails: list[Sequence[str]] = []

    def draw(self, done: Sequence[str], rows: Sequence[str]) -> None:
        self.done += done
        self.tails.append([STYLE.sub("", row) for row in rows])


def told(text: str, *sizes: int) -> Drawn:
    """Tells `text` in pieces of at most so many characters, by chance."""
    drawn, chosen = Drawn(), random.Random(1)
    answer = Markdown(drawn)  # type: ignore[arg-type]
    while text:
        count = chosen.randint(*sizes)
        answer.take(text[:count])
        text = text[count:]
    answer.end()
    return drawn


@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (20, 90), (9999, 9999)])
def test_in_the_end_the_whole_is_shown(sizes: tuple[int, int]) -> None:
    assert told(ANSWER, *sizes).done == stacked(blocks(ANSWER, 60))


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10), (40, 3), (17, 6)])
def test_in_any_window(
    monkeypatch: pytest.MonkeyPatch, columns: int, lines: int
) -> None:
    """Nothing is lost at its upper edge, and nothing is there twice."""
    window = Window(monkeypatch, columns, lines)
    answer = Markdown(Live(window, lambda text: window.write(text) and None))
    window.write("above\n")
    for piece in re.findall(r"\s*\S{1,5}|\s+$", ANSWER):
        answer.take(piece)
    answer.end()
    rows = [STYLE.sub("", row) for row in stacked(blocks(ANSWER, columns))]
    physical = [
        row[start : start + columns].rstrip()
        for row in rows
        for start in range(0, max(1, len(row)), columns)
    ]
    assert window.rows == ["above", *physical, ""]


@pytest.mark.parametrize("reflows", [True, False])
def test_while_the_window_changes(
    monkeypatch: pytest.MonkeyPatch, reflows: bool
) -> None:
    window = Window(monkeypatch, 40, 30, reflows)
    answer = Markdown(Live(window, lambda text: window.write(text) and None))
    words = [f"word{n}" for n in range(40)]
    for number, word in enumerate(words):
        answer.take(f"{word} ")
        if number % 10 == 9:
            window.resize((25, 33, 20, 40)[number // 10], 30)
    answer.end()
    assert " ".join(window.rows).split() == words


def test_finished_blocks_are_printed_for_good() -> None:
    drawn = told("one\n\n- a\n- b\n\n```\nx\ny\nz", 1, 1)
    tails = [tail[-1] for tail in drawn.tails]
    for earlier, later in (("one", "• a"), ("• a", "• b"), ("• b", "x"), ("x", "y")):
        last = max(n for n, tail in enumerate(tails) if tail == earlier)
        assert last < min(n for n, tail in enumerate(tails) if tail == later)
    assert all(len(tail) <= 2 for tail in drawn.tails)


def test_marks_do_not_flash() -> None:
    """What is drawn never shows them: they are read as closed, or wait."""
    source = (
        "a **bold *and* text**, `code`, ~~no~~\n- x\n\n[link](http://e.org) <http://a>"
    )
    drawn = told(source, 1, 1)
    assert not [
        row for tail in drawn.tails for row in tail if re.search(r"[*`~[<]", row)
    ]


def test_a_table_is_never_seen_as_text() -> None:
    drawn = told("so:\n\n| a | b |\n|---|---|\n| c | d |\n| e | f |", 1, 1)
    assert not [row for tail in drawn.tails for row in tail if "|" in row]


def test_tables_of_code_lines_stay_code() -> None:
    drawn = told("```\n| a | b |\n|---|---|\n```\n", 1, 1)
    assert [STYLE.sub("", row) for row in drawn.done] == ["| a | b |", "|---|---|"]


def test_an_open_end_is_shown_as_it_was_written() -> None:
    assert told("it is **not closed", 1, 3).done == ["it is **not closed"]
    assert told("- a\n-", 1, 3).done == ["• a", "• "]


def test_the_next_answer_starts_anew() -> None:
    drawn = Drawn()
    answer = Markdown(drawn)  # type: ignore[arg-type]
    for text in ("```\ncode", "*one*", "two"):
        answer.take(text)
        answer.end()
    assert [STYLE.sub("", row) for row in drawn.done] == ["code", "one", "two"]


def test_a_slow_drawing_is_not_repeated_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer must not wait for its looks, and the end shows all of it."""
    monkeypatch.setattr(markdown, "INTERVAL", 3600)
    drawn = told("one two three four", 1, 1)
    assert len(drawn.tails) == 2
    assert drawn.done == ["one two three four"]
