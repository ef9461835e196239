"""How many drafts are worth verifying now: decided by what was measured.

Everything is reckoned in plain steps, by which one token takes one. A round with k
drafts takes `cost(k)` of them and gives one token more than drafts are accepted. How
many those will be follows from what was accepted lately; what is known grows old with
each token, so that drafts which did not pay are tried again. What such trials may lose
is bounded: a small credit, which a share of the time fills up again.
"""

import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from math import sqrt
from statistics import median, median_low

import mlx.core as mx

RUNGS = (1, 2, 3, 4, 6, 8)  # numbers of drafts: each has graphs of its own compiled
FIRST = 2  # the most, until some were accepted
DEPTHS = 8  # drafts behind one another whose rates are told apart
AGE = 0.98  # of what is known of rates, left by each token
PRIOR = 2.0  # drafts that the rate assumed is worth
SLOPE = 0.3  # steps that one more draft takes, until it was measured
KEPT = 7  # measurements that a median is taken of
SETTLING = 4  # steps before the first drafts
CHECK_EVERY = 128  # tokens with drafts, until plain steps are measured again
CHECKED = 4  # of those; the first is not like the others and is left out
SOON = 32  # tokens of an answer before its first check
CREDIT = 3.0  # steps that drafts may lose at once, in an answer
MOST_CREDIT = 12.0  # with what they have gained before in the same answer
SHARE = 0.01  # of all time, that they may lose for good
FORGOTTEN = 512  # plain steps, until the oldest cost of each kind of round is forgotten
WORST = 1.5  # steps for each row of a round; what takes longer was disturbed


class Source(Enum):
    """What proposed, and how many of its drafts are assumed to be right."""

    ASSISTANT = 0.7
    LOOKUP = 0.3


def clock_here() -> Callable[[], float]:
    """What times decoding: the processor's time where it computes, as others use it,
    too."""
    return time.perf_counter if mx.metal.is_available() else time.process_time


