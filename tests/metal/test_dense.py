"""The kernels of linear maps, against float64 on the dequantised weights.

Not against `mx.quantized_matmul`, which on a CPU rounds 16-bit sums as it goes.
"""

from dataclasses import dataclass, replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from checks import CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.kernels import dense, gated, gated_pair, project, using

NAMES = ("dense", "project", "geglu", "gate")
WIDE = 2048  # outputs, from which on a simdgroup computes four


def linear_of(
    outputs: int,
    inputs: int,
    dtype: mx.Dtype,
    bits: int = 4,
    group_size: int = 32,
    seed: int = 1,
) -> nn.QuantizedLinear:
    plain = nn.Linear(inputs, outputs, bias=False)
    plain.weight = random(seed, (outputs, inputs), dtype) * inputs**-0.5
    return nn.QuantizedLinear.from_linear(plain, group_size, bits)


def dequantised(linear: nn.QuantizedLinear | nn.QuantizedEmbedding) -> np.ndarray:
    assert linear.biases is not None
    parts = linear.scales.astype(mx.float32), linear.biases.astype(mx.float32)
    size, bits = linear.group_size, linear.bits
    return exact(mx.dequantize(linear.weight, *parts, size, bits))


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


@dataclass(frozen=True)
class Case:
    """Rows, and the maps that they go through: `project` has some with more outputs."""

    inputs: int = 96
    outputs: int = 7
    rows: int = 3
    bits: int = 4
    group_size: int = 32
    dtype: mx.Dtype = mx.bfloat16
    maps: int = 3

    def linears(self) -> list[nn.QuantizedLinear]:
        packing = self.dtype, self.bits, self.group_size
        return [
            linear_of(self.outputs + 3 * i, self.inputs, *packing, seed=i + 1)
            for i in range(self.maps)
        ]

    def check(self, name: str) -> None:
        x = random(9, (1, self.rows, self.inputs), self.dtype)
        one, *others = self.linears()
        first = exact(x) @ dequantised(one).T
        if name == "dense":
            close(dense(one, x), first)
        elif name == "project":
            found = project([one, *others], x)
            for each, ours in zip([one, *others], found, strict=True):
                close(ours, exact(x) @ dequantised(each).T)
        elif name == "geglu":
            up = linear_of(
                self.outputs, self.inputs, self.dtype, self.bits, self.group_size, 8
            )
            expected = gelu(first) * (exact(x) @ dequantised(up).T)
            close(gated_pair(one, up, x), expected)
        else:
            factor = random(3, (1, self.rows, self.outputs), self.dtype)
            close(gated(one, x, factor), gelu(first) * exact(factor))


def run(cpu: Cpu, name: str, *cases: Case, **options: str) -> None:
    """Checks the cases, each of which has to take one launch."""
    harness = cpu(**options)
    with using(name, make=harness.metal_kernel):
        for case in cases:
            case.check(name)
    assert len(harness.launches) == len(cases)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_types(cpu: Cpu, name: str, dtype: mx.Dtype) -> None:
    run(cpu, name, Case(dtype=dtype))


@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (8, 32), (8, 64)])
@pytest.mark.parametrize("name", NAMES)
def test_packings(cpu: Cpu, name: str, bits: int, group_size: int) -> None:
    run(cpu, name, Case(192, bits=bits, group_size=group_size))


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_rows(cpu: Cpu, name: str, rows: int) -> None:
    run(cpu, name, Case(rows=rows))


@pytest.mark.parametrize("inputs", [32, 128, 192, 352, 512, 704, 1056])
@pytest.mark.parametrize("outputs", [8, WIDE + 1])
def test_last_rounds(cpu: Cpu, inputs: int, outputs: int) -> None:
    """Pieces of 16 weights: with one or more rounds of 32 before them, none, at most 8,
    at most 16 and more are left for all rows, some of them and one at once."""
    run(cpu, "dense", Case(inputs, outputs, 1, dtype=mx.float32))


@pytest.mark.parametrize("name", NAMES)
def test_many_outputs(cpu: Cpu, name: str) -> None:
    run(cpu, name, Case(64, WIDE + 2, 1))


def test_two_maps(cpu: Cpu) -> None:
    run(cpu, "project", Case(maps=2))


