"""Text in the rows of a window: broken between words, never inside of one."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

from .text import SCRIPTS, columns, places

FENCES = ("```", "~~~")
BLANKS = " +"


def window(stream: TextIO) -> os.terminal_size:
    """The window that `stream` is shown in; 80 columns where nobody says."""
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(stream.fileno())
        if size.columns and size.lines:
            return size
    return shutil.get_terminal_size()


def printed_columns() -> int | None:
    """Of the terminal that is printed on, if it is one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def rows(text: str, room: int) -> Iterator[slice]:
    """Where the rows of `text` are. A word wider than `room` columns stays whole."""
    start = 0
    for line in text.split("\n"):
        for row in _rows_of_line(line, room):
            yield slice(start + row.start, start + row.stop)
        start += len(line) + 1


def _rows_of_line(line: str, room: int) -> Iterator[slice]:
    start = end = after = width = 0
    length = len(line.rstrip(" "))
    for stop, go_on in (*word_ends(line[:length]), (length, length)):
        width += columns(line[end:stop])
        if end > start and width > room:
            yield slice(start, end)
            start, width = after, columns(line[after:stop])
        end, after = stop, go_on
    yield slice(start, end)


def word_ends(text: str) -> list[tuple[int, int]]:
    """Where a row may end, each with where the next would begin."""
    return places(text, BLANKS if text.isascii() else f"{BLANKS}|{SCRIPTS}")


def wrapped(text: str, room: int) -> str:
    return "\n".join(text[row] for row in rows(text, room))


class Flow:
    """Plain text as it comes. The last word waits until it is known where it ends.

    Nothing is broken in fenced code, so that it can be copied.
    """

    def __init__(self) -> None:
        self._row = ""  # what is shown of the last row
        self._word = ""  # what follows it, and waits
        self._code = False

    def take(self, text: str, room: int) -> str:
        """What can be shown now, in a window of `room` columns."""
        shown = ""
        *lines, last = (self._word + text).split("\n")
        for line in lines:
            shown += self._add(line, room) + "\n"
            self._code ^= self._row.lstrip().startswith(FENCES)
            self._row = ""
        end = self._settled(last, room)
        self._word = last[end:]
        return shown + self._add(last[:end], room)

    def rest(self, room: int) -> str:
        word, self._word = self._word, ""
        return self._add(word, room)

    def _settled(self, text: str, room: int) -> int:
        """Where the last word that is whole ends in `text`, which follows the row."""
        if self._code:
            return len(text)
        shown = len(self._row)
        ends = [end for end, _ in word_ends(self._row + text) if end > shown]
        end = ends[-1] - shown if ends else 0
        return len(text.rstrip(" ")) if columns(text[end:]) > room else end

    def _add(self, text: str, room: int) -> str:
        if self._code:
            self._row += text
            return text
        shown = self._row
        laid_out = wrapped(shown + text, max(room, columns(shown)))
        self._row = laid_out.rpartition("\n")[2]
        return laid_out[len(shown) :]
