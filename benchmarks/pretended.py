"""MLX as it is with a GPU, for graphs that are counted and never evaluated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import mlx.core as mx
import mlx.nn as nn

WIDE = 512  # elements of a head; MLX fuses its attention in few cases

Call = Callable[..., mx.array]


def one_launch(name: str) -> Call:
    """A stand-in for what is one kernel on a GPU: elementwise, or like its first input.

    The other inputs count too: they must stay in the graph.
    """
    kernels: dict[int, Any] = {}

    def call(*arguments: Any, **_: Any) -> mx.array:
        arrays = [a for a in arguments if isinstance(a, mx.array)]
        like = mx.broadcast_arrays(*arrays)[0] if name == "compiled" else arrays[0]
        if (n := len(arrays)) not in kernels:
            inputs = [f"in{i}" for i in range(n)]
            kernels[n] = mx.fast.metal_kernel(name, inputs, ["out"], "out[0] = 0;")
        (out,) = kernels[n](
            inputs=arrays,
            output_shapes=[like.shape],
            output_dtypes=[like.dtype],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
        )
        return out

    return call


fused, unfused = one_launch("attention"), mx.fast.scaled_dot_product_attention


def attention(*arrays: mx.array, mask: Any = None, **options: Any) -> mx.array:
    """Fused where MLX has a kernel: on wide heads for one query without a mask array,
    eight of them to 1024 keys or more."""
    queries, keys, _ = arrays
    alone = queries.shape[2] == 1 and not isinstance(mask, mx.array)
    many = queries.shape[1] == 8 * keys.shape[1] and keys.shape[2] >= 1024
    if queries.shape[3] < WIDE or (alone and many):
        return fused(*arrays, mask)
    return unfused(*arrays, mask=mask, **options)


def dequantised(weight: mx.array, *rest: mx.array, bits: int, **_: Any) -> mx.array:
    """One launch on a GPU; on a CPU MLX would write it out in many."""
    packed = one_launch("dequantised")(weight, *rest)
    shape = (*weight.shape[:-1], weight.shape[-1] * 32 // bits)
    return mx.broadcast_to(packed[..., :1].view(mx.bfloat16)[..., :1], shape)


class WithoutGradient:
    """In place of `mx.custom_function`, which no graph can be exported with."""

    def __init__(self, function: Call):
        self.call = function

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def vjp(self, function: Call) -> Call:
        return function


@contextmanager
def pretended_metal() -> Iterator[None]:
    """MLX as it is with a GPU, for graphs that are never evaluated."""

    def compiled(function: Call | None = None, **_: Any) -> Any:
        return one_launch("compiled") if function else compiled

    with (
        mock.patch.object(mx.metal, "is_available", lambda: True),
        mock.patch.object(mx, "compile", compiled),
        mock.patch.object(mx, "custom_function", WithoutGradient),
        mock.patch.object(nn, "gelu_approx", one_launch("compiled")),
        mock.patch.object(mx, "dequantize", dequantised),
        mock.patch.object(mx.fast, "rms_norm", one_launch("norm")),
        mock.patch.object(mx.fast, "rope", one_launch("rope")),
        mock.patch.object(mx.fast, "scaled_dot_product_attention", attention),
    ):
        yield
