"""CSV: rows under a heading that names the fields of examples, or two columns without.

Whether a first row such as `Frage,Antwort` is a heading or an example cannot be told,
and is asked: to learn a heading is to learn nonsense.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from .fields import FIELDS, is_file_name

# A row of such cells may be a heading.
NAME = re.compile(r"[^\W\d][\w./-]*( [\w./-]+){0,2}(?<![.])|unnamed: \d+[.\d]*")
INDEX = "unnamed: 0"  # pandas writes it without a name, and reads it with this one
LONGEST = 40  # characters of one
NAMELESS = ("prompt", "completion")


@dataclass(frozen=True)
class Row:
    """An example by its fields, or the `problem` of a row that is none."""

    line: int
    values: dict[str, Any]
    problem: str = ""


def read_rows(text: str) -> Iterator[Row]:
    """The rows of a CSV. Raises DataError where its heading cannot be used."""
    # Not splitlines: U+2028 in a cell ends no row.
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: tuple[str, ...] | None = None
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield Row(rows.line_num, {}, f"is no CSV ({error}){_remedy(error)}")
            return
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        if names is None:
            heading = _heading(row)
            names = heading or NAMELESS
            if heading:
                continue
        if len(row) != len(names):
            wanted = "two" if names is NAMELESS else f"the {len(names)} of its heading"
            yield Row(rows.line_num, {}, f"has {len(row)} columns instead of {wanted}")
            continue
        yield Row(rows.line_num, _values(names, row))


def _values(names: tuple[str, ...], row: list[str]) -> dict[str, Any]:
    """Without empty cells; without a heading, these are empty texts."""
    cells = zip(names, row, strict=True)
    return {name: cell for name, cell in cells if cell or names is NAMELESS}


def _heading(row: list[str]) -> tuple[str, ...] | None:
    """The names in the first row, or None if that is an example. Raises DataError."""
    names = tuple(cell.strip().lower() for cell in row)
    if len(row) == 1 and (found := re.search("[;\t]", row[0])):
        mark = "tabs" if found[0] == "\t" else "semicolons"
        raise DataError(f"has its columns between {mark}: save it with commas")
    known = any(name in FIELDS or is_file_name(name) for name in names)
    if known and not names[0]:
        names = (INDEX, *names[1:])
    if not all(NAME.fullmatch(name) and len(name) <= LONGEST for name in names):
        return None
    if not known:
        raise DataError(
            f"begins with {', '.join(cell.strip() for cell in row)}, which may be a "
            "heading or an example: put the row prompt,completion in its place, or "
            "above it if it is an example"
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"has two columns named {twice}")
    return names


def _remedy(error: csv.Error) -> str:
    return ": write it as jsonl" if "field limit" in str(error) else ""
