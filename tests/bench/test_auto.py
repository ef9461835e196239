"""Which kernels a benchmark remembers. No clock runs: seconds are given."""

import math
from pathlib import Path

import mlx.core as mx
import pytest
import tiny

from mlx_gemma4.bench import auto
from mlx_gemma4.bench.timing import Sample, Series, only
from mlx_gemma4.kernels import NAMES
from mlx_gemma4.kernels.choice import Conditions, memory_file, recall

FIRST, SECOND, *_ = NAMES
Seconds = tuple[float, float]  # until the first token, and of decoding
PLAIN: Seconds = (2.0, 1.0)


def series(name: str, seconds: Seconds, *more: Seconds) -> Series:
    """Three rounds, each a little slower than the one before, or as many as given."""
    first, decode = seconds
    rounds = more or [(first * slow, decode * slow) for slow in (1.01, 1.02)]
    samples = tuple(Sample(*each, 1) for each in (seconds, *rounds))
    return Series(name, 20, 10, samples[0], samples)


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        ((2.0, 0.9), True),
        ((1.8, 1.0), True),
        ((1.8, 0.9), True),
        ((2.0, 1.0), False),
        ((2.0, 0.985), False),  # faster, but less so than rounds differ
        ((2.2, 0.9), False),  # reading pays for it
        ((1.8, 1.1), False),
    ],
)
def test_kept_is_what_gains_and_loses_nothing(seconds: Seconds, kept: bool) -> None:
    found = [series("kernels off", PLAIN), series(only(SECOND), seconds)]
    assert auto.faster([found]) == ((SECOND,) if kept else ())


def test_two_rounds_prove_nothing() -> None:
    two = [series("kernels off", PLAIN, PLAIN), series(only(FIRST), *[(1.0, 0.5)] * 2)]
    assert auto.faster([two]) == ()


def test_a_loss_at_another_context_counts() -> None:
    base = series("kernels off", PLAIN)
    gain, loss = ((series(only(FIRST), (2.0, s))) for s in (0.9, 1.1))
    same = series(only(FIRST), PLAIN)
    assert auto.faster([[base, gain], [base, same]]) == (FIRST,)
    assert auto.faster([[base, gain], [base, loss]]) == ()
    assert auto.faster([[base, gain], [base]]) == ()  # it failed


def test_all_together_and_other_programs_are_no_kernels() -> None:
    others = [series(name, (1.0, 0.5)) for name in ("kernels on", "mlx-lm")]
    assert auto.faster([[series("kernels off", PLAIN), *others]]) == ()


class Machine:
    """A Mac with a model and what was found about it, whose kernels are as far from
    right as they are told to be."""

    def __init__(self) -> None:
        self.model = tiny.build("untied")
        self.wrong: float | None = 0.0
        self.notes: list[str] = []

    def learn(self, rounds: int = 3) -> tuple[str, ...] | None:
        """What is remembered after a benchmark in which FIRST is faster."""
        found = {5: [series("kernels off", PLAIN), series(only(FIRST), (1.0, 1.0))]}
        auto.learn(self.model, found, rounds, self.notes.append)
        here = Conditions.of(self.model, self.model.config.text_config)
        return recall(here, pytest.fail)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made = Machine()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(auto, "default_contexts", lambda model, decode: [7])
    monkeypatch.setattr(auto, "farthest", lambda model, name, context: made.wrong)
    return made


def test_a_benchmark_remembers_what_is_faster(machine: Machine) -> None:
    assert machine.learn() == (FIRST,)
    assert machine.notes == [
        f"Remembered for GEMMA4_KERNELS=auto: faster here: {FIRST}."
    ]


def test_too_few_rounds_change_nothing(machine: Machine) -> None:
    assert machine.learn(rounds=2) is None
    assert not machine.notes and not memory_file().exists()


def test_without_metal_nothing_is_remembered(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    assert machine.learn() is None
    assert not machine.notes and not memory_file().exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (0.5, "left out: its results are wrong"),
        (math.nan, "are not finite"),
        (None, "no kernel is faster here"),
    ],
)
def test_a_kernel_that_is_faster_and_wrong_is_left_out(
    machine: Machine, wrong: float | None, told: str
) -> None:
    machine.wrong = wrong
    assert machine.learn() == ()
    assert told in machine.notes[0]


def test_a_kernel_that_fails_when_compared_is_left_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object) -> float:
        raise RuntimeError("too many threads")

    monkeypatch.setattr(auto, "default_contexts", lambda model, decode: [7])
    monkeypatch.setattr(auto, "farthest", failing)
    assert machine.learn() == ()
    assert "fails here and is left out: too many threads" in machine.notes[0]
