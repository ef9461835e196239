"""How many drafts are worth verifying now: decided by what was measured.

Everything is reckoned in plain steps, by which one token takes one. A round with k
drafts takes `cost(k)` of them and gives one token more than drafts are accepted. How
many those will be follows from what was accepted lately; what is known grows old with
each token, so that drafts which did not pay are tried again. What such trials may lose
is bounded: a small credit, which a share of the time fills up again.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from enum import Enum
from math import sqrt
from statistics import median, median_low
from typing import NamedTuple

import mlx.core as mx

RUNGS = (1, 2, 3, 4, 6, 8)  # numbers of drafts: each has graphs of its own compiled
FIRST = 2  # the most, until some were accepted
DEPTHS = 8  # drafts behind one another whose rates are told apart
AGE = 0.97  # of what is known of rates, left by each token
PRIOR = 2.0  # drafts that the rate assumed is worth
SLOPE = 0.3  # steps that one more draft takes, until it was measured
KEPT = 7  # measurements that a median is taken of
SETTLING = 4  # steps before the first drafts
CHECK_EVERY = 128  # tokens with drafts, until plain steps are measured again
CHECKED = 4  # of those; the first is not like the others and is left out
SOON = 32  # tokens of an answer before its first check
FAR = 1024  # tokens by which contexts differ, so that it comes first
CREDIT = 3.0  # steps that drafts of one source may lose at once, in an answer
MOST_CREDIT = 12.0  # with what they have gained before in the same answer
LEAST_CREDIT = -1.0  # more is not to be made up for: it was a disturbance
SHARE = 0.006  # of all time, that they may lose for good
FORGOTTEN = 512  # plain steps, until the oldest cost of each kind of round is forgotten
WORST = 1.5  # steps for each row of a round; what takes longer was disturbed
HEAVY = 1e9  # a weight, from which on all are made lighter


class Source(Enum):
    """What proposed, and how many of its drafts are assumed to be right."""

    ASSISTANT = 0.7
    LOOKUP = 0.3


def clock_here() -> Callable[[], float]:
    """What times decoding: the processor's time where it computes, as others use it,
    too."""
    return time.perf_counter if mx.metal.is_available() else time.process_time


class Cost(NamedTuple):
    """Of a round: in seconds, and in plain steps as they were measured then."""

    seconds: float
    steps: float


class Pace:
    """Of one model's answers, one after the other.

    always: drafts are asked for whether they pay or not, and how many follows from
        what was accepted alone, never from the time.
    """

    def __init__(self, always: bool = False):
        self.always = always
        self.gained: float | None = None  # seconds, by drafts in this answer
        self._known = {source: _Known(source) for source in Source}
        self._steps: deque[float] = deque(maxlen=KEPT)  # seconds
        self._settled = False  # the last token was a plain step's
        self._missing, self._unchecked, self._plain = SETTLING, 0, 0
        self._context = 0

    def begin(self, context: int) -> None:
        """With another answer, behind so many tokens; what was learned stays."""
        if abs(context - self._context) > FAR and self._steps:
            self._steps.clear()
            self._missing = CHECKED
        self._context = context
        self.gained, self._settled = None, False
        self._unchecked = max(self._unchecked, CHECK_EVERY - SOON)
        for known in self._known.values():
            known.credit, known.streak = min(CREDIT, known.credit), 0

    def rows(self, source: Source) -> int:
        """How many drafts to ask for now; 0 to decode one token, one step ahead."""
        if self.always:
            return self._known[source].likely()
        return 0 if self._missing else self._known[source].paying(self._step)

    def foretold(self, right: bool | None) -> None:
        """Whether the last token is what lookup would have proposed; None where it had
        nothing to propose. That costs nothing, and says when it is worth asking."""
        known = self._known[Source.LOOKUP]
        if right is not None:
            known.add(1, int(right))
        known.streak = known.streak + 1 if right else 0

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
        for known in self._known.values():
            known.age(tokens)
        if source is None or not drafted:
            self._took_step(seconds)
        else:
            self._took_round(self._known[source], drafted, accepted, seconds, tokens)

    def _took_step(self, seconds: float) -> None:
        if self._settled or self.always:
            self._steps.append(seconds)
        self._settled = True
        if self._missing:
            self._missing -= 1
            self._unchecked = 0
        self._plain += 1
        for known in self._known.values():
            known.earn()
            if self._plain % FORGOTTEN == 0:
                known.forget()

    def _took_round(
        self, known: "_Known", drafted: int, accepted: int, seconds: float, tokens: int
    ) -> None:
        known.add(drafted, accepted)
        if known.source is Source.LOOKUP:
            known.streak = known.streak + accepted if accepted == drafted else 0
        self._settled = False
        self._unchecked += tokens
        if self._unchecked >= CHECK_EVERY:
            self._missing = CHECKED
        if self._steps:
            step = self._step
            self.gained = (self.gained or 0) + tokens * step - seconds
            known.pay(drafted, Cost(seconds, seconds / step), tokens)

    @property
    def _step(self) -> float:
        return median(self._steps)


class _Known:
    """What is known of the drafts of one source: how often they are right, by how many
    were right before, what rounds with them cost, and what they may still lose.

    streak: how many were right before the next one.
    """

    def __init__(self, source: Source):
        self.source, self.credit, self.streak = source, CREDIT, 0
        self._hopeful = source is Source.ASSISTANT  # of lookup more is known by itself
        self._weight = 1.0  # of a new one; of old ones it was less
        self._tries, self._hits = [0.0] * DEPTHS, [0.0] * DEPTHS
        self._costs: dict[int, deque[Cost]] = {}

    def paying(self, step: float) -> int:
        """The number of drafts by which a token is expected to take the least time, or
        0; as much is hoped for as what is known leaves to hope for.

        step: seconds that a plain one takes now.
        """
        best, most = 0, 1.0
        for k, tokens in self._expected(self._hopeful):
            cost = self._cost(k, step)
            if cost - 1 <= self.credit and tokens > most * cost:
                best, most = k, tokens / cost
        return best

    def likely(self) -> int:
        """The one that would be best if rounds cost what is assumed."""
        expected = self._expected(hopeful=False)
        return max(expected, key=lambda each: each[1] / (1 + SLOPE * each[0]))[0]

    def age(self, tokens: int) -> None:
        self._weight /= AGE**tokens
        if self._weight > HEAVY:
            self._tries = [each / self._weight for each in self._tries]
            self._hits = [each / self._weight for each in self._hits]
            self._weight = 1.0

    def add(self, drafted: int, accepted: int) -> None:
        """`accepted` of so many drafts were right, the next one, if any, was not."""
        for i in range(min(accepted + 1, drafted)):
            at = min(self.streak + i, DEPTHS - 1)
            self._tries[at] += self._weight
            self._hits[at] += self._weight * (i < accepted)

    def earn(self) -> None:
        """By a plain step."""
        self.credit = max(self.credit, min(CREDIT, self.credit + SHARE))

    def pay(self, drafted: int, cost: Cost, tokens: int) -> None:
        """For a round."""
        self._costs.setdefault(drafted, deque(maxlen=KEPT)).append(cost)
        steps = min(cost.steps, WORST * (drafted + 1))
        left = self.credit + tokens - steps * (1 - SHARE)
        self.credit = max(LEAST_CREDIT, min(MOST_CREDIT, left))

    def forget(self) -> None:
        """One cost of each kind: all of them may have been disturbed."""
        for costs in self._costs.values():
            if len(costs) > 1:
                costs.popleft()

    def _expected(self, hopeful: bool) -> list[tuple[int, float]]:
        """Numbers of drafts that may be asked for, with the tokens they are expected to
        give: up to one rung beyond what was right lately."""
        rates, last = self._rates(hopeful), DEPTHS - 1
        found: list[tuple[int, float]] = []
        tokens = chance = 1.0
        done = 0
        for k in RUNGS:
            deepest = self._hits[min(self.streak + done - 1, last)] if done else 0.0
            if k > FIRST and deepest < self._weight / 2:
                break
            for i in range(done, k):
                chance *= rates[min(self.streak + i, last)]
                tokens += chance
            found.append((k, tokens))
            done = k
        return found

    def _rates(self, hopeful: bool) -> list[float]:
        """By depth; each is assumed to be like the one before it."""
        weight, rate = PRIOR * self._weight, self.source.value
        rates: list[float] = []
        for tries, hits in zip(self._tries, self._hits, strict=True):
            rate = (hits + weight * rate) / (tries + weight)
            if hopeful and not rates:
                seen = tries / self._weight + PRIOR
                rate = min(1.0, rate + sqrt(rate * (1 - rate) / seen))
            rates.append(rate)
        return rates

    def _cost(self, k: int, step: float) -> float:
        """In steps, as measured, or as expected from what was measured."""
        found = {n: _believed(costs, n, step) for n, costs in self._costs.items()}
        known = [n for n, cost in found.items() if cost is not None]
        near = min(known, key=lambda n: abs(n - k), default=None)
        cost = found[near] if near is not None else None
        if near is None or cost is None:
            return 1 + SLOPE * k
        return 1 + (cost - 1) * k / near


def _believed(costs: Collection[Cost], drafted: int, step: float) -> float | None:
    """In steps of so many seconds; the lower one where a context that grew or shrank
    left it open. None where it was dear but once: it may have been disturbed, or have
    compiled something."""
    steps = median_low([cost.steps for cost in costs])
    steps = min(steps, median_low([cost.seconds for cost in costs]) / step)
    return steps if len(costs) > 1 or steps <= 1 + SLOPE * drafted else None
