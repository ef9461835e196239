"""AdamW (arXiv:1711.05101), its schedules, and the norm of a gradient.

The update is a function from one state to the next: a run that is stopped anywhere
still holds the whole state of its last finished step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import mlx.core as mx

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
Schedule = Literal["cosine", "linear", "constant"]
Arrays = Mapping[str, mx.array]


@dataclass(frozen=True)
class State:
    """What is learned, by name, with both moments, after `step` steps.

    All in float32, whatever the model computes in: a step is mostly smaller than the
    distance between two bfloat16 numbers, and would be lost in them.
    """

    step: int
    parameters: Arrays
    first: Arrays
    second: Arrays
    updates: int = 0  # steps that were not skipped


def first_state(parameters: Arrays) -> State:
    master = {n: p.astype(mx.float32) for n, p in parameters.items()}
    zeros = {n: mx.zeros(p.shape, mx.float32) for n, p in parameters.items()}
    return State(0, master, zeros, dict(zeros))


def updated(state: State, gradients: Arrays, rate: float, decay: float) -> State:
    """The state after one step of AdamW. Vectors (norms, DoRA's m) do not decay."""
    count = state.updates + 1
    unbias1, unbias2 = 1 - BETA1**count, 1 - BETA2**count
    parameters, first, second = {}, {}, {}
    for name, parameter in state.parameters.items():
        g = gradients[name].astype(mx.float32)
        m = first[name] = BETA1 * state.first[name] + (1 - BETA1) * g
        v = second[name] = BETA2 * state.second[name] + (1 - BETA2) * mx.square(g)
        change = (m / unbias1) / (mx.sqrt(v / unbias2) + EPSILON)
        if decay and parameter.ndim > 1:
            change = change + decay * parameter
        parameters[name] = parameter - rate * change
    mx.eval(parameters, first, second)
    return State(state.step + 1, parameters, first, second, count)


def skipped(state: State) -> State:
    """The state after a step whose gradient was unusable."""
    return State(
        state.step + 1, state.parameters, state.first, state.second, state.updates
    )


def rate_at(
    step: int, steps: int, peak: float, schedule: Schedule, warmup: int
) -> float:
    """The learning rate of step `step` (from 0): up to `peak`, then by `schedule`.

    Cosine and linear end at a tenth of the peak.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    if schedule == "constant":
        return peak
    fall = share if schedule == "linear" else (1 - math.cos(math.pi * share)) / 2
    return peak * (1 - 0.9 * min(1.0, fall))


def norm(gradients: Arrays) -> float:
    """The Euclidean norm of all gradients together."""
    # By name: a sum of floats depends on its order, and a resumed run has another.
    ordered = (gradients[name].astype(mx.float32) for name in sorted(gradients))
    parts = [mx.square(g).sum() for g in ordered]
    return cast(float, mx.sqrt(mx.stack(parts).sum()).item())
