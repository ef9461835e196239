"""How many drafts are asked for, on simulated costs and rates."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean

import pytest

from mlx_gemma4.decoding.pace import (
    CHECKED,
    FIRST,
    FORGOTTEN,
    RUNGS,
    SETTLING,
    Pace,
    Source,
)

STEP = 0.02  # seconds
Cost = Callable[[int], float]  # steps for a round with so many drafts


def linear(k: int) -> float:
    """Each row costs almost as much as a step, as where the arithmetic is the limit."""
    return 1 + 0.9 * k


def flat(k: int) -> float:
    """As where memory is the limit."""
    return 1.1 + 0.05 * k


def between(k: int) -> float:
    return 1.05 + 0.2 * k


@dataclass
class Run:
    """Answers of a model for which rounds take `cost` and drafts are right at `rate`.

    noise: share by which seconds vary; one in a hundred takes up to five times as long.
    """

    cost: Cost
    rate: float
    source: Source = Source.ASSISTANT
    noise: float = 0.0
    seed: int = 0
    pace: Pace = field(default_factory=Pace)
    asked: list[int] = field(default_factory=list)
    step: float = STEP
    context: int = 10

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def answer(self, tokens: int) -> float:
        """Steps that each token took."""
        self.pace.begin(self.context)
        return self.go_on(tokens)

    def go_on(self, tokens: int) -> float:
        given, steps = 0, 0.0
        while given < tokens:
            k = self.pace.rows(self.source)
            self.asked.append(k)
            right = 0
            while right < k and self.random.random() < self.rate:
                right += 1
            took = (self.cost(k) if k else 1.0) * self.disturbed()
            source = self.source if k else None
            self.pace.took(source, k, right, took * self.step, right + 1)
            if not k and self.source is Source.LOOKUP:
                self.pace.foretold(self.random.random() < self.rate)
            given, steps = given + right + 1, steps + took
        return steps / given

    def disturbed(self) -> float:
        if not self.noise:
            return 1.0
        if self.random.random() < 0.01:
            return self.random.uniform(1, 5)
        return max(0.3, self.random.gauss(1, self.noise))


def ideal(cost: Cost, rate: float) -> float:
    """Steps a token with the best number of drafts, known beforehand."""
    return min(1.0, *(cost(k) / sum(rate**i for i in range(k + 1)) for k in RUNGS))


RATES = (0.0, 0.4, 0.8, 1.0)


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("cost", [linear, flat, between])
@pytest.mark.parametrize("rate", RATES)
def test_an_answer_of_300_tokens_loses_at_most_three_in_a_hundred(source, cost, rate):
    run = Run(cost, rate, source)
    assert all(run.answer(300) <= 1.03 for _ in range(3))


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("cost", [flat, between])
@pytest.mark.parametrize("rate", (0.6, 0.95))
def test_what_there_is_to_gain_is_gained(source, cost, rate):
    runs = [Run(cost, rate, source, seed=seed) for seed in range(3)]
    taken = mean(run.answer(300) for run in runs for _ in range(2))
    assert taken < 1 - 0.8 * (1 - ideal(cost, rate))


@pytest.mark.parametrize("rate", (0.0, 0.5, 0.9))
@pytest.mark.parametrize("cost", [linear, flat, between])
def test_noise_changes_little(cost, rate):
    noisy = [Run(cost, rate, noise=0.1, seed=seed) for seed in range(8)]
    disturbed = mean(run.disturbed() for run in noisy for _ in range(500))
    taken = mean(run.answer(300) for run in noisy) / disturbed
    assert taken < 1 - 0.8 * (1 - ideal(cost, rate)) + 0.025


def test_stops_where_drafts_are_no_longer_right():
    run = Run(between, 0.9)
    begun = run.answer(150)
    run.rate, run.asked = 0.0, []
    assert begun + run.go_on(150) < 1.7  # and not 2: more was gained than is lost
    assert run.asked[-50:].count(0) > 40


def test_begins_again_where_they_are_right_again():
    run = Run(between, 0.0)
    run.answer(300)
    run.rate, run.asked = 0.95, []
    run.go_on(200)
    assert run.asked.count(0) < 60 and max(run.asked) == RUNGS[-1]


def test_trials_are_rarer_where_they_are_dear():
    dear, cheap = Run(linear, 0.0), Run(flat, 0.0)
    for run in (dear, cheap):
        run.answer(2000)
    tried, often = (sum(map(bool, run.asked)) for run in (dear, cheap))
    assert 0 < 4 * tried < often


def test_first_drafts_follow_plain_steps_and_are_few():
    run = Run(flat, 1.0)
    run.answer(50)
    assert run.asked[: SETTLING + 1] == [0] * SETTLING + [FIRST]
    rises = [b - a for a, b in zip(RUNGS, RUNGS[1:], strict=False)]
    steps = zip(run.asked[SETTLING:], run.asked[SETTLING + 1 :], strict=False)
    assert all(b - a <= max(rises) for a, b in steps)


def test_what_was_learned_is_kept_for_the_next_answer():
    run = Run(flat, 0.9)
    run.answer(100)
    run.asked.clear()
    run.answer(20)
    assert run.asked[0] >= 4


def test_plain_steps_are_measured_again_between_drafts():
    run = Run(flat, 0.9)
    run.answer(300)
    run.asked.clear()
    run.go_on(300)
    assert run.asked.count(0) == 2 * CHECKED


@pytest.mark.parametrize("factor", (4.0, 0.25))
def test_other_contexts_change_both(factor):
    """Rounds and plain steps take longer behind more tokens, and less behind fewer."""
    run = Run(between, 0.9)
    run.answer(200)
    run.step *= factor
    run.context *= 1000
    run.answer(100)
    assert run.answer(300) < 1.1 * ideal(between, 0.9) + 0.1


def test_rounds_that_were_disturbed_are_tried_again():
    run = Run(lambda k: 30.0, 0.9)
    run.answer(300)
    run.cost, run.asked = flat, []
    run.go_on(3 * FORGOTTEN)
    assert max(run.asked) == RUNGS[-1]


def test_lookup_waits_until_it_would_have_been_right():
    """That it proposes is no reason to ask: plain steps show what it is worth."""
    pace = Pace()
    for _ in range(50):
        pace.took(None, 0, 0, STEP, 1)
        pace.foretold(False)
        assert pace.rows(Source.LOOKUP) == 0
    asked = []
    for _ in range(8):
        pace.took(None, 0, 0, STEP, 1)
        pace.foretold(True)
        asked.append(pace.rows(Source.LOOKUP))
    assert asked[0] == 0 and asked[-1] >= FIRST
    pace.foretold(None)  # the streak is over
    assert pace.rows(Source.LOOKUP) == 0


def test_drafts_of_one_say_nothing_of_the_other():
    run = Run(flat, 0.0)
    run.answer(100)
    for _ in range(8):
        run.pace.took(None, 0, 0, STEP, 1)
        run.pace.foretold(True)
    assert run.pace.rows(Source.LOOKUP) > run.pace.rows(Source.ASSISTANT)


def test_always_draws_the_same_whatever_the_time():
    def asked(seconds: Callable[[], float]) -> list[int]:
        rng, pace, found = random.Random(1), Pace(always=True), []
        for _ in range(200):
            k = pace.rows(Source.ASSISTANT)
            right = min(k, rng.randrange(9))
            pace.took(Source.ASSISTANT, k, right, seconds(), right + 1)
            found.append(k)
        return found

    quick = asked(lambda: 0.001)
    assert quick == asked(random.Random(2).random)
    assert min(quick) >= 1 and len(set(quick)) > 2


def test_always_asks_for_one_where_none_is_right():
    pace = Pace(always=True)
    for _ in range(50):
        pace.took(Source.ASSISTANT, pace.rows(Source.ASSISTANT), 0, 9.0, 1)
    assert pace.rows(Source.ASSISTANT) == RUNGS[0]


def test_what_an_answer_gained_in_seconds():
    pace = Pace()
    pace.begin(10)
    pace.took(Source.ASSISTANT, 2, 2, 0.1, 3)
    assert pace.gained is None  # nothing to compare with
    for seconds in (9.0, 0.1, 0.2, 0.1, 0.1):  # the first one behind a round is not
        pace.took(None, 0, 0, seconds, 1)
    pace.took(Source.ASSISTANT, 4, 2, 0.15, 3)
    pace.took(Source.LOOKUP, 2, 0, 0.12, 1)
    assert pace.gained == pytest.approx(3 * 0.1 - 0.15 + 0.1 - 0.12)
    pace.begin(10)
    assert pace.gained is None
