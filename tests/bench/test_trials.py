"""What is said of runs whose seconds are given. No clock runs."""

from collections.abc import Callable
from functools import partial

import mlx.core as mx
import pytest
from compiling import uncompiled

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


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[mx.array]]:
    """What was computed last, in runs that take 1, 9 and then 2 seconds."""
    found: list[list[mx.array]] = []

    def seconds_of(made: list[mx.array]) -> float:
        mx.eval(made)
        found.append(made)
        return {3: 1.0, 4: 9.0}.get(len(found), 2.0)

    monkeypatch.setattr(trials, "_seconds_of", seconds_of)
    return found


def test_runs_are_as_long_as_they_have_to_be(
    ran: list[list[mx.array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def kernel(x: mx.array) -> list[mx.array]:
        nonlocal calls
        calls += 1
        return [x]

    monkeypatch.setattr(trials, "SLICE", 4.5)  # of repeats that take a second each
    with uncompiled():
        one = Trial("norms", kernel, lambda x: [x], (mx.array([1.0]),), in_order)
        assert trials.timed([one, one], 0.0).verdict == "unclear"
    assert calls == 2 * (1 + 5 * (1 + trials.PAIRS[0]))  # warm-ups, then pairs


@pytest.mark.parametrize("nan", [0, 1])
def test_a_run_waits_for_all_results(nan: int, ran: list[list[mx.array]]) -> None:
    """What is not a number in any of them would not be seen, were it left out."""

    def kernel(x: mx.array) -> list[mx.array]:
        results = [x + 1, (x + 2).reshape(1, 3)]
        results[nan] = results[nan] * mx.nan
        return results

    with uncompiled():
        trials._run([kernel, lambda x: [x]], [(mx.array([1.0] * 3),)] * 2, 1)
        assert mx.isnan(ran[-1][0]).all().item()
        trials._run([lambda x: [x]] * 2, [(mx.array([1.0] * 3),)] * 2, 1)
        assert ran[-1][0].tolist() == [1.0] * 3
