"""The kernel of the per-layer input's gate, against float64."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from checks import CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.kernels import gated, using


def linear_of(
    outputs: int, inputs: int, dtype: mx.Dtype, bits: int = 4, group_size: int = 32
) -> nn.QuantizedLinear:
    plain = nn.Linear(inputs, outputs, bias=False)
    plain.weight = random(1, (outputs, inputs), dtype) * inputs**-0.5
    return nn.QuantizedLinear.from_linear(plain, group_size, bits)


def check(linear: nn.QuantizedLinear, rows: int) -> None:
    assert linear.biases is not None
    parts = linear.scales.astype(mx.float32), linear.biases.astype(mx.float32)
    whole = mx.dequantize(linear.weight, *parts, linear.group_size, linear.bits)
    outputs, inputs = whole.shape
    x = random(2, (1, rows, inputs), linear.scales.dtype)
    factor = random(3, (1, rows, outputs), linear.scales.dtype)
    gate = exact(x) @ exact(whole).T
    shape = 0.7978845608 * (gate + 0.044715 * gate**3)
    close(gated(linear, x, factor), 0.5 * gate * (1 + np.tanh(shape)) * exact(factor))


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_sizes(cpu: Cpu, dtype: mx.Dtype) -> None:
    with using("gate", make=cpu().metal_kernel):
        for rows, outputs, inputs in ((1, 1, 32), (16, 7, 352), (3, 8, 96)):
            check(linear_of(outputs, inputs, dtype), rows)


@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (8, 64), (8, 32)])
def test_the_real_shape_of_e2b(cpu: Cpu, bits: int, group_size: int) -> None:
    with using("gate", make=cpu().metal_kernel):
        check(linear_of(256, 1536, mx.bfloat16, bits, group_size), 1)


@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
def test_memory_and_order(cpu: Cpu, check_for: str, schedule: str) -> None:
    harness = cpu(check=check_for, schedule=schedule)
    with using("gate", make=harness.metal_kernel):
        check(linear_of(7, 64, mx.bfloat16), 2)


def test_rows_past_the_end_are_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        mutated(monkeypatch, "gate", "&& row0 + r < outputs", ""),
        using("gate", make=cpu(check="address").metal_kernel),
        pytest.raises(MetalFault, match="heap-buffer-overflow"),
    ):
        check(linear_of(7, 64, mx.bfloat16), 2)


def test_gradients_are_the_plain_ones(cpu: Cpu) -> None:
    linear = linear_of(8, 32, mx.float32)
    x, factor = random(2, (1, 2, 32), mx.float32), random(3, (1, 2, 8), mx.float32)

    def loss(x: mx.array, factor: mx.array) -> mx.array:
        return (gated(linear, x, factor) ** 2).sum()

    gradients = mx.grad(loss, argnums=(0, 1))
    with using("gate", make=cpu().metal_kernel):
        ours = gradients(x, factor)
    for a, b in zip(ours, gradients(x, factor), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_what_is_not_quantised_falls_back(cpu: Cpu) -> None:
    harness = cpu()
    with using("gate", make=harness.metal_kernel):
        gated(nn.Linear(32, 8, bias=False), mx.ones((1, 1, 32)), mx.ones((1, 1, 8)))
    assert harness.launches == []
