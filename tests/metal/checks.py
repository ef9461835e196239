"""What the tests of every kernel share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import mlx.core as mx
import numpy as np
import pytest
from metal_cpu import MetalCpu

from mlx_gemma4.kernels import launch

Cpu = Callable[..., MetalCpu]

# Of the largest value: a rounding or two of the result, and of what goes in between.
TOLERANCE = {mx.float32: 3e-6, mx.float16: 2e-3, mx.bfloat16: 1.2e-2}
DTYPES = tuple(TOLERANCE)
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
# Each of the last two finds its own kind of fault; the schedules are spread over them.
CHECKS = (("address", "random"), ("races", "forward"), ("races", "reverse"))


def exact(x: mx.array) -> np.ndarray:
    """`x` in float64."""
    return np.array(x.astype(mx.float32)).astype(np.float64)


def close(ours: mx.array, expected: np.ndarray) -> None:
    """Asserts that `ours` is `expected`, as well as its dtype can tell."""
    assert ours.shape == expected.shape
    error = np.abs(exact(ours) - expected).max()
    assert error <= TOLERANCE[ours.dtype] * np.abs(expected).max()


def random(seed: int, shape: Sequence[int], dtype: mx.Dtype) -> mx.array:
    draw = np.random.RandomState(seed)
    return mx.array(draw.standard_normal(shape).astype(np.float32)).astype(dtype)


@contextmanager
def mutated(
    monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str
) -> Iterator[None]:
    """NAME.metal with `new` in place of `old` meanwhile."""
    original = launch.source
    assert old in original(name)

    def source(asked: str) -> str:
        text = original(asked)
        return text.replace(old, new) if asked == name else text

    with monkeypatch.context() as patch:
        patch.setattr(launch, "source", source)
        yield
