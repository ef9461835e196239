"""Rows drawn anew in place: what is seen, and what is written for it."""

import os

import pytest
from windows import Window

from mlx_gemma4.cli.terminal.live import BEGIN, Live, height, last_rows


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Window:
    return Window(monkeypatch, columns=10, lines=4)


@pytest.fixture
def live(window: Window) -> Live:
    return Live(window, lambda text: window.write(text) and None)


def test_a_row_that_grows_is_written_on(window: Window, live: Live) -> None:
    live.draw([], ["one"])
    live.draw([], ["one two"])
    live.draw([], ["one two", "three"])
    assert window.getvalue() == "one two\nthree"


def test_what_stays_the_same_is_not_written(window: Window, live: Live) -> None:
    live.draw(["one"], ["two"])
    live.draw([], ["two"])
    assert window.getvalue() == "one\ntwo"


def test_only_what_changes_is_drawn_anew(window: Window, live: Live) -> None:
    live.draw([], ["one", "two", "three"])
    live.draw(["one", "2"], ["3"])
    assert window.rows == ["one", "2", "3"]
    assert window.getvalue().count("one") == 1
    live.draw(["3"], [""])
    assert window.rows == ["one", "2", "3", ""]


def test_fewer_rows_leave_nothing_behind(window: Window, live: Live) -> None:
    live.draw(["above"], ["one", "two", "three"])
    live.draw([], ["x"])
    assert window.rows == ["above", "x"]


def test_a_row_wider_than_the_window(window: Window, live: Live) -> None:
    live.draw(["above"], ["a" * 25])
    live.draw([], ["b" * 20, "c"])
    assert window.rows == ["above", "b" * 10, "b" * 10, "c"]
    live.draw([], ["d"])
    assert window.rows == ["above", "d"]


def test_more_rows_than_the_window_has(window: Window, live: Live) -> None:
    """The last are shown, and once they are done all of them are, each once."""
    window.write("above\n")
    for count in range(1, 9):
        live.draw([], [f"row {n}" for n in range(count)])
        assert window.rows[-1] == f"row {count - 1}"
    live.draw([f"row {n}" for n in range(8)], [""])
    assert window.rows == ["above", *(f"row {n}" for n in range(8)), ""]


def test_one_writing_for_each_change(window: Window) -> None:
    written: list[str] = []
    live = Live(window, written.append)
    live.draw([], ["one", "two"])
    live.draw(["1"], ["2", "3"])
    assert len(written) == 2 and written[1].startswith(BEGIN)


@pytest.mark.parametrize("reflows", [True, False])
@pytest.mark.parametrize("columns", [6, 20])
def test_another_width(
    monkeypatch: pytest.MonkeyPatch, columns: int, reflows: bool
) -> None:
    """Nothing above is touched, whether or not the terminal breaks rows anew."""
    window = Window(monkeypatch, columns=10, lines=12, reflows=reflows)
    live = Live(window, lambda text: window.write(text) and None)
    live.draw(["above"], ["one two", "three four"])
    window.resize(columns, 12)
    live.draw([], ["one", "two", "three", "four"])
    assert window.rows == ["above", "one", "two", "three", "four"]


def test_an_unknown_terminal_that_reflows_keeps_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rather that than to erase what is above."""
    window = Window(monkeypatch, columns=10, lines=12, reflows=True)
    monkeypatch.setenv("TERM_PROGRAM", "unknown")
    live = Live(window, lambda text: window.write(text) and None)
    live.draw(["above"], ["one two", "three four"])
    window.resize(6, 12)
    live.draw([], ["one", "two", "three", "four"])
    assert window.rows[0] == "above"
    assert window.rows[-4:] == ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        ("", 1),
        ("a" * 10, 1),
        ("a" * 11, 2),
        ("日本" * 3, 2),
        ("\t\x1b[1mabc\x1b[0m", 2),
        ("\x1b[1;35mabc\x1b[0m", 1),
    ],
)
def test_height(row: str, rows: int) -> None:
    assert height(row, 10) == rows


def test_at_least_one_row_is_drawn() -> None:
    size = os.terminal_size((10, 2))
    assert last_rows(["a", "b" * 99], size) == ["b" * 99]
    assert last_rows(["a", "b", "c"], size) == ["c"]
