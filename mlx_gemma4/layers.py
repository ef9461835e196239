"""The pieces that every tower shares: one norm, one GeGLU, one soft cap."""

import math
from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.nn as nn

Elementwise = Callable[..., mx.array]


def fused(function: Elementwise) -> Elementwise:
    """Compile an elementwise function into one kernel where there is a GPU.

    On a CPU MLX would start a C++ compiler for it: seconds at first use.
    """
    if not mx.metal.is_available():
        return function
    return partial(mx.compile, shapeless=True)(function)


class RMSNorm(nn.Module):
    """`x / rms(x) * weight` over the last axis (the weight is not 1 + w)."""

    def __init__(self, dims: int, eps: float):
        super().__init__()
        self.weight = mx.ones((dims,))
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self.weight, self.eps)


def rms_normalize(x: mx.array, eps: float) -> mx.array:
    """RMS norm over the last axis without a weight."""
    return mx.fast.rms_norm(x, None, eps)


# tanh-GELU: x/2 (1 + tanh(r (x + 0.044715 x^3))) with r = sqrt(2 / pi), which is
# x sigmoid(2 r x (1 + 0.044715 x^2)) and takes fewer steps.
GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
GELU_CUBIC = GELU_LINEAR * 0.044715


@fused
def geglu(gate: mx.array, up: mx.array) -> mx.array:
    """`gelu(gate) * up` with the tanh form of GELU."""
    # The sigmoid first: in float16 gate * up may overflow where the gate is shut.
    shape = gate * (GELU_LINEAR + GELU_CUBIC * (gate * gate))
    return gate * mx.sigmoid(shape) * up


@fused
def _soft_cap(x: mx.array, cap: mx.array) -> mx.array:
    return mx.tanh(x / cap) * cap


def soft_cap(x: mx.array, cap: float) -> mx.array:
    """Squash `x` smoothly into (-cap, cap)."""
    return _soft_cap(x, mx.array(cap, x.dtype))
