"""Norm and rotation of queries; of keys, together with the norm of their values.

The cache is written behind it by MLX, which alone can do so in place.
"""

from typing import TYPE_CHECKING

import mlx.core as mx

from .launch import DTYPES, MOST_ROWS, constants, differentiable, enabled, launch

if TYPE_CHECKING:
    from ..rope import Rotation

MOST_DIM = 1024  # of a head that fits into a simdgroup's registers


def rotate_queries(
    queries: mx.array, weight: mx.array, eps: float, rotation: "Rotation"
) -> mx.array:
    """`queries` [B, L, H, D], normed by `weight` [D] and rotated: [B, H, L, D]."""
    if not _fits(queries, weight):
        return _rotated(queries, weight, eps, rotation)

    def kernel(*arrays: mx.array) -> list[mx.array]:
        return _launch(arrays[0], arrays[1], eps, rotation)

    def twin(*arrays: mx.array) -> list[mx.array]:
        return [_rotated(arrays[0], arrays[1], eps, rotation)]

    return differentiable(kernel, twin)(queries, weight)[0]


def rotate_keys(
    keys: mx.array, values: mx.array, weight: mx.array, eps: float, rotation: "Rotation"
) -> tuple[mx.array, mx.array]:
    """The same of `keys`, and `values` like them, normed without a weight."""
    if values.dtype != keys.dtype or not _fits(keys, weight):
        return _rotated(keys, weight, eps, rotation), _normed(values, eps)

    def kernel(*arrays: mx.array) -> list[mx.array]:
        keys, values, weight = arrays
        return _launch(keys, weight, eps, rotation, values)

    def twin(*arrays: mx.array) -> list[mx.array]:
        keys, values, weight = arrays
        return [_rotated(keys, weight, eps, rotation), _normed(values, eps)]

    rotated, normed = differentiable(kernel, twin)(keys, values, weight)
    return rotated, normed


def _rotated(
    x: mx.array, weight: mx.array, eps: float, rotation: "Rotation"
) -> mx.array:
    return rotation(mx.fast.rms_norm(x, weight, eps).transpose(0, 2, 1, 3))


def _normed(values: mx.array, eps: float) -> mx.array:
    return mx.fast.rms_norm(values, None, eps).transpose(0, 2, 1, 3)


def _fits(x: mx.array, weight: mx.array) -> bool:
    return (
        enabled("heads")
        and x.dtype in DTYPES
        and weight.dtype == x.dtype
        and 0 < x.shape[0] * x.shape[1] <= MOST_ROWS
        and x.shape[3] <= MOST_DIM
        and x.shape[3] % 2 == 0
    )


def _launch(
    x: mx.array,
    weight: mx.array,
    eps: float,
    rotation: "Rotation",
    values: mx.array | None = None,
) -> list[mx.array]:
    inputs = {"x": x, "weight": weight, "periods": rotation.periods}
    inputs |= {"offset": rotation.position, "numbers": constants(eps)}
    outputs = {"rotated": (x.shape, x.dtype)}
    if values is not None:
        inputs["values"] = values
        outputs["normed"] = (x.shape, x.dtype)
    heads = x.size // x.shape[3]
    made = launch(
        "heads",
        inputs,
        outputs,
        grid=(32 * heads * len(outputs), 1, 1),
        threadgroup=(64, 1, 1),
        template=[("T", x.dtype), ("PAIRS", -(-x.shape[3] // 64))],
        defines="VALUES" if values is not None else "",
    )
    return [y.transpose(0, 2, 1, 3) for y in made]
