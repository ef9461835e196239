"""A window of a terminal: what one sees of what was written to it."""

import io
import re
from typing import Any

import pytest

from mlx_gemma4.cli.terminal.text import clusters, columns

PARTS = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\n|\r|[^\x1b\n\r]+")
TELLING = ("TMUX", "VTE_VERSION", "KITTY_WINDOW_ID", "ALACRITTY_WINDOW_ID", "NO_COLOR")


class Window(io.StringIO):
    """In place of a stream: `rows` is all that was shown, also above the window.

    reflows: whether a row that is too wide for a narrower window goes on in the next
    one, as in most terminals; in others its end is cut off.
    """

    encoding: Any = "utf-8"  # a StringIO has none

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        columns: int = 40,
        lines: int = 10,
        reflows: bool = False,
    ) -> None:
        super().__init__()
        self._patch = patch
        self._cells: list[list[str]] = [[]]
        self._goes_on: list[bool] = [False]  # whether a row is the end of the one above
        self._row = self._column = self._top = 0
        self._reflows = reflows
        for name in TELLING:
            patch.delenv(name, raising=False)
        patch.setenv("TERM", "xterm")
        patch.setenv("TERM_PROGRAM", "ghostty" if reflows else "none")
        self._set(columns, lines)

    @property
    def rows(self) -> list[str]:
        return ["".join(cells).rstrip() for cells in self._cells]

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        assert "".join(match[0] for match in PARTS.finditer(text)) == text, repr(text)
        for match in PARTS.finditer(text):
            if match[2]:
                self._control(match[1], match[2])
            elif match[0] == "\n":
                self._down(goes_on=False)
            elif match[0] == "\r":
                self._column = 0
            else:
                for cluster in clusters(match[0]):
                    self._put(cluster)
        return super().write(text)

    def resize(self, columns: int, lines: int) -> None:
        if self._reflows:
            self._break_anew(columns)
        else:
            self._cells = [cells[:columns] for cells in self._cells]
            self._column = min(self._column, columns)
        self._set(columns, lines)
        self._top = max(0, self._row - lines + 1)

    def _set(self, columns: int, lines: int) -> None:
        self._columns, self._lines = columns, lines
        self._patch.setenv("COLUMNS", str(columns))
        self._patch.setenv("LINES", str(lines))

    def _control(self, value: str, letter: str) -> None:
        if letter == "A":
            self._row = max(self._top, self._row - int(value or 1))
        elif letter in "JK" and not value:
            del self._cells[self._row][self._column :]
            if letter == "J":
                del self._cells[self._row + 1 :], self._goes_on[self._row + 1 :]
        else:
            assert letter == "m" or value == "?2026", value + letter

    def _down(self, goes_on: bool) -> None:
        self._row += 1
        self._column = 0
        self._top = max(self._top, self._row - self._lines + 1)
        if self._row == len(self._cells):
            self._cells.append([])
            self._goes_on.append(goes_on)

    def _put(self, cluster: str) -> None:
        wide = columns(cluster)
        if self._column + wide > self._columns:
            self._down(goes_on=True)
        cells = [cluster, ""][:wide]
        self._cells[self._row][self._column : self._column + wide] = cells
        self._column += wide

    def _break_anew(self, columns: int) -> None:
        whole: list[list[str]] = []
        for cells, goes_on in zip(self._cells, self._goes_on, strict=True):
            if goes_on:
                whole[-1].extend(cells)
            else:
                whole.append([*cells])
        self._cells, self._goes_on = [], []
        for cells in whole:
            starts = range(0, max(1, len(cells)), columns)
            self._cells += [cells[start : start + columns] for start in starts]
            self._goes_on += [start > 0 for start in starts]
        self._row = len(self._cells) - 1  # the cursor is behind the last row
        self._column = len(self._cells[-1])
