"""The chosen experts of a few tokens, in two launches.

Gate, up and GeGLU are one, down and the weighted sum the other. Between them every
simdgroup would have to wait for all others, which only a second launch can do.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..layers import geglu
from .launch import DTYPES, MOST_ROWS, differentiable, launch

ROWS = 4  # of a map, for one simdgroup
SIMDGROUPS = 2  # in a threadgroup
BITS, GROUP_SIZES = (4, 8), (32, 64)


@dataclass(frozen=True)
class Affine:
    """A map per expert on quantised weights: weight uint32 [E, outputs, words]."""

    weight: mx.array
    scales: mx.array
    biases: mx.array
    group_size: int
    bits: int

    @property
    def outputs(self) -> int:
        return self.weight.shape[1]

    def gather(self, x: mx.array, chosen: mx.array) -> mx.array:
        return mx.gather_qmm(
            x,
            self.weight,
            self.scales,
            self.biases,
            rhs_indices=chosen,
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
        )


def experts_fit(x: mx.array, gate_up: Affine, down: Affine) -> bool:
    """Whether `experts` takes rows like `x` and these maps."""
    return (
        x.dtype in DTYPES
        and 0 < x.shape[0] <= MOST_ROWS
        and all(a.scales.dtype == a.biases.dtype == x.dtype for a in (gate_up, down))
        and all(a.bits in BITS for a in (gate_up, down))
        and all(a.group_size in GROUP_SIZES for a in (gate_up, down))
    )


def experts(
    x: mx.array, chosen: mx.array, shares: mx.array, gate_up: Affine, down: Affine
) -> mx.array:
    """The sum of what the `chosen` experts make of `x`, each by its share.

    x: [T, hidden]. chosen: uint32 [T, K]. shares: [T, K], as `x`.
    gate_up: gate and, behind it, up.
    """

    def kernel(*arrays: mx.array) -> list[mx.array]:
        x, shares, *rest = arrays
        return [_launch_both(x, chosen, shares, *_with(gate_up, down, *rest))]

    def twin(*arrays: mx.array) -> list[mx.array]:
        x, shares, *rest = arrays
        return [experts_plain(x, chosen, shares, *_with(gate_up, down, *rest))]

    arrays = (x, shares.astype(x.dtype), gate_up.scales, gate_up.biases)
    return differentiable(kernel, twin)(*arrays, down.scales, down.biases)[0]


def experts_plain(
    x: mx.array, chosen: mx.array, shares: mx.array, gate_up: Affine, down: Affine
) -> mx.array:
    gate, up = mx.split(gate_up.gather(x[:, None, None], chosen), 2, axis=-1)
    y = down.gather(geglu(gate, up), chosen).squeeze(2)  # [T, K, hidden]
    return (shares[:, None] @ y).squeeze(1)


def _with(gate_up: Affine, down: Affine, *arrays: mx.array) -> tuple[Affine, Affine]:
    """The same maps with scales and biases that gradients may pass through."""
    s1, b1, s2, b2 = arrays
    return (
        Affine(gate_up.weight, s1, b1, gate_up.group_size, gate_up.bits),
        Affine(down.weight, s2, b2, down.group_size, down.bits),
    )


def _launch_both(
    x: mx.array, chosen: mx.array, shares: mx.array, gate_up: Affine, down: Affine
) -> mx.array:
    T, K = chosen.shape
    width = gate_up.outputs // 2
    inputs = {"x": x, "chosen": chosen.astype(mx.uint32)}
    active = _launch("experts_gate_up", inputs, gate_up, K, T * K, width)
    inputs |= {"x": active, "shares": shares}
    return _launch("experts_down", inputs, down, K, T, down.outputs)


def _launch(
    name: str,
    inputs: dict[str, mx.array],
    maps: Affine,
    top_k: int,
    rows: int,
    outputs: int,
) -> mx.array:
    """One kernel, for `rows` rows [rows, outputs] of its result."""
    parts = {"weight": maps.weight, "scales": maps.scales, "biases": maps.biases}
    dtype = inputs["x"].dtype
    template: list[tuple[str, Any]] = [("T", dtype), ("BITS", maps.bits)]
    template += [("GROUP", maps.group_size), ("ROWS", ROWS), ("K", top_k)]
    (out,) = launch(
        name,
        inputs | parts,
        {"out": ((rows, outputs), dtype)},
        grid=(32 * -(-outputs // ROWS), rows, 1),
        threadgroup=(32 * SIMDGROUPS, 1, 1),
        template=template,
    )
    return out
