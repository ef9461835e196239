"""The chosen experts of a few tokens, in two launches.

Gate, up and GeGLU are one, down and the weighted sum the other. Between them every
simdgroup would have to wait for all others, which only a second launch can do.
"""

import mlx.core as mx

from ..layers import geglu
from .affine import (
    HEADER,
    SIMDGROUPS,
    Affine,
    fit,
    named,
    parts,
    replaced,
    rows_at_once,
    template,
)
from .launch import differentiable, enabled, launch


def experts_fit(x: mx.array, gate_up: Affine, down: Affine) -> bool:
    """Whether `experts` is on, and takes rows like `x` and these maps."""
    return (
        fit(x, [gate_up])
        and fit(x, [down])
        and enabled("experts", f"{gate_up.inputs}x{down.inputs}")
    )


def experts(
    x: mx.array, chosen: mx.array, shares: mx.array, gate_up: Affine, down: Affine
) -> mx.array:
    """The sum of what the `chosen` experts make of `x`, each by its share.

    x: [T, hidden]. chosen: uint32 [T, K]. shares: [T, K], as `x`.
    gate_up: gate and, behind it, up.
    """
    maps = gate_up, down

    def kernel(*arrays: mx.array) -> list[mx.array]:
        x, shares, *rest = arrays
        return [_launch_both(x, chosen, shares, *replaced(maps, rest))]

    def twin(*arrays: mx.array) -> list[mx.array]:
        x, shares, *rest = arrays
        return [experts_plain(x, chosen, shares, *replaced(maps, rest))]

    return differentiable(kernel, twin)(x, shares.astype(x.dtype), *parts(maps))[0]


def experts_plain(
    x: mx.array, chosen: mx.array, shares: mx.array, gate_up: Affine, down: Affine
) -> mx.array:
    gate, up = mx.split(_gather(gate_up, x[:, None, None], chosen), 2, axis=-1)
    y = _gather(down, geglu(gate, up), chosen).squeeze(2)  # [T, K, hidden]
    return (shares[:, None] @ y).squeeze(1)


def _gather(maps: Affine, x: mx.array, chosen: mx.array) -> mx.array:
    return mx.gather_qmm(
        x,
        maps.weight,
        maps.scales,
        maps.biases,
        rhs_indices=chosen,
        transpose=True,
        group_size=maps.group_size,
        bits=maps.bits,
    )


def _launch_both(
    x: mx.array, chosen: mx.array, shares: mx.array, gate_up: Affine, down: Affine
) -> mx.array:
    T, K = chosen.shape
    inputs = {"x": x, "chosen": chosen.astype(mx.uint32)}
    active = _launch("experts_gate_up", inputs, gate_up, K, T * K, down.inputs)
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
    dtype, at_once = inputs["x"].dtype, rows_at_once(rows * outputs)
    (out,) = launch(
        name,
        {**inputs, **named(maps)},
        {"out": ((rows, outputs), dtype)},
        grid=(32, -(-outputs // at_once), rows),
        threadgroup=(32, SIMDGROUPS, 1),
        template=template(dtype, maps, at_once) + [("K", top_k)],
        header=HEADER,
    )
    return out
