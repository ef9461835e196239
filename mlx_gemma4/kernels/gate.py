"""The gate of the per-layer input: a small map, GeLU and a product in one launch."""

import mlx.core as mx
import mlx.nn as nn

from ..layers import geglu
from .launch import DTYPES, MOST_ROWS, differentiable, enabled, launch

ROWS = 4  # of the map, for one simdgroup
BITS, GROUP_SIZES = (4, 8), (32, 64)


def gated(linear: nn.Module, x: mx.array, factor: mx.array) -> mx.array:
    """`gelu(linear(x)) * factor`: x [B, L, hidden], factor [B, L, size]."""
    if not isinstance(linear, nn.QuantizedLinear) or not _fits(linear, x, factor):
        return geglu(linear(x), factor)
    group_size, bits, weight = linear.group_size, linear.bits, linear.weight

    def kernel(*arrays: mx.array) -> list[mx.array]:
        x, factor, scales, biases = arrays
        rows, outputs = factor.size // factor.shape[-1], factor.shape[-1]
        inputs = {"x": x.reshape(rows, -1), "factor": factor.reshape(rows, -1)}
        (out,) = launch(
            "gate",
            inputs | {"weight": weight, "scales": scales, "biases": biases},
            {"out": ((rows, outputs), x.dtype)},
            grid=(32 * -(-outputs // ROWS), rows, 1),
            threadgroup=(64, 1, 1),
            template=[("T", x.dtype), ("BITS", bits), ("GROUP", group_size)]
            + [("ROWS", ROWS)],
        )
        return [out.reshape(factor.shape)]

    def twin(*arrays: mx.array) -> list[mx.array]:
        x, factor, *parts = arrays
        y = mx.quantized_matmul(
            x, weight, *parts, transpose=True, group_size=group_size, bits=bits
        )
        return [geglu(y, factor)]

    arrays = (x, factor, linear.scales, linear.biases)
    return differentiable(kernel, twin)(*arrays)[0]


def _fits(linear: nn.QuantizedLinear, x: mx.array, factor: mx.array) -> bool:
    return (
        enabled("gate")
        and "bias" not in linear
        and linear.mode == "affine"
        and linear.bits in BITS
        and linear.group_size in GROUP_SIZES
        and x.dtype in DTYPES
        and linear.scales.dtype == factor.dtype == x.dtype
        and 0 < x.size // x.shape[-1] <= MOST_ROWS
    )
