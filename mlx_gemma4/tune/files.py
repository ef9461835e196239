"""Files of examples: mlx-lm's jsonl, CSV of two columns, or a folder of text.

Every line that cannot be used is found, and all are reported at once: whoever repairs
a file wants to do it once.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ..errors import DataError
from ..reading.text_file import numbered_lines, read_text
from .errors import listed_problems
from .records import FIELDS, Record, record_from

TEXT_SUFFIXES = (".txt", ".md")
# First rows of a CSV that are a heading; any other is an example.
HEADINGS = frozenset(
    {
        ("prompt", "completion"),
        ("prompt", "response"),
        ("question", "answer"),
        ("input", "output"),
        ("instruction", "response"),
        ("user", "assistant"),
    }
)


@dataclass
class Data:
    """What was read. `ignored` are fields of JSON that have no meaning here."""

    train: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)


def read_data(path: Path, share: float = 0.0, seed: int = 0) -> Data:
    """The examples of a file or folder, and those kept back to validate with.

    path: a .jsonl or .csv file; a folder with train.jsonl (valid.jsonl then is the
        validation set); or a folder of .txt and .md files.
    share: of the examples kept back where there is no valid.jsonl; at least one of
        them if it is above 0. Which, `seed` decides.

    Raises DataError that lists every unusable line.
    """
    data = Data()
    reader = _Reader(data.ignored)
    path = path.expanduser()
    if (train := path / "train.jsonl").is_file():
        data.train = reader.read(train)
        if (valid := path / "valid.jsonl").is_file():
            data.validation = reader.read(valid)
    else:
        data.train = reader.read(path)
    reader.check(path)
    if share and not data.validation:
        _hold_back(data, share, seed)
    return data


def read_records(path: Path) -> list[Record]:
    """All examples of one file or folder of text; a folder's test.jsonl if it has one,
    or else its valid.jsonl.

    Raises DataError that lists every unusable line, and for a folder that has only
    train.jsonl: what was trained on measures nothing.
    """
    path = path.expanduser()
    names = ("test.jsonl", "valid.jsonl")
    inside = (path / name for name in names if (path / name).is_file())
    file = next(inside, path)
    if file == path and (path / "train.jsonl").is_file():
        raise DataError(
            f"{path} holds neither {' nor '.join(names)}: put the examples to measure "
            "by there, or name a file."
        )
    reader = _Reader(set())
    records = reader.read(file)
    reader.check(path)
    return records


def _hold_back(data: Data, share: float, seed: int) -> None:
    if not 0 < share < 1:
        raise DataError(f"The validation share is {share}; it lies between 0 and 1.")
    count = max(1, round(len(data.train) * share))
    if count >= len(data.train):
        raise DataError(
            f"{len(data.train)} example(s) are too few to keep some back: add some, "
            "or train without validation (--validation 0)."
        )
    kept = set(Random(seed).sample(range(len(data.train)), count))
    data.validation = [r for i, r in enumerate(data.train) if i in kept]
    data.train = [r for i, r in enumerate(data.train) if i not in kept]


class _Reader:
    """Collects what is wrong while it reads."""

    def __init__(self, ignored: set[str]):
        self.problems: list[str] = []
        self.ignored = ignored

    def read(self, path: Path) -> list[Record]:
        if path.is_dir():
            return list(self._folder(path))
        if not path.is_file():
            raise DataError(f"There is no file or folder {path}.")
        kinds: dict[str, Callable[[Path], Iterator[Record]]] = {
            ".jsonl": self._jsonl,
            ".csv": self._csv,
            **dict.fromkeys(TEXT_SUFFIXES, self._text),
        }
        if path.suffix.lower() not in kinds:
            known = ", ".join(kinds)
            raise DataError(f"{path} is of no known kind: give {known} or a folder.")
        return list(kinds[path.suffix.lower()](path))

    def check(self, path: Path) -> None:
        """Raises DataError if anything was wrong, or nothing was there."""
        if self.problems:
            raise DataError(f"{path}: {listed_problems(self.problems)}")

    def _content(self, path: Path) -> str:
        text = read_text(path)
        if not text.strip():
            raise DataError(f"{path} is empty.")
        return text

    def _jsonl(self, path: Path) -> Iterator[Record]:
        for number, line in numbered_lines(self._content(path)):
            where = f"{path.name}:{number}"
            try:
                values = json.loads(line)
                if isinstance(values, dict):
                    self.ignored |= values.keys() - FIELDS
                yield record_from(values, where, path.parent)
            except json.JSONDecodeError as error:
                self._bad(where, f"is no JSON ({error.msg} at column {error.colno})")
            except (DataError, RecursionError) as error:
                self._bad(where, str(error))

    def _csv(self, path: Path) -> Iterator[Record]:
        # Not splitlines: U+2028 in a cell ends no row.
        file = io.StringIO(self._content(path), newline="")
        rows = csv.reader(file, strict=True)
        first = True
        while (row := self._next_row(rows, path)) is not None:
            if not any(cell.strip() for cell in row):
                continue
            heading = first and tuple(cell.strip().lower() for cell in row) in HEADINGS
            first = False
            if heading:
                continue
            where = f"{path.name}:{rows.line_num}"
            if len(row) != 2:
                self._bad(where, f"has {len(row)} columns instead of two")
                continue
            values = {"prompt": row[0], "completion": row[1]}
            try:
                yield record_from(values, where, path.parent)
            except DataError as error:
                self._bad(where, str(error))

    def _next_row(self, rows: Any, path: Path) -> list[str] | None:
        try:
            return next(rows, None)
        except csv.Error as error:
            self._bad(f"{path.name}:{rows.line_num}", f"is no CSV ({error})")
            return None

    def _text(self, path: Path) -> Iterator[Record]:
        yield Record(path.name, text=self._content(path))

    def _folder(self, path: Path) -> Iterator[Record]:
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in TEXT_SUFFIXES)
        if not files:
            raise DataError(
                f"{path} holds neither train.jsonl nor any .txt or .md file."
            )
        for file in files:
            name = str(file.relative_to(path))
            try:
                yield Record(name, text=self._content(file))
            except DataError as error:
                self._bad(name, str(error).removeprefix(f"{file} ").rstrip("."))

    def _bad(self, where: str, reason: str) -> None:
        self.problems.append(f"{where} {reason}")