REAL = {
    "26B-A4B": Case(2816, 24, 1, group_size=64),
    "26B-A4B, 8 bits": Case(2112, 24, 1, 8, 64),
    "31B": Case(5376, 24, 1, group_size=64),
    "31B, down": Case(21504, 8, 1, group_size=64),
    "E2B": Case(1536, 256, 2, group_size=64),
}


@pytest.mark.parametrize("shape", REAL)
def test_real_inputs(cpu: Cpu, shape: str) -> None:
    run(cpu, "dense", replace(REAL[shape], dtype=mx.float32))


@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_memory_and_order(cpu: Cpu, name: str, check_for: str, schedule: str) -> None:
    run(cpu, name, Case(608), check=check_for, schedule=schedule)


MUTATIONS = {
    "a group too far": (
        "affine",
        ("piece * SIZE / GROUP;", "piece * SIZE / GROUP + 1;"),
        "address",
        "heap-buffer-overflow",
    ),
    "a row of x too many": (
        "affine",
        ("min(token0 + t, tokens - 1)", "token0 + t"),
        "address",
        "heap-buffer-overflow",
    ),
    "a row of weights too many": (
        "affine",
        ("min(row0 + r, outputs - 1)", "row0 + r"),
        "address",
        "heap-buffer-overflow",
    ),
    "outputs past the end": (
        "dense",
        ("row < outputs && token < tokens", "row < outputs"),
        "address",
        "heap-buffer-overflow",
    ),
    "two lanes that write": (
        "dense",
        ("lane == 0 &&", "lane < 2 &&"),
        "races",
        r"data race \(write, write\) on output",
    ),
    "an output left out": (
        "dense",
        ("row < outputs &&", "row + 1 < outputs &&"),
        "races",
        "never written",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    name, change, check, message = MUTATIONS[mutation]
    with (
        mutated(monkeypatch, name, *change),
        using("dense", make=cpu(check=check).metal_kernel),
        pytest.raises(MetalFault, match=message),
    ):
        Case(608).check("dense")


WRONG = {
    "the last round": ("affine", "if (REST > 0 &&", "if (REST > 99 &&", "dense"),
    "the other nibbles": ("affine", "values[i + HALF]", "values[i]", "dense"),
    "the bias": ("affine", "bias * sums[t]", "bias", "dense"),
    "a map's place": ("project", "out = out3;", "out = out2;", "project"),
    "gate and up": ("geglu", "total[COUNT + i]", "total[i]", "geglu"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_result_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    name, old, new, kernel = WRONG[fault]
    with (
        mutated(monkeypatch, name, old, new),
        using(kernel, make=cpu().metal_kernel),
        pytest.raises(AssertionError),
    ):
        Case(608).check(kernel)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_plain_ones(cpu: Cpu, name: str) -> None:
    linears = Case(32, 8, dtype=mx.float32).linears()
    same = linear_of(8, 32, mx.float32, seed=8)
    x, factor = random(2, (1, 2, 32), mx.float32), random(3, (1, 2, 8), mx.float32)
    scales = linears[0].scales

    def loss(x: mx.array, factor: mx.array, scales: mx.array) -> mx.array:
        linears[0].scales = scales
        results = {
            "dense": lambda: [dense(linears[0], x)],
            "project": lambda: project(linears, x),
            "geglu": lambda: [gated_pair(linears[0], same, x)],
            "gate": lambda: [gated(linears[0], x, factor)],
        }[name]()
        return sum(((y**2).sum() for y in results), mx.array(0.0)) + factor.sum()

    gradients = mx.grad(loss, argnums=(0, 1, 2))
    with using(name, make=cpu().metal_kernel):
        ours = gradients(x, factor, scales)
    for a, b in zip(ours, gradients(x, factor, scales), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_tied_table_is_a_map(cpu: Cpu) -> None:
    table = nn.QuantizedEmbedding(20, 96, 32, 4)
    x = random(1, (1, 1, 96), mx.float32)
    harness = cpu()
    with using("dense", make=harness.metal_kernel):
        close(dense(table, x), exact(x) @ dequantised(table).T)
    np.testing.assert_allclose(dense(table, x), table.as_linear(x))
    assert len(harness.launches) == 1
