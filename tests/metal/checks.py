"""What the tests of every kernel share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest
from generated import Maker

from mlx_gemma4.kernels import launch

Cpu = Callable[..., Maker]

# Of the largest value: a rounding or two of the result, and of what goes in between.
TOLERANCE = {mx.float32: 3e-6, mx.float16: 2e-3, mx.bfloat16: 1.2e-2, mx.uint32: 0.0}
DTYPES = (mx.float32, mx.float16, mx.bfloat16)
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
# Each of the last two finds its own kind of fault; the schedules are spread over them.
CHECKS = (("address", "random"), ("races", "forward"), ("races", "reverse"))


def exact(x: mx.array) -> np.ndarray:
    """`x` in float64."""
    return np.array(x.astype(mx.float32)).astype(np.float64)


@dataclass(frozen=True)
class Error:
    """The largest of a result, of its largest value, and what its dtype allows."""

    largest: float
    allowed: float

    @property
    def passes(self) -> bool:
        return self.largest <= self.allowed  # not with a NaN


_noted: list[list[Error]] = []  # by `noted`, the innermost last


def close(ours: mx.array, expected: np.ndarray) -> None:
    """Asserts that `ours` is `expected`, as well as its dtype can tell."""
    assert ours.shape == expected.shape
    most = np.abs(expected).max() or 1.0
    largest = float(np.abs(exact(ours) - expected).max() / most)
    error = Error(largest, TOLERANCE[ours.dtype])
    if _noted:
        _noted[-1].append(error)
    else:
        assert error.passes, error


@contextmanager
def noted() -> Iterator[list[Error]]:
    """What `close` finds meanwhile, which asserts nothing then."""
    _noted.append([])
    try:
        yield _noted[-1]
    finally:
        _noted.pop()


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
