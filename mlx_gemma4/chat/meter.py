"""What the rendering of one chat template uses, and where it ends.

A template is code from strangers. Time is asked for at every pass of a loop, call,
filter and comparison. So that none of these takes long, a value is bounded, too: its
weight is its size in memory with each thing in it counted as often as it would be
printed, so that lists that hold each other many times over weigh what they would take
to be printed or compared. What was made in all is bounded, since a template can keep
it. Values never change: the sandbox has no way to.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError

SECONDS = 2.5  # of processor time, for all renderings of a conversation
# More for each two messages: Google's templates go from each to those behind it, and
# take 2 s for a chat of 2000, three times where answers hold thoughts.
SECONDS_FOR_PAIR = 1e-5
MAX_STEPS = 10_000_000  # of all ranges; a chat of 2000 messages: 4 M
MAX_WEIGHT = 16_000_000  # bytes of a value; the longest context has some 4 MB
MAX_MADE = 400_000_000  # bytes of all values
MAX_BITS = 16_384  # of a whole number
EACH = 64  # bytes that the smallest thing counts as


class Meter:
    """One rendering. All methods raise SecurityError beyond a bound.

    within: one whose time this has to share.
    """

    def __init__(self, messages: int = 1, within: "Meter | None" = None) -> None:
        self.made = 0
        self.steps = 0
        self.seconds = SECONDS + SECONDS_FOR_PAIR * messages**2
        self._begun = time.thread_time()
        self._until = time.monotonic() + self.seconds
        if within is not None:
            self.seconds, self._begun = within.seconds, within._begun
            self._until = within._until
        # Values are kept, so that no other gets the same id.
        self._weights: dict[int, tuple[int, Any]] = {}

    def tick(self) -> None:
        """Asks whether there is time left; the clock of the thread is dear."""
        if time.monotonic() > self._until:
            left = self.seconds - (time.thread_time() - self._begun)
            if left <= 0:
                raise SecurityError(f"it takes more than {self.seconds:.1f} seconds")
            self._until = time.monotonic() + left

    def make(self, value: Any) -> Any:
        """Counts a value that a step made, and returns it."""
        self.tick()
        if isinstance(value, Iterator):
            return self._counted(value)
        self.weigh(value)
        if hasattr(value, "__len__"):
            self.count(value.__sizeof__())
        return value

    def know(self, value: Any, weight: int) -> Any:
        """Takes the weight of a value as told, and returns the value."""
        if isinstance(value, list | tuple):
            self._weights[id(value)] = (weight, value)
        return value

    def count(self, size: int) -> None:
        """Counts bytes that were made, or are about to be."""
        self.limit(size)
        self.made += size
        if self.made > MAX_MADE:
            raise SecurityError(f"values of more than {MAX_MADE} bytes")

    def step(self, count: int) -> None:
        """Counts passes that a range makes."""
        self.steps += count
        if self.steps > MAX_STEPS:
            raise SecurityError(f"more than {MAX_STEPS} steps in ranges")

    def weigh(self, value: Any) -> int:
        """The weight of a value in bytes."""
        if isinstance(value, str | bytes):
            weight = value.__sizeof__()
        elif isinstance(value, list | tuple | dict):
            return self._weigh_all(value)
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise SecurityError(f"a whole number of more than {MAX_BITS} bits")
        else:
            return EACH
        self.limit(weight)
        return weight

    def limit(self, weight: int) -> None:
        """Refuses a value of this weight if it is too large."""
        if weight > MAX_WEIGHT:
            raise SecurityError(f"a value larger than {MAX_WEIGHT} bytes")

    def _weigh_all(self, value: Any) -> int:
        known = self._weights.get(id(value))
        if known is not None:
            return known[0]
        weight = EACH
        for item in value:
            weight += self.weigh(item)
            if isinstance(value, dict):
                weight += self.weigh(value[item])
            self.limit(weight)
        self._weights[id(value)] = (weight, value)
        return weight

    def _counted(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            yield self.make(item)


_current: ContextVar[Meter] = ContextVar("meter")


@contextmanager
def metered(messages: int) -> Iterator[Meter]:
    """One rendering in this thread, of a conversation of so many messages. One inside
    of another has what is left of its time."""
    meter = Meter(messages, within=_current.get(None))
    token = _current.set(meter)
    try:
        yield meter
    finally:
        _current.reset(token)


def meter() -> Meter:
    """That of the rendering which goes on; outside of one, of nothing."""
    return _current.get(None) or Meter()


def weight_of_all(values: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    """The weight of the arguments of a call. Raises SecurityError."""
    weigh = meter().weigh
    total = sum(map(weigh, values)) + sum(map(weigh, named.values()))
    if total > MAX_WEIGHT:
        raise SecurityError(f"arguments larger than {MAX_WEIGHT} bytes")
    return total


def bounded_range() -> Callable[..., range]:
    """A `range` whose results add up to at most MAX_STEPS in one rendering."""

    def take(*arguments: int) -> range:
        result = range(*arguments)
        try:
            meter().step(len(result))
        except OverflowError:
            raise SecurityError(f"more than {MAX_STEPS} steps in ranges") from None
        return result

    return take
