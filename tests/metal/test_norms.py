"""The kernel of residuals and norms, against float64."""

from dataclasses import dataclass
from importlib import import_module

import mlx.core as mx
import numpy as np
import pytest
from checks import BARRIER, CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.kernels import Norm, add_norms, using

MODULE = import_module("mlx_gemma4.kernels.norms")
EPS = 1e-6


@dataclass(frozen=True)
class Case:
    """What a layer asks for: parts to add, the scalar, and how many norms follow."""

    parts: int = 1
    scaled: bool = False
    norms: int = 1


BEHIND_ATTENTION = Case(norms=3)  # with experts: MLP, experts, router
BEHIND_EXPERTS = Case(parts=2, scaled=True)
BEHIND_MLP = Case(scaled=True)
BEFORE_PER_LAYER_INPUT = Case(norms=0)
MOST = Case(parts=2, scaled=True, norms=3)
CASES = (BEHIND_ATTENTION, BEHIND_EXPERTS, BEHIND_MLP, BEFORE_PER_LAYER_INPUT)
FACTORS = (1.0, 1.0, 0.125)


class Inputs:
    """Random arrays for a case, and what it gives, in float64."""

    def __init__(self, case: Case, rows: int, width: int, dtype: mx.Dtype):
        arrays = [random(i, (rows, width), dtype) for i in range(1 + case.parts)]
        self.h, self.parts = arrays[0], arrays[1:]
        # Far from 1: a norm left out has to show.
        self.weights = [
            random(9 + i, (width,), dtype) + 2 for i in range(2 * case.parts - 1)
        ]
        self.norms = [
            Norm(random(20 + i, (width,), dtype), FACTORS[i]) for i in range(case.norms)
        ]
        self.scalar = mx.array([0.7]).astype(dtype) if case.scaled else None

    def run(self) -> tuple[mx.array, list[mx.array]]:
        return add_norms(self.h, self.parts, self.weights, EPS, self.scalar, self.norms)

    def check(self) -> None:
        out, normed = self.run()
        y = exact(self.parts[0])
        if len(self.parts) == 2:
            y = rms(y) * exact(self.weights[0])
            y += rms(exact(self.parts[1])) * exact(self.weights[1])
        expected = exact(self.h) + rms(y) * exact(self.weights[-1])
        if self.scalar is not None:
            expected *= exact(self.scalar)
        close(out, expected)
        assert len(normed) == len(self.norms)
        for norm, ours in zip(self.norms, normed, strict=True):
            weight = exact(norm.weight) * norm.factor
            close(ours, rms(exact(out)) * weight)


def rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS)


@pytest.mark.parametrize("case", CASES)
def test_odd_sizes(cpu: Cpu, case: Case) -> None:
    with using("norms", make=cpu().metal_kernel):
        for rows, width in ((1, 8), (1, 76), (16, 128), (3, 384), (2, 4096)):
            Inputs(case, rows, width, mx.float32).check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(cpu: Cpu, dtype: mx.Dtype) -> None:
    with using("norms", make=cpu().metal_kernel):
        Inputs(MOST, 2, 256, dtype).check()


@pytest.mark.parametrize(
    ("width", "case"),
    [
        (1536, BEFORE_PER_LAYER_INPUT),  # E2B
        (2560, BEHIND_MLP),  # E4B
        (2816, MOST),  # 26B-A4B
        (5376, BEHIND_MLP),  # 31B
    ],
)
def test_real_widths(cpu: Cpu, width: int, case: Case) -> None:
    with using("norms", make=cpu().metal_kernel):
        Inputs(case, 2, width, mx.bfloat16).check()


@pytest.mark.parametrize(("check", "schedule"), CHECKS)
def test_memory_and_order(cpu: Cpu, check: str, schedule: str) -> None:
    harness = cpu(check=check, schedule=schedule)
    with using("norms", make=harness.metal_kernel):
        Inputs(MOST, 2, 384, mx.bfloat16).check()


def test_a_dropped_barrier_is_caught(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        mutated(monkeypatch, "reduce", BARRIER, ""),
        using("norms", make=cpu(check="races").metal_kernel),
        pytest.raises(MetalFault, match="threadgroup array"),
    ):
        Inputs(MOST, 2, 384, mx.bfloat16).run()


def test_one_sum_too_few_is_caught(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sums in one place: the second is written while the first is read."""
    with (
        mutated(monkeypatch, "norms", "part_out, tid", "part_x, tid"),
        using("norms", make=cpu(check="races").metal_kernel),
        pytest.raises(MetalFault, match="data race"),
    ):
        Inputs(BEHIND_ATTENTION, 2, 384, mx.bfloat16).run()


def test_a_shifted_index_is_caught(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        mutated(monkeypatch, "norms", "PACK(h, base)", "PACK(h, base + 1)"),
        using("norms", make=cpu(check="address").metal_kernel),
        pytest.raises(MetalFault, match="heap-buffer-overflow"),
    ):
        Inputs(MOST, 2, 384, mx.bfloat16).run()


def test_gradients_are_the_plain_ones(cpu: Cpu) -> None:
    inputs = Inputs(MOST, 2, 40, mx.float32)

    def loss(*arrays: mx.array) -> mx.array:
        h, part, weight, scalar = arrays
        weights = [*inputs.weights[:2], weight]
        parts = [inputs.parts[0], part]
        out, normed = add_norms(h, parts, weights, EPS, scalar, inputs.norms)
        return (out**2).sum() + sum((y * (i + 1)).sum() for i, y in enumerate(normed))

    assert inputs.scalar is not None
    arguments = (inputs.h, inputs.parts[1], inputs.weights[2], inputs.scalar)
    gradients = mx.grad(loss, argnums=(0, 1, 2, 3))
    plain = gradients(*arguments)
    with using("norms", make=cpu().metal_kernel):
        ours = gradients(*arguments)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_how_many_threads_share_a_row() -> None:
    """Whole simdgroups and whole packs for each, or no kernel."""
    real = {1536: 384, 2560: 640, 2816: 704, 5376: 672}
    odd = {4: 0, 8: 2, 30: 0, 128: 32, 132: 0, 8192: 512, 32 * 4 * 61: 0}
    for width, threads in (real | odd).items():
        assert MODULE._threads(width) == threads, width


def test_what_does_not_fit_falls_back(cpu: Cpu) -> None:
    harness = cpu()
    with using("norms", make=harness.metal_kernel):
        Inputs(BEHIND_MLP, 17, 8, mx.float32).check()  # too many rows
        Inputs(BEHIND_MLP, 2, 33, mx.float32).check()  # no packs of four
        mixed = Inputs(BEHIND_MLP, 2, 8, mx.float16)
        mixed.weights = [w.astype(mx.float32) for w in mixed.weights]
        mixed.run()
    assert harness.launches == []
