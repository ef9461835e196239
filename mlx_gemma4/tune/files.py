"""Files of examples: jsonl, a JSON list, CSV, or a folder of them or of text.

Every line that cannot be used is found, and all are reported at once: whoever repairs
a file wants to do it once.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ..errors import DataError
from ..reading.home import with_home
from ..reading.sources import MOST
from ..reading.text_file import numbered_lines, read_text
from .errors import listed_problems
from .fields import check_strings
from .folder_forms import TEXT_SUFFIXES, Part, check_text_folder, split_of
from .records import Record, Remark, check_length, record_from
from .tables import read_rows

LONGEST_LINE = 2**26  # characters: of media in it, for the most part


@dataclass
class Data:
    """What was read. `ignored` are fields of JSON that have no meaning here, `remarks`
    what else is said of how many examples."""

    train: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    remarks: Counter[Remark] = field(default_factory=Counter)


def read_data(path: Path, share: float = 0.0, seed: int = 0) -> Data:
    """The examples of a file or folder, and those kept back to validate with.

    path: a .jsonl, .json or .csv file; a folder with one named train (that named valid
        then is the validation set), or with the metadata of Hugging Face's folders of
        media; or a folder of .txt and .md files.
    share: of the examples kept back where there is no validation set; at least one of
        them if it is above 0. Which, `seed` decides.

    Raises DataError that lists every unusable line.
    """
    data = Data()
    reader = _Reader()
    path = with_home(path)
    train = split_of(path, Part.TRAIN)
    data.train = reader.read(train or path)
    if train and (valid := split_of(path, Part.VALIDATION)):
        data.validation = reader.read(valid)
    reader.check(path)
    for record in (*data.train, *data.validation):
        data.ignored |= record.unread
        data.remarks.update(record.remarks)
    if share and not data.validation:
        _hold_back(data, share, seed)
    return data


def read_records(path: Path) -> list[Record]:
    """All examples of one file or folder of text; a folder's test set if it has one,
    or else its validation set.

    Raises DataError that lists every unusable line, and for a folder that has only
    a training set: what was trained on measures nothing.
    """
    path = with_home(path)
    file = split_of(path, Part.TEST) or split_of(path, Part.VALIDATION)
    if file is None and split_of(path, Part.TRAIN):
        raise DataError(
            f"{path} holds neither test.jsonl nor valid.jsonl: put the examples to "
            "measure by there, or name a file."
        )
    reader = _Reader()
    records = reader.read(file or path)
    reader.check(path)
    return records


def _hold_back(data: Data, share: float, seed: int) -> None:
    if not 0 < share < 1:
        raise DataError(f"The validation share is {share}; it lies between 0 and 1.")
    count = max(1, round(len(data.train) * share))
    if count >= len(data.train):
        raise DataError(
            "There are too few examples to keep some back: add some, or train "
            "without validation (--validation 0)."
        )
    kept = set(Random(seed).sample(range(len(data.train)), count))
    data.validation = [r for i, r in enumerate(data.train) if i in kept]
    data.train = [r for i, r in enumerate(data.train) if i not in kept]


class _Reader:
    """Collects what is wrong while it reads."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, path: Path) -> list[Record]:
        if path.is_dir():
            return list(self._folder(path))
        if not path.is_file():
            raise DataError(f"There is no file or folder {path}.")
        kinds: dict[str, Callable[[Path], Iterator[Record]]] = {
            ".jsonl": self._jsonl,
            ".json": self._json,
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
        if path.stat().st_size > MOST:
            raise DataError(f"{path} is larger than {MOST:,} bytes: split it.")
        text = read_text(path)
        if not text.strip():
            raise DataError(f"{path} is empty.")
        return text

    def _jsonl(self, path: Path) -> Iterator[Record]:
        for number, line in numbered_lines(self._content(path)):
            where = f"{path.name}:{number}"
            if len(line) > LONGEST_LINE:
                self._bad(where, f"has more than {LONGEST_LINE:,} characters: split it")
                continue
            values = self._parsed(line, where)
            if values is not None:
                yield from self._record(values, where, path.parent)

    def _json(self, path: Path) -> Iterator[Record]:
        values = self._parsed(self._content(path), path.name)
        if values is not None and not isinstance(values, list):
            self._bad(path.name, "is no list of examples: name .jsonl what has lines")
            return
        for number, each in enumerate(values or ()):
            yield from self._record(each, f"{path.name}[{number}]", path.parent)

    def _parsed(self, text: str, where: str) -> Any:
        """The value of some JSON; None, and a problem more, where it is none."""
        try:
            if (value := json.loads(text)) is None:
                self._bad(where, "is no JSON object")
            return value
        except json.JSONDecodeError as error:
            self._bad(where, f"is no JSON ({error.msg} at column {error.colno})")
        except RecursionError:
            self._bad(where, "is nested too deeply")
        except ValueError:
            self._bad(where, "has a number of thousands of digits")
        return None

    def _record(self, values: Any, where: str, folder: Path) -> Iterator[Record]:
        try:
            yield record_from(values, where, folder)
        except (DataError, RecursionError) as error:
            self._bad(where, str(error))

    def _csv(self, path: Path) -> Iterator[Record]:
        try:
            for row in read_rows(self._content(path)):
                where = f"{path.name}:{row.line}"
                if row.problem:
                    self._bad(where, row.problem)
                else:
                    yield from self._record(row.values, where, path.parent)
        except DataError as error:  # of its heading
            raise DataError(f"{path} {error}.") from None

    def _text(self, path: Path) -> Iterator[Record]:
        yield self._text_record(path, path.name)

    def _folder(self, path: Path) -> Iterator[Record]:
        files = check_text_folder(path)
        for file in files:
            name = str(file.relative_to(path))
            try:
                yield self._text_record(file, name)
            except DataError as error:
                self._bad(name, str(error).removeprefix(f"{file} ").rstrip("."))

    def _text_record(self, path: Path, where: str) -> Record:
        text = self._content(path)
        try:
            check_length(len(text))
            check_strings({"text": text})
        except DataError as error:
            raise DataError(f"{path} {error}.") from None
        return Record(where, text=text)

    def _bad(self, where: str, reason: str) -> None:
        self.problems.append(f"{where} {reason}")
