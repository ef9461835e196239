"""The end of an answer, drawn anew in place as it changes."""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import TextIO

from .styled import shown_columns
from .wrap import window

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"  # shown at once by terminals that know it
ERASE_BELOW = "\r\x1b[J"

# Terminals that break a row anew when the window gets too narrow for it: by the value
# of TERM_PROGRAM, and by variables that they set.
REFLOWING = {"Apple_Terminal", "iTerm.app", "WezTerm", "ghostty", "vscode"}
SET_BY_OTHERS = {"KITTY_WINDOW_ID", "VTE_VERSION", "ALACRITTY_WINDOW_ID", "TMUX"}


def reflows(environ: Mapping[str, str]) -> bool:
    """Whether the terminal is known to break rows anew. Others may leave some of them
    twice, but nothing above them is erased."""
    named = environ.get("TERM_PROGRAM") in REFLOWING
    return named or not SET_BY_OTHERS.isdisjoint(environ)


def height(row: str, room: int) -> int:
    """How many rows of a window of `room` columns `row` takes."""
    return max(1, -(-shown_columns(row) // room))


def last_rows(rows: Sequence[str], size: os.terminal_size) -> Sequence[str]:
    """Those that can still be reached in the window: at least one."""
    left = size.lines - 1
    for count, row in enumerate(reversed(rows)):
        left -= height(row, size.columns)
        if left < 0:
            return rows[len(rows) - max(1, count) :]
    return rows


class Live:
    """Rows that may still change; the cursor stands behind the last of them."""

    def __init__(self, stream: TextIO, write: Callable[[str], None]) -> None:
        self._stream = stream
        self._write = write
        self._drawn: Sequence[str] = [""]
        self._room = self.room

    def forget(self) -> None:
        """Leaves what is drawn as it is, and goes on below it."""
        self._drawn = [""]

    @property
    def room(self) -> int:
        return window(self._stream).columns

    def draw(self, done: Sequence[str], rows: Sequence[str]) -> None:
        """Puts `done`, which stays, and `rows`, at least one, in place of those before.

        Of `rows` only as many are drawn as the window holds.
        """
        size = window(self._stream)
        rows = last_rows(rows, size)
        before, after = self._drawn, [*done, *rows]
        same = 0
        if size.columns == self._room:
            pairs = zip(before[:-1], after[:-1], strict=False)
            same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        if before != after:
            self._write(self._change(before[same:], after[same:], size))
        # Afterwards: where Ctrl-C comes between, old rows stay but none is lost.
        self._drawn, self._room = rows, size.columns

    def _change(
        self, old: Sequence[str], new: Sequence[str], size: os.terminal_size
    ) -> str:
        """What makes the rows `new` of `old`."""
        if len(old) == 1 and new[0].startswith(old[0]):
            return "\n".join(new).removeprefix(old[0])
        room = size.columns if reflows(os.environ) else self._room
        up = min(sum(height(row, room) for row in old), size.lines) - 1
        start = f"\x1b[{up}A" if up else ""
        return BEGIN + start + ERASE_BELOW + "\n".join(new) + END
