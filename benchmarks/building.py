"""In a process: how long the host takes to build the graph of one decoding step.

With the real models' layers at small widths, as if there were Metal: MLX's fused
operations, which a CPU writes out in many, are one here. Nothing is evaluated. Ours,
with its kernels off and on, and mlx-lm's take turns.
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from statistics import median
from typing import Any
from unittest import mock

import mlx.core as mx
from child import Stopwatch

STEPS, ROUNDS = 8, 3
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
    from launches import MLX_LM, models_of, settings

    from mlx_gemma4.bench.rounds import take_rounds
    from mlx_gemma4.kernels import using

    ours, theirs = models_of(model)

    def with_kernels(*names: str) -> Callable[[int], float]:
        def build(number: int) -> float:
            with using(*names):
                return _step(ours, context)

        return build

    calls: dict[str, Callable[[int], float]] = {
        MLX_LM: lambda n: _step(theirs, context)
    }
    calls |= {label: with_kernels(*names) for label, names in settings().items()}
    found = take_rounds(calls, range(ROUNDS + 1))
    return {label: median(times[1:]) for label, times in found.items()}


def _step(model: Any, context: int) -> float:
    spent: list[float] = []

    def read() -> list[mx.array]:
        cache = model.make_cache()
        outputs = [model(mx.array([[5] * context]), cache=cache)]
        for _ in range(STEPS):
            watch = Stopwatch()
            outputs.append(model(mx.array([[9]]), cache=cache))
            spent.append(watch.read().cpu)
        return outputs

    # Kernels can be called without Metal only while a function is traced.
    export: Any = mx.export_function
    with suppress(ValueError):  # compiled functions cannot be written, and need not
        export(lambda entry: None, read)
    return 1e3 * median(spent)
