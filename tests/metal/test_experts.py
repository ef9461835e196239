"""The experts' two kernels, against float64 on the dequantised weights.

Not against `mx.gather_qmm`, which on a CPU rounds 16-bit sums as it goes.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest
from checks import CHECKS, DTYPES, Cpu, close, exact, mutated, random
from translate import MetalFault

from mlx_gemma4.kernels import Affine, enabled, experts, experts_fit, using
from mlx_gemma4.kernels.experts import experts_plain


@dataclass(frozen=True)
class Case:
    """How many tokens, experts and chosen ones, and how wide."""

    tokens: int = 2
    count: int = 5
    top_k: int = 3
    hidden: int = 64
    width: int = 96
    bits: int = 4
    group_size: int = 32
    dtype: mx.Dtype = mx.bfloat16

    def map(self, seed: int, outputs: int, inputs: int) -> Affine:
        weight = random(seed, (self.count, outputs, inputs), self.dtype) * inputs**-0.5
        parts = mx.quantize(weight, self.group_size, self.bits)
        return Affine(*parts, self.group_size, self.bits)

    def arguments(self) -> "Arguments":
        draw = np.random.RandomState(self.tokens)
        rows = [draw.permutation(self.count)[: self.top_k] for _ in range(self.tokens)]
        shares = mx.array(draw.uniform(0.1, 1, (self.tokens, self.top_k)))
        return (
            random(1, (self.tokens, self.hidden), self.dtype),
            mx.array(np.array(rows, np.uint32)),
            shares.astype(self.dtype),
            self.map(2, 2 * self.width, self.hidden),
            self.map(3, self.hidden, self.width),
        )


Arguments = tuple[mx.array, mx.array, mx.array, Affine, Affine]


def dequantised(maps: Affine) -> np.ndarray:
    scales, biases = maps.scales.astype(mx.float32), maps.biases.astype(mx.float32)
    whole = mx.dequantize(maps.weight, scales, biases, maps.group_size, maps.bits)
    return exact(whole)


def expected(
    x: mx.array, chosen: mx.array, shares: mx.array, gate_up: Affine, down: Affine
) -> np.ndarray:
    first, second, out = dequantised(gate_up), dequantised(down), []
    for row, names, weights in zip(
        exact(x), np.array(chosen), exact(shares), strict=True
    ):
        total = np.zeros(down.outputs)
        for name, weight in zip(names, weights, strict=True):
            gate, up = np.split(first[name] @ row, 2)
            gelu = (
                0.5 * gate * (1 + np.tanh(0.7978845608 * (gate + 0.044715 * gate**3)))
            )
            total += weight * (second[name] @ (gelu * up))
        out.append(total)
    return np.stack(out)


def compare(case: Case) -> None:
    arguments = case.arguments()
    close(experts(*arguments), expected(*arguments))


def check(cpu: Cpu, case: Case, **options: str) -> None:
    with using("experts", make=cpu(**options).metal_kernel):
        compare(case)


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(cpu: Cpu, dtype: mx.Dtype) -> None:
    check(cpu, Case(dtype=dtype))


@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (8, 32), (8, 64)])
def test_packings(cpu: Cpu, bits: int, group_size: int) -> None:
    check(cpu, Case(bits=bits, group_size=group_size, hidden=128, width=64))


@pytest.mark.parametrize("tokens", [1, 16])
@pytest.mark.parametrize(("hidden", "width"), [(32, 32), (608, 96), (96, 1024)])
def test_odd_sizes(cpu: Cpu, tokens: int, hidden: int, width: int) -> None:
    """Less than a piece for each lane, and more; four outputs at once, and two."""
    check(cpu, Case(tokens=tokens, hidden=hidden, width=width))


def with_odd_outputs(case: Case) -> Arguments:
    """Maps whose rows are no multiple of those of a simdgroup."""
    return (*case.arguments()[:4], case.map(5, 29, case.width))


def test_rows_that_are_no_multiple(cpu: Cpu) -> None:
    arguments = with_odd_outputs(Case())
    with using("experts", make=cpu().metal_kernel):
        close(experts(*arguments), expected(*arguments))


def test_the_real_shape(cpu: Cpu) -> None:
    """26B-A4B's widths and eight experts a token, of 9 in place of 128."""
    check(cpu, Case(1, 9, 8, 2816, 704, group_size=64))


@pytest.mark.parametrize(("check_for", "schedule"), CHECKS)
def test_memory_and_order(cpu: Cpu, check_for: str, schedule: str) -> None:
    check(cpu, Case(hidden=32, width=64), check=check_for, schedule=schedule)


MUTATIONS = {
    "an expert too far": (
        "address",
        "experts_gate_up",
        ("chosen[slot] * 2 * outputs", "(chosen[slot] + 1) * 2 * outputs"),
        "heap-buffer-overflow",
    ),
    "outputs past the end": (
        "address",
        "experts_down",
        ("&& row0 + r < outputs", ""),
        "heap-buffer-overflow",
    ),
    "two lanes that write": (
        "races",
        "experts_down",
        ("lane == 0 &&", "lane < 2 &&"),
        r"data race \(write, write\) on output",
    ),
    "a row left out": (
        "races",
        "experts_gate_up",
        ("lane == 0 && row0", "lane == 0 && row0 + 1"),
        "never written",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(
    cpu: Cpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    check, name, change, message = MUTATIONS[mutation]
    with (
        mutated(monkeypatch, name, *change),
        using("experts", make=cpu(check=check).metal_kernel),
        pytest.raises(MetalFault, match=message),
    ):
        experts(*with_odd_outputs(Case(hidden=32, width=64)))


def test_the_twin_gives_the_same(cpu: Cpu) -> None:
    arguments = Case(dtype=mx.float32).arguments()
    np.testing.assert_allclose(
        experts_plain(*arguments), expected(*arguments), atol=1e-4
    )


def test_gradients_are_the_plain_ones(cpu: Cpu) -> None:
    x, chosen, shares, gate_up, down = Case(dtype=mx.float32).arguments()

    def loss(x: mx.array, shares: mx.array, scales: mx.array) -> mx.array:
        maps = Affine(gate_up.weight, scales, gate_up.biases, 32, 4)
        run = experts if enabled("experts") else experts_plain
        return (run(x, chosen, shares, maps, down) ** 2).sum()

    gradients = mx.grad(loss, argnums=(0, 1, 2))
    with using("experts", make=cpu().metal_kernel):
        ours = gradients(x, shares, gate_up.scales)
    plain = gradients(x, shares, gate_up.scales)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_what_does_not_fit() -> None:
    x, _, _, gate_up, down = Case().arguments()
    assert not experts_fit(x, gate_up, down)
    with using("experts"):
        assert experts_fit(x, gate_up, down)
        assert not experts_fit(mx.zeros((17, 64), x.dtype), gate_up, down)
        assert not experts_fit(x.astype(mx.float32), gate_up, down)
        assert not experts_fit(x, gate_up, Case(bits=6, group_size=32).map(1, 64, 96))
