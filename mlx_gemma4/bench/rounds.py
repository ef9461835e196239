"""Fair rounds, and what can be said of their figures.

A machine is never quiet, and it grows hot: what is compared has to run at the same
time. In each round every contender works once, one after the other; the next round goes
the other way about.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeVar

from ..errors import PeerError

FEWEST = 3  # rounds from which ranges say anything

T = TypeVar("T")
Verdict = Literal["faster", "slower", "unclear"]
Progress = Callable[[str, int], None]
Note = Callable[[str], None]


def in_turn(things: Iterable[T], number: int) -> list[T]:
    """In the order of round `number`: as they are in the first one, reversed in the
    next."""
    return list(things)[:: 1 if number % 2 else -1]


def take_rounds(
    contenders: Mapping[str, Callable[[int], T]],
    numbers: Iterable[int],
    progress: Progress = lambda name, number: None,
    note: Note | None = None,
) -> dict[str, list[T]]:
    """What every contender gave in each of the rounds `numbers`, by name.

    contenders: get the number of the round; by custom, round 0 warms up.
    progress: gets the name of each contender and the round before it runs.
    note: is told which contender fails here, as a kernel does that Metal's compiler
        refuses, and is left out. The first one's errors and another program's are
        raised; all are where there is no `note`.
    """
    base, *_ = contenders
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for number in numbers:
        for name in in_turn(contenders, number):
            if name not in found:
                continue
            progress(name, number)
            try:
                found[name].append(contenders[name](number))
            except PeerError:
                raise
            except (RuntimeError, ValueError) as error:
                if note is None or name == base:
                    raise
                note(f"{name} fails here and is left out: {error}")
                del found[name]
    return found


@dataclass(frozen=True)
class Spread:
    """Of one figure over all rounds."""

    median: float
    least: float
    most: float

    def text(self, figure: Callable[[float], str] = "{:.4g}".format) -> str:
        """`229 [179-533]`."""
        return f"{figure(self.median)} [{figure(self.least)}-{figure(self.most)}]"


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """`ours` / `theirs`, round by round: slow rounds are slow for both."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def compared(ours: Sequence[float], theirs: Sequence[float]) -> Verdict:
    """Whether the rates `ours` are faster; unclear where ranges overlap, or where there
    are too few rounds to have a range."""
    if min(len(ours), len(theirs)) < FEWEST:
        return "unclear"
    if min(ours) > max(theirs):
        return "faster"
    return "slower" if max(ours) < min(theirs) else "unclear"
