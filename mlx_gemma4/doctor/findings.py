"""What was checked and how it came out."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from .. import errors

KNOWN = (
    *(errors.CheckpointError, errors.ChatError, errors.MediaError),
    *(errors.ModelNotFoundError, MemoryError),
)
T = TypeVar("T")


class Level(StrEnum):
    """UNKNOWN is said of what could not be found out: it is no fault."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One check: of what, how it came out, and a sentence about it."""

    about: str
    level: Level
    text: str


class Findings:
    """Collects findings in order, none of them twice."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def add(self, about: str, level: Level, text: str) -> None:
        finding = Finding(about, level, text)
        if finding not in self.all:
            self.all.append(finding)

    def ok(self, about: str, text: str) -> None:
        self.add(about, Level.OK, text)

    def warn(self, about: str, text: str) -> None:
        """A warning, unless it was said already: files are read for several checks."""
        if all((each.level, each.text) != (Level.WARNING, text) for each in self.all):
            self.add(about, Level.WARNING, text)

    def problem(self, about: str, text: str) -> None:
        self.add(about, Level.PROBLEM, text)

    def unknown(self, about: str, text: str) -> None:
        self.add(about, Level.UNKNOWN, text)

    def count(self, level: Level) -> int:
        return sum(finding.level is level for finding in self.all)

    def attempt(self, about: str, call: Callable[[], T]) -> T | None:
        """What `call` returns, its warnings noted; None where it raises, whatever that
        is: one fault must not hide those behind it."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                result = call()
            except Exception as error:
                result = None
                kind = "" if isinstance(error, KNOWN) else f"{type(error).__name__}: "
                self.problem(about, f"{kind}{error}")
        for each in caught:
            if issubclass(each.category, UserWarning):
                self.warn(about, str(each.message))
        return result
