"""In a process: how long the host takes to build the graph of one decoding step.

With the real models' layers at small widths, as if there were Metal: MLX's fused
operations, which a CPU writes out in many, are one here. Nothing is evaluated. Ours,
with its kernels off and on, and mlx-lm's take turns of some steps in a row.
"""

import gc
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any
from unittest import mock

import mlx.core as mx
from child import Stopwatch
from graphs import traced

STEPS, ROUNDS = 16, 4  # in a row, as in an answer; and how often
FUSED = ("rms_norm", "rope", "scaled_dot_product_attention")


def run(answer: Callable[[object], None], context: str, *models: str) -> None:
    """Answers with milliseconds of the processor by model and kernels."""
    with ExitStack() as stack:
        metal = mock.patch.object(mx.metal, "is_available", lambda: True)
        stack.enter_context(metal)
        for name in FUSED:
            one = mock.patch.object(mx.fast, name, lambda x, *_, **__: mx.negative(x))
            stack.enter_context(one)
        answer({model: _milliseconds(model, int(context)) for model in models})


def _milliseconds(model: str, context: int) -> dict[str, float]:
    from launches import ALL, MLX_LM, PLAIN, models_of

    from mlx_gemma4.bench.rounds import take_rounds
    from mlx_gemma4.decoding.step import DecodingStep
    from mlx_gemma4.kernels import NAMES, using

    ours, theirs = models_of(model)

    def with_kernels(*names: str) -> Callable[[int], float]:
        with using(*names):
            step = _decoding(ours, DecodingStep(ours), context)

        def build(number: int) -> float:
            with using(*names):
                return in_a_row(step)

        return build

    def steps() -> dict[str, list[float]]:
        theirs_alone = _decoding(theirs, theirs, context)
        calls: dict[str, Callable[[int], float]] = {
            MLX_LM: lambda number: in_a_row(theirs_alone),
            PLAIN: with_kernels(),
            ALL: with_kernels(*NAMES),
        }
        gc.collect()
        return take_rounds(calls, range(ROUNDS + 1))

    found = traced(steps)
    return {label: median(times[1:]) * 1e3 for label, times in found.items()}


def in_a_row(step: Callable[[], float]) -> float:
    """The median of some steps; the first find nothing in the processor's caches."""
    return median([step() for _ in range(STEPS)][2:])


def _decoding(model: Any, decode: Any, context: int) -> Callable[[], float]:
    """Builds a step behind `context` tokens and the steps before it; in seconds."""
    cache = model.make_cache()
    outputs = [model(mx.array([[5] * context]), cache=cache)]

    def step() -> float:
        watch = Stopwatch()
        outputs.append(decode(mx.array([[9]]), cache=cache))
        return watch.read().cpu

    return step
