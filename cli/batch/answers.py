"""A file of answers: written line by line, and gone on with after a stop.

An answer's `key` says which line it answers and with what options: the digests of both.
So a file that was cut is verified against its questions without anything beside it.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from mlx_gemma4.errors import DiskFullError
from mlx_gemma4.state import FULL, disk_full, hold

from ..errors import INPUT, UsageError, unwritable
from ..render import Screen, json_text
from ..settings import OF_RUN, Settings
from .lines import Line

BEGINNING = b'{"id": '  # of an answer


def options_digest(settings: Settings, *others: Any) -> str:
    """Of all that answers depend on and that is not said at its default: so an option
    that is new changes none of those before it."""
    usual = asdict(Settings())
    stated = {k: v for k, v in asdict(settings).items() if v != usual[k]}
    whole = [{k: v for k, v in stated.items() if k not in OF_RUN}, *others]
    text = json.dumps(whole, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:8]


class Answers:
    """Where answers go: a file, or standard output where `path` is None.

    done: how many there are. codes: the exit codes of those that are errors.
    """

    def __init__(
        self, path: Path | None, options: str, screen: Screen, overwrite: bool = False
    ) -> None:
        self.path, self.options, self.screen = path, options, screen
        self.done = 0
        self.codes: list[int] = []
        self._file = None if path is None else _opened(path, overwrite)

    def key(self, line: Line) -> str:
        return f"{self.options}-{line.digest}"

    @property
    def resumable(self) -> bool:
        """Whether a stopped run can be gone on with: no pipe can."""
        return self._file is not None and self._file.seekable()

    def go_on(self, lines: Iterator[Line], name: str) -> None:
        """Takes from `lines` those that are answered. What a stop left of a last answer
        is cut off. Raises UsageError for answers to something else."""
        if self._file is None or not self.resumable:
            return
        end = 0
        for written in self._file:
            answer = _answer(written)
            if answer is None:
                if not _cut(written) or self._file.read(1):
                    raise self._refused(f"its line {self.done + 1} is no answer")
                break
            line = next(lines, None)
            if line is None:
                raise self._refused(f"it has more answers than {name} has lines")
            self._check(answer.get("key"), line, name)
            self._count(answer)
            end += len(written)
        self._file.seek(end)
        self._file.truncate()

    def _check(self, key: Any, line: Line, name: str) -> None:
        options, _, digest = key.partition("-") if isinstance(key, str) else ("",) * 3
        if not options or not digest:
            raise self._refused("it holds something else")
        if options != self.options:
            raise self._refused("it was begun with another model or other options")
        if digest != line.digest:
            raise self._refused(f"line {line.number} of {name} is not what it answers")

    def _refused(self, why: str) -> UsageError:
        return UsageError(
            f"{self.path} cannot be gone on with: {why}. Name another file, or add "
            "--overwrite to begin anew."
        )

    def write(self, answer: Mapping[str, Any]) -> None:
        """One answer, at once. Raises OSError, and of it DiskFullError."""
        if self._file is None or self.path is None:
            self.screen.json(answer)
        else:
            try:
                self._file.write(json_text(answer).encode() + b"\n")
                self._file.flush()
            except OSError as error:
                if error.errno in FULL:
                    raise DiskFullError(disk_full(self.path)) from None
                raise unwritable(self.path, error) from None
        self._count(answer)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _count(self, answer: Mapping[str, Any]) -> None:
        self.done += 1
        if "error" in answer:
            error = answer["error"]
            self.codes.append(error["code"] if isinstance(error, dict) else INPUT)


def _opened(path: Path, overwrite: bool) -> BinaryIO:
    """To be read and written, and made where it is not there. No other run has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        file = os.fdopen(descriptor, "r+b" if regular else "wb")
    except OSError as error:
        raise unwritable(path, error) from None
    if not regular:
        return file
    try:
        hold(descriptor, path)
    except OSError:
        file.close()
        raise
    if overwrite:
        file.truncate(0)
    return file


def _answer(written: bytes) -> dict[str, Any] | None:
    """None for a line that is no object, or has no end."""
    try:
        value = json.loads(written) if written.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _cut(written: bytes) -> bool:
    """Whether it is what a stop may leave: the beginning of an answer, or nothing at
    all where room for it was made."""
    return BEGINNING.startswith(written[: len(BEGINNING)]) or not written.strip(b"\0")
