"""Work that asks for what the model finds, and waits for it: alone, or with others.

An answer is a generator. Where it needs the logits behind its last token it yields what
is to be read, and is sent what was found; where somebody else may well have a turn, it
pauses. So it need not know who else is answered at the same time.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import mlx.core as mx

from ..cache import LayerCache
from ..model import Gemma4
from .needs import Need
from .step import Found, Step, step_of

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Wanted:
    """What the model finds at `tokens` [1, L], to be appended to `cache`."""

    tokens: mx.array
    cache: Sequence[LayerCache]


@dataclass(frozen=True)
class Pause:
    """Nothing: others may go on."""


@dataclass(frozen=True)
class Given:
    """What was found; and whether nobody else was given anything, or waits."""

    found: Found
    alone: bool = True


Ask: TypeAlias = Wanted | Pause
# Yields items and what it asks for, and returns R.
Steps: TypeAlias = Generator[T | Ask, Given | None, R]


def wanted(tokens: mx.array, cache: Sequence[LayerCache]) -> Steps[Wanted, Given]:
    """What is given for these."""
    given = yield Wanted(tokens, cache)
    assert given is not None
    return given


def advance(steps: Steps[T, None], given: Given | None = None) -> T | Ask | None:
    """What comes next; None where all has come."""
    try:
        return steps.send(given)
    except StopIteration:
        return None


class Stream(Iterator[T]):
    """Items as they are computed, by this model for this work alone; a `Batch` takes
    its `steps` instead.

    need: what it takes in memory; its prefix cache nobody else may use meanwhile.
    """

    def __init__(self, model: Gemma4, steps: Steps[T, None], need: Need) -> None:
        self.steps, self.need = steps, need
        self._model = model
        self._step: Step | None = None

    def __next__(self) -> T:
        item = next(self.steps)
        while isinstance(item, Wanted | Pause):
            item = self._answered(item)
        return item

    def _answered(self, asked: Ask) -> T | Ask:
        """What the work says to what it asked for."""
        if isinstance(asked, Pause):
            return next(self.steps)
        try:
            if self._step is None:
                self._step = step_of(self._model)
            found = self._step(asked.tokens, asked.cache)
        except BaseException as error:
            return self.steps.throw(error)
        return self.steps.send(Given(found))

    def close(self) -> None:
        """Ends the work; what it read holds what was given, and no more."""
        self.steps.close()
