"""The pieces that towers share: norm, clipped linear, GeGLU, soft cap."""

import math
from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

Elementwise = Callable[..., mx.array]


def fused(function: Elementwise) -> Elementwise:
    """Compile an elementwise function into one kernel where there is a GPU.

    On a CPU MLX would start a C++ compiler for it: seconds at first use.
    """
    if not mx.metal.is_available():
        return function
    return partial(mx.compile, shapeless=True)(function)


def weights_bytes(module: nn.Module) -> int:
    """What the weights of a module and of all in it take."""
    arrays: dict[str, mx.array] = dict(tree_flatten(module.parameters()))
    return sum(array.nbytes for array in arrays.values())


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


class ClippedLinear(nn.Module):
    """A linear map between two clamps, whose bounds come with the checkpoint.

    Where the towers' configuration has no clipped linears it is a plain linear map;
    the weight is `linear.weight` either way, as on the Hub.
    """

    def __init__(self, inputs: int, outputs: int, clipped: bool):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.clipped = clipped
        if clipped:
            self.input_min = self.output_min = mx.array(-mx.inf)
            self.input_max = self.output_max = mx.array(mx.inf)

    def __call__(self, x: mx.array) -> mx.array:
        if not self.clipped:
            return self.linear(x)
        y = self.linear(mx.clip(x, self.input_min, self.input_max))
        return mx.clip(y, self.output_min, self.output_max)


class Projector(nn.Module):
    """A tower's soft tokens to embeddings of the text decoder."""

    def __init__(self, inputs: int, outputs: int, eps: float):
        super().__init__()
        self.embedding_projection = nn.Linear(inputs, outputs, bias=False)
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return self.embedding_projection(rms_normalize(x, self.eps))


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
