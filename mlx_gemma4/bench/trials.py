"""Where a model would use kernels, and what is to be said of each use.

Each use (see kernels/launch.py) is tried at the model's own sizes, beside its twin:
first what both compute, then, in turns, how long both take.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, cast

import mlx.core as mx

from ..cache import LayerCache, rollback
from ..decoding.step import DecodingStep
from ..kernels import NAMES, Trial, collecting, using
from ..kernels.launch import SAVE_NOTHING
from ..model import Gemma4
from .rounds import Verdict, in_turn
from .sample import cache_behind

CONTEXTS = (64, 512, 4096, 32768)  # tokens held; attention alone depends on them
ROWS = (1, 4)  # of a step of decoding, and of a short draft
WITHIN = 0.03  # of the largest value: roundings of two ways in bfloat16
APART = 0.5  # of logits: roundings may make other experts of a layer the best
INSTANCES = 4  # layers whose weights take turns in what is timed
SLICE = 0.001  # seconds that a run takes about
MOST_REPEATS = 64
EXTRA = 8  # repeats, to find out how long one takes
PAIRS = (10, 30)  # of runs: at least, and at most
TOGETHER = 0.2  # seconds, for all that is on against nothing
SURE = 0.01  # chance of as many wins by luck, below which there is a verdict
MARGIN = 0.01  # by which the median has to differ


@dataclass(frozen=True)
class Use:
    """Where a model would run kernels: in steps of one token, and of a draft."""

    steps: list[Trial]
    drafts: list[Trial]

    def of(self, use: str) -> "Use":
        """What of it belongs to one use."""
        parts = self.steps, self.drafts
        return Use(*([trial for trial in part if trial.use == use] for part in parts))


class Sampled:
    """A sample of a model behind several contexts.

    make: in place of `mx.fast.metal_kernel`, for tests without Metal.
    """

    def __init__(self, model: Gemma4, make: Any = None):
        self.model, self.make = model, make
        most = model.config.text_config.max_position_embeddings - max(ROWS)
        contexts = [context for context in CONTEXTS if context <= most]
        self.caches = [cache_behind(model, context) for context in contexts]

    def uses(self) -> list[str]:
        """All for which the model has arrays that a kernel takes."""
        return sorted(use for name in NAMES for use in self._uses_of(name))

    def fault(self, use: str) -> str | None:
        """What is wrong with what a use computes; None if nothing."""
        name = use.partition(" ")[0]
        with using(name, make=self.make):
            return fault_of(self._uses_of(name)[use])

    def loss(self, use: str, seconds: float) -> str | None:
        """Why a use that is right does not pay, found out in about so long; None where
        it does."""
        name = use.partition(" ")[0]
        with using(name, make=self.make):
            return loss_of(name, self._uses_of(name)[use].steps, seconds)

    def fault_together(self, uses: Sequence[str]) -> str | None:
        """What is wrong with all of them at once in a step; None if nothing."""
        cache = self.caches[:2][-1]
        with using(*uses, make=self.make):
            if fault := fault_of(self.trials([cache])):
                return f"all together: {fault}"

        def logits(decode: DecodingStep, *on: str) -> list[mx.array]:
            with using(*on, make=self.make):
                found, _ = decode(mx.array([[5]]), cache)
            rollback(cache, 1)
            return [found]

        ours, theirs = DecodingStep(self.model), DecodingStep(self.model)
        far = _apart(*logits(ours, *uses), *logits(theirs))
        if not far < APART:
            return f"all together: logits differ by {far:.0%}"
        timing = in_turns(
            lambda: _seconds_of(logits(ours, *uses)),
            lambda: _seconds_of(logits(theirs)),
            TOGETHER,
        )
        if timing.verdict == "slower":
            return f"all together slower: {timing.median:.2f} times MLX's time"
        return None

    def _uses_of(self, name: str) -> dict[str, Use]:
        """Of a kernel without any other."""
        caches = self.caches if name == "attention" else self.caches[:1]
        with using(name, make=self.make):
            every = self.trials(caches)
        return {use: every.of(use) for use in {trial.use for trial in every.steps}}

    def trials(self, caches: Sequence[list[LayerCache]]) -> Use:
        """Of the kernels that are on, their arrays evaluated."""
        found: list[list[Trial]] = []
        for rows in ROWS:
            found.append([])
            for cache in caches:
                with collecting() as those:
                    self.model(mx.array([[5] * rows]), cache=cache)
                rollback(cache, rows)
                mx.eval([trial.arrays for trial in those.found])
                found[-1] += those.found
        return Use(*found)


def fault_of(use: Use) -> str | None:
    """What is wrong with what a use computes; None if nothing."""
    far = [distance(trial) for trial in (*use.steps, *use.drafts)]
    if any(map(math.isnan, far)):
        return "gives values that are not finite"
    if (most := max(far, default=0.0)) > WITHIN:
        return f"differs from MLX by {most:.0%} of the largest value"
    return None


def distance(trial: Trial) -> float:
    """The largest difference of a kernel from its twin, as a share of the twin's
    largest value. NaN where a value is not finite."""
    pairs = trial.pairs(trial.kernel(*trial.arrays), trial.twin(*trial.arrays))
    far = mx.stack([_difference(a, b) for a, b in pairs])
    return cast(float, mx.where(mx.isnan(far).any(), mx.nan, far.max()).item())


def _difference(ours: mx.array, twin: mx.array) -> mx.array:
    ours, twin = ours.astype(mx.float32), twin.astype(mx.float32)
    far = mx.abs(ours - twin).max() / mx.maximum(mx.abs(twin).max(), 1e-30)
    return mx.where(mx.isfinite(ours).all(), far, mx.nan)


def _apart(ours: mx.array, theirs: mx.array) -> float:
    """How far two results of a whole step are from each other, as a share of one."""
    ours, theirs = ours.astype(mx.float32), theirs.astype(mx.float32)
    share = mx.linalg.norm(ours - theirs) / mx.linalg.norm(theirs)
    return cast(float, share.item())


@dataclass(frozen=True)
class Timing:
    """Of ours to theirs, run by run beside each other."""

    ratios: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.ratios)

    @property
    def verdict(self) -> Verdict:
        """By a sign test: "unclear" is a tie."""
        slower = sum(ratio > 1 for ratio in self.ratios)
        if _by_luck(slower, len(self.ratios)) < SURE and self.median > 1 + MARGIN:
            return "slower"
        faster = len(self.ratios) - slower
        if _by_luck(faster, len(self.ratios)) < SURE and self.median < 1 - MARGIN:
            return "faster"
        return "unclear"


def _by_luck(wins: int, runs: int) -> float:
    """The chance of so many wins or more, of what is equally fast."""
    return sum(math.comb(runs, k) for k in range(wins, runs + 1)) / 2**runs


def loss_of(name: str, steps: Sequence[Trial], seconds: float) -> str | None:
    """Why a use of kernel `name` that is right does not pay; None where it does.

    What only ties is kept where it saves launches. A loss at one of several sizes, of
    what is held for instance, is a loss.

    seconds: that all of it may take, about.
    """
    sizes = list(same_sizes(steps).values())
    timings = [timed(each, seconds / len(sizes)) for each in sizes]
    worst = max(timings, key=lambda timing: timing.median)
    if any(timing.verdict == "slower" for timing in timings):
        return f"slower: {worst.median:.2f} times MLX's time"
    gains = any(timing.verdict == "faster" for timing in timings)
    if name in SAVE_NOTHING and not gains:
        return "no faster than MLX, and saves no launch"
    return None


def same_sizes(trials: Sequence[Trial]) -> dict[object, list[Trial]]:
    """Trials that differ in their layers alone: up to INSTANCES of each."""
    found: dict[object, list[Trial]] = {}
    for trial in trials:
        key = tuple((x.shape, x.dtype) for x in trial.arrays)
        same = found.setdefault(key, [])
        if len(same) < INSTANCES:
            same.append(trial)
    return found


def timed(trials: Sequence[Trial], seconds: float) -> Timing:
    """Of the same use in several layers, one behind the other."""
    ours = [mx.compile(trial.kernel) for trial in trials]
    theirs = [mx.compile(trial.twin) for trial in trials]
    arrays = [trial.arrays for trial in trials]
    _run(ours, arrays, 1)
    _run(theirs, arrays, 1)
    # To start and to wait for anything takes time, too, and that is nobody's.
    once, more = (_run(theirs, arrays, repeats) for repeats in (1, 1 + EXTRA))
    each = max((more - once) / EXTRA, SLICE / MOST_REPEATS)
    repeats = math.ceil(SLICE / each)
    return in_turns(
        lambda: _run(ours, arrays, repeats),
        lambda: _run(theirs, arrays, repeats),
        seconds,
    )


def in_turns(
    ours: Callable[[], float], theirs: Callable[[], float], seconds: float
) -> Timing:
    """Pairs of runs, each of which says how long it took, for about so long."""
    ratios: list[float] = []
    spent = 0.0
    ours()
    theirs()
    while len(ratios) < PAIRS[0] or (spent < seconds and len(ratios) < PAIRS[1]):
        took = {run: run() for run in in_turn((ours, theirs), len(ratios))}
        ratios.append(took[ours] / took[theirs])
        spent += took[ours] + took[theirs]
    return Timing(tuple(ratios))


def _run(
    functions: Sequence[Callable[..., list[mx.array]]],
    arrays: Sequence[tuple[mx.array, ...]],
    repeats: int,
) -> float:
    """Seconds to compute all, each waiting for the one before it."""
    made: list[mx.array] = []
    for _ in range(repeats):
        for function, (first, *rest) in zip(functions, arrays, strict=True):
            made = function(_behind(first, *made) if made else first, *rest)
    return _seconds_of(made)


@mx.compile
def _behind(x: mx.array, *made: mx.array) -> mx.array:
    """`x`, but not before all is `made`: one small launch."""
    for y in made:
        x = x + (0 * y[(slice(1),) * y.ndim].squeeze()).astype(x.dtype)
    return x


def _seconds_of(made: list[mx.array]) -> float:
    """How long it takes to compute; the graph is there already, as that of a compiled
    step is."""
    started = perf_counter()
    mx.eval(made)
    return perf_counter() - started
