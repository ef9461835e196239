"""Products of float32 matrices as an M5 makes them: with inputs of 10 bits, in TF32.

A pytest plugin, `pytest -p tf32`, or a module to import. As MLX does, it obeys
MLX_ENABLE_TF32 as found at the first product: 1 unless set. A product with a vector
stays float32; attention within MLX, and what is quantised, are not touched.
"""

import os
from functools import cache
from typing import Any

import mlx.core as mx

_matmul, _addmm, _operator = mx.matmul, mx.addmm, mx.array.__matmul__


@cache
def enabled() -> bool:
    return int(os.environ.get("MLX_ENABLE_TF32", "1")) != 0


def rounded(x: mx.array) -> mx.array:
    """`x` to 10 bits of mantissa, ties to even."""
    bits = x.view(mx.uint32)
    return ((bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000).view(mx.float32)


def inputs(a: mx.array, b: mx.array) -> tuple[mx.array, mx.array]:
    matrices = a.ndim > 1 and b.ndim > 1 and a.shape[-2] > 1
    if matrices and a.dtype == b.dtype == mx.float32 and enabled():
        return rounded(a), rounded(b)
    return a, b


def matmul(a: mx.array, b: mx.array, **options: Any) -> mx.array:
    return _matmul(*inputs(a, b), **options)


def addmm(c: mx.array, a: mx.array, b: mx.array, *scales: Any, **more: Any) -> mx.array:
    return _addmm(c, *inputs(a, b), *scales, **more)


def operator(self: mx.array, other: mx.array) -> mx.array:
    return _operator(*inputs(self, other))


mx.matmul, mx.addmm, mx.array.__matmul__ = matmul, addmm, operator