class Pace:
    """Of one model's answers, one after the other.

    always: drafts are asked for whether they pay or not, and how many follows from
        what was accepted alone, never from the time.
    """

    def __init__(self, always: bool = False):
        self.always = always
        self.gained: float | None = None  # seconds, by drafts in this answer
        self._rates = {source: _Rates(source.value) for source in Source}
        self._costs: dict[tuple[Source, int], deque[float]] = {}
        self._steps: deque[float] = deque(maxlen=KEPT)  # seconds
        self._step: float | None = None
        self._settled = False  # the last token was a plain step's
        self._missing, self._unchecked, self._plain = SETTLING, 0, 0
        self._credit, self._streak = CREDIT, 0

    def begin(self) -> None:
        """With another answer; what was learned stays."""
        self.gained, self._streak, self._settled = None, 0, False
        self._unchecked = max(self._unchecked, CHECK_EVERY - SOON)
        self._credit = min(CREDIT, self._credit)

    def rows(self, source: Source) -> int:
        """How many drafts to ask for now; 0 to decode one token, one step ahead."""
        if not self.always and self._missing:
            return 0
        rates, depth = self._rates[source], self._depth(source)
        hopeful = source is Source.ASSISTANT and not self.always
        tokens = rates.tokens(depth, hopeful)
        best, gain = (RUNGS[0], 0.0) if self.always else (0, 1.0)
        before = FIRST
        for k in RUNGS:
            if k > FIRST and not rates.reached(depth + before - 1):
                break
            cost, before = self._cost(source, k), k
            affordable = self.always or cost - 1 <= self._credit
            if affordable and tokens[k] > gain * cost:
                best, gain = k, tokens[k] / cost
        return best

    def foretold(self, right: bool | None) -> None:
        """Whether the last token is what lookup would have proposed; None where it had
        nothing to propose. That costs nothing, and says when it is worth asking."""
        if right is not None:
            self._rates[Source.LOOKUP].add(self._streak, 1, int(right))
        self._streak = self._streak + 1 if right else 0

    def took(
        self,
        source: Source | None,
        drafted: int,
        accepted: int,
        seconds: float,
        tokens: int,
    ) -> None:
        """A round with so many drafts of `source` is over, or a plain step (None).

        tokens: that it gave, at least one. seconds: from one to the next, by
            `clock_here`, with what is done with the tokens in between.
        """
        for rates in self._rates.values():
            rates.age(tokens)
        if source is None or not drafted:
            self._took_step(seconds)
        else:
            self._took_round(source, drafted, accepted, seconds, tokens)

    def _took_step(self, seconds: float) -> None:
        self._credit = max(self._credit, min(CREDIT, self._credit + SHARE))
        if self._settled or self.always:
            self._steps.append(seconds)
            self._step = median(self._steps)
        self._settled = True
        if self._missing:
            self._missing -= 1
            self._unchecked = 0
        self._plain += 1
        if self._plain % FORGOTTEN == 0:  # what was disturbed twice is tried again, too
            for costs in self._costs.values():
                if len(costs) > 1:
                    costs.popleft()

    def _took_round(
        self, source: Source, drafted: int, accepted: int, seconds: float, tokens: int
    ) -> None:
        self._rates[source].add(self._depth(source), drafted, accepted)
        if source is Source.LOOKUP:
            self._streak = self._streak + accepted if accepted == drafted else 0
        self._settled = False
        self._unchecked += tokens
        if self._unchecked >= CHECK_EVERY and not self.always:
            self._missing = CHECKED
        if self._step is None:
            return
        self.gained = (self.gained or 0) + tokens * self._step - seconds
        cost = min(seconds / self._step, WORST * (drafted + 1))
        self._costs.setdefault((source, drafted), deque(maxlen=KEPT)).append(cost)
        left = self._credit + tokens - cost * (1 - SHARE)
        self._credit = min(MOST_CREDIT, left)

    def _depth(self, source: Source) -> int:
        return self._streak if source is Source.LOOKUP else 0

    def _cost(self, source: Source, k: int) -> float:
        """In steps, as measured, or as expected from what was measured."""
        expected = 1 + SLOPE * k
        if self.always:
            return expected
        known = [n for each, n in self._costs if each is source]
        if not known:
            return expected
        near = min(known, key=lambda n: abs(n - k))
        costs = self._costs[source, near]
        measured = median_low(costs)
        if len(costs) == 1:  # it may have been disturbed, or have compiled something
            measured = min(measured, 1 + SLOPE * near)
        return 1 + (measured - 1) * k / near


class _Rates:
    """How often the drafts of a source are right, by how many were right before."""

    def __init__(self, assumed: float):
        self._assumed = assumed
        self._tries, self._hits = [0.0] * DEPTHS, [0.0] * DEPTHS

    def age(self, tokens: int) -> None:
        left = AGE**tokens
        self._tries = [each * left for each in self._tries]
        self._hits = [each * left for each in self._hits]

    def add(self, depth: int, drafted: int, accepted: int) -> None:
        """`accepted` of so many drafts were right, the next one, if any, was not."""
        for i in range(min(accepted + 1, drafted)):
            at = min(depth + i, DEPTHS - 1)
            self._tries[at] += 1
            self._hits[at] += i < accepted

    def reached(self, depth: int) -> bool:
        """Whether a draft so deep was right lately."""
        return self._hits[min(depth, DEPTHS - 1)] >= 0.5

    def tokens(self, depth: int, hopeful: bool) -> list[float]:
        """What rounds with 0, 1, 2 … drafts are expected to give.

        hopeful: as much as what is known leaves to hope for.
        """
        rate, rates = self._assumed, []
        for tries, hits in zip(self._tries, self._hits, strict=True):
            rate = (hits + PRIOR * rate) / (tries + PRIOR)
            if hopeful and not rates:
                rate = min(1.0, rate + sqrt(rate * (1 - rate) / (tries + PRIOR)))
            rates.append(rate)
        expected, chance = [1.0], 1.0
        for i in range(RUNGS[-1]):
            chance *= rates[min(depth + i, DEPTHS - 1)]
            expected.append(expected[-1] + chance)
        return expected
