"""A file of answers: written line by line, and gone on with after a stop.

An answer's `key` says which line it answers and with what options: the digests of both.
So a file that was cut is verified against its questions without anything beside it.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from mlx_gemma4.errors import DiskFullError
from mlx_gemma4.state import FULL, disk_full, hold

from ..errors import INPUT, UsageError, unwritable
from ..render import Screen, json_text
from ..settings import OF_RUN, Settings
from .again import Again, beside
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


@dataclass(frozen=True)
class Answered:
    """An answer that is there, what it answers, and where it begins and ends."""

    answer: dict[str, Any]
    line: Line
    asked_again: bool
    start: int
    end: int


class Answers:
    """Where answers go: a file, or standard output where `path` is None.

    retry: those of an earlier run that are errors are asked again.
    done: how many there are. codes: the exit codes of those that are errors.
    """

    def __init__(
        self,
        path: Path | None,
        options: str,
        screen: Screen,
        overwrite: bool = False,
        retry: bool = False,
    ) -> None:
        self.path, self.options, self.screen = path, options, screen
        self.retry = retry
        self.done = 0
        self.codes: list[int] = []
        self._again: Again | None = None
        self._file = None if path is None else _opened(path, overwrite)
        if path is not None and self.resumable and beside(path).exists():
            try:
                self._finish_earlier(path)
            except BaseException:
                self.close()
                raise

    def key(self, line: Line) -> str:
        return f"{self.options}-{line.digest}"

    @property
    def resumable(self) -> bool:
        """Whether a stopped run can be gone on with: no pipe or device can."""
        return self._file is not None and self._file.readable()

    @property
    def asks_again(self) -> bool:
        """Whether an answer is waited for that takes the place of one that failed."""
        return self._again is not None and self._again.asks

    def _finish_earlier(self, path: Path) -> None:
        """Puts what a killed run with `retry` wrote in place."""
        assert self._file is not None
        again, place = Again(path, self._file), 0
        self._again, again.whole = again, False
        for written in again.file:
            answer, old = _answer(written), self._file.readline()
            if answer is None:
                break
            if not _takes_place(answer, _answer(old)):
                raise self._refused(f"{beside(path)} is of another file")
            place, again.upto = place + len(written), again.upto + len(old)
        again.file.seek(place)
        again.file.truncate()
        again.whole = True
        try:
            self._put_in_place()
        except OSError as error:
            raise _unwritten(path, error) from None
        self._file.seek(0)

    def check(self, lines: Iterator[Line], name: str) -> None:
        """Raises UsageError as `left` does, before anything is asked again."""
        for _ in self._answered(lines, name):
            pass
        if self._file is not None and self.resumable:
            self._file.seek(0)

    def left(self, lines: Iterator[Line], name: str) -> Iterator[Line]:
        """The lines that are to be asked, in order. What a stop left of a last answer
        is cut off. Raises UsageError for answers to something else."""
        for found in self._answered(lines, name):
            if not found.asked_again:
                self._count(found.answer)
                continue
            assert self.path is not None and self._file is not None
            self._again = self._again or Again(self.path, self._file)
            self._again.ask(found.start, found.end)
            yield found.line
        yield from lines

    def _answered(self, lines: Iterator[Line], name: str) -> Iterator[Answered]:
        end, number = 0, 0
        while self._file is not None and self.resumable:
            written, number = self._file.readline(), number + 1
            answer = _answer(written)
            if answer is None:
                if not _cut(written) or self._file.read(1):
                    raise self._refused(f"its line {number} is no answer")
                self._file.seek(end)
                self._file.truncate()
                break
            line = next(lines, None)
            if line is None:
                raise self._refused(f"it has more answers than {name} has lines")
            again = self.retry and answer.get("error") is not None
            self._check(answer, line, name, again)
            start, end = end, end + len(written)
            yield Answered(answer, line, again, start, end)

    def _check(
        self, answer: Mapping[str, Any], line: Line, name: str, again: bool
    ) -> None:
        """again: what it answers may have been mended."""
        options, digest = _key(answer)
        if not options or not digest:
            raise self._refused("it holds something else")
        if options != self.options:
            raise self._refused("it was begun with another model or other options")
        if digest != line.digest and not again:
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
                self._write(json_text(answer).encode() + b"\n")
            except OSError as error:
                raise _unwritten(self.path, error) from None
        self._count(answer)

    def _write(self, data: bytes) -> None:
        if self._again is not None and self._again.asks:
            return self._again.write(data)
        self._put_in_place()
        assert self._file is not None
        self._file.write(data)
        self._file.flush()

    def _put_in_place(self) -> None:
        if self._again is not None and self._again.whole:
            self._file = self._again.put_in_place()
            self._again = None

    def close(self) -> None:
        """What was asked again takes its place, also where not all was."""
        again = self._again
        with suppress(OSError):  # on a full disk the next run does it
            self._put_in_place()
        for file in (again and again.file, self._file):
            with suppress(OSError):
                if file is not None:
                    file.close()

    def _count(self, answer: Mapping[str, Any]) -> None:
        self.done += 1
        if (error := answer.get("error")) is not None:
            self.codes.append(code_of(error))


def _unwritten(path: Path, error: OSError) -> Exception:
    full = error.errno in FULL
    return DiskFullError(disk_full(path)) if full else unwritable(path, error)


def code_of(error: Any) -> int:
    """The exit code that an answer's error tells."""
    told = error if isinstance(error, Mapping) else {}
    code = told.get("exit_code", told.get("code"))
    return code if type(code) is int else INPUT


def _key(answer: Mapping[str, Any] | None) -> tuple[str, str]:
    """The digests of the options and of the line that an answer was made with; nothing
    of what is none."""
    key = answer and answer.get("key")
    options, _, digest = key.partition("-") if isinstance(key, str) else ("", "", "")
    return options, digest


def _takes_place(answer: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
    """Whether it may be the old one, or what came of asking that again."""
    (options, digest), before = _key(answer), _key(old)
    failed = old is not None and old.get("error") is not None
    return digest != "" and (options, digest if not failed else before[1]) == before


def _opened(path: Path, overwrite: bool) -> BinaryIO:
    """To be read and written, and made where it is not there. No other run has it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            about = os.fstat(descriptor)
            regular = stat.S_ISREG(about.st_mode)
            file = os.fdopen(descriptor, "r+b" if regular else "wb")
        except OSError as error:
            raise unwritable(path, error) from None
        if not regular:
            return file
        try:
            hold(descriptor, path)
            same = path.exists() and os.path.samestat(path.stat(), about)
        except OSError:
            file.close()
            raise
        if same:  # as it is unless another run has just put a new one in its place
            break
        file.close()
    if overwrite:
        file.truncate(0)
        beside(path).unlink(missing_ok=True)
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
