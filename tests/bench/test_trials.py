"""What is said of runs whose seconds are given. No clock runs."""

from collections.abc import Callable
from functools import partial
from itertools import cycle

import mlx.core as mx
import pytest

from mlx_gemma4.bench import trials
from mlx_gemma4.bench.trials import Timing, Use, fault_of, in_turns, loss_of
from mlx_gemma4.kernels.launch import Trial, in_order


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.0] * 30, "unclear"),
        ([1.2] * 10, "slower"),
        ([0.8] * 10, "faster"),
        ([1.005] * 30, "unclear"),  # surely, but not worth a word
        ([0.995] * 30, "unclear"),
        ([1.2] * 5, "unclear"),  # 1 in 32 is no proof
        ([1.5] * 15 + [0.6] * 15, "unclear"),
        ([1.5] * 24 + [0.6] * 6, "slower"),
        ([1.5] * 6 + [0.6] * 24, "faster"),
    ],
)
def test_verdicts(ratios: list[float], verdict: str) -> None:
    assert Timing(tuple(ratios)).verdict == verdict


def test_runs_take_turns_as_long_as_there_is_time() -> None:
    order: list[str] = []

    def run(name: str, seconds: float) -> float:
        order.append(name)
        return seconds

    ours, theirs = partial(run, "ours", 0.2), partial(run, "theirs", 0.1)
    least, most = trials.PAIRS
    assert in_turns(ours, theirs, 0.0).ratios == (2.0,) * least
    assert order[:2] == ["ours", "theirs"]  # to warm up
    assert order[2:8] == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert len(in_turns(ours, theirs, 1e9).ratios) == most
    assert len(in_turns(ours, theirs, 0.3 * (least + 5) - 0.1).ratios) == least + 5


def trial(width: int = 3, add: float = 0.0) -> Trial:
    """Of a kernel that is `add` too large."""
    x = mx.array([1.0] * width)
    return Trial("norms", lambda x: [x + add], lambda x: [x], (x,), in_order)


@pytest.mark.parametrize(
    ("add", "words"),
    [(0.0, None), (0.02, None), (0.1, "by 10%"), (float("nan"), "not finite")],
)
def test_faults(add: float, words: str | None) -> None:
    for use in (Use([trial(), trial(add=add)], []), Use([trial()], [trial(add=add)])):
        fault = fault_of(use)
        assert fault is None if words is None else fault and words in fault
    assert fault_of(Use([], [])) is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets by what sizes kernels take more time than their twins."""

    def set_clock(**factors: float) -> None:
        def timed(same: list[Trial], seconds: float) -> Timing:
            width = same[0].arrays[0].size
            return Timing((factors[f"w{width}"],) * 10)

        monkeypatch.setattr(trials, "timed", timed)

    return set_clock


def test_a_tie_is_kept_where_it_saves_launches(clock: Callable[..., None]) -> None:
    clock(w3=1.0)
    assert loss_of("norms", [trial()], 1.0) is None
    assert loss_of("dense", [trial()], 1.0) == "no faster than MLX, and saves no launch"
    clock(w3=0.9)
    assert loss_of("dense", [trial()], 1.0) is None


def test_a_loss_at_one_size_is_a_loss(clock: Callable[..., None]) -> None:
    clock(w3=0.5, w4=1.25)
    steps = [trial(3), trial(4), trial(3)]
    assert loss_of("norms", steps, 1.0) == "slower: 1.25 times MLX's time"
    assert loss_of("norms", steps[::2], 1.0) is None


def test_layers_of_one_size_are_timed_together() -> None:
    found = trials.same_sizes([trial(3) for _ in range(9)] + [trial(4)])
    assert [len(same) for same in found.values()] == [trials.INSTANCES, 1]


def test_a_run_computes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = cycle([1.0, 1.5])
    monkeypatch.setattr(trials, "perf_counter", lambda: next(seconds))
    with trials._uncompiled():  # on a CPU that takes a compiler
        timing = trials.timed([trial(add=0.1), trial(4)], 0.0)
    assert timing.ratios == (1.0,) * trials.PAIRS[0]
