"""Reads the text files that people bring: one problem, one clear line."""

from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from .bounded import read_bytes

MOST = 2**31  # bytes of examples


def read_text(path: Path) -> str:
    """The text of a file, without a byte-order mark, lines ending in "\\n" alone.

    Raises DataError.
    """
    try:
        return read_bytes(path, MOST).decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from None


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, and their numbers from 1.

    Not `splitlines`: JSON text may hold U+2028, which is no end of a line.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line
