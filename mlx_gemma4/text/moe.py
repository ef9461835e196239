"""The mixture-of-experts block, which runs beside the dense MLP of the same layer."""

from array import array
from functools import lru_cache
from math import prod
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..config import TextConfig
from ..kernels import Affine, Norm, choose_experts, dense, experts, experts_fit
from ..layers import geglu

# From this many (token, expert) pairs on, sorting the rows by expert pays: each
# expert's weights are then read once. The bound is the one mlx-lm measured on Macs.
SORT_FROM = 64


class ExpertLinear(nn.Module):
    """A linear map per expert: weight `[experts, outputs, inputs]`."""

    def __init__(self, experts: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = mx.zeros((experts, outputs, inputs))

    def __call__(self, x: mx.array, experts: mx.array, in_order: bool) -> mx.array:
        """Map rows `x` [..., 1, inputs] by the expert of each; `in_order` = sorted."""
        return mx.gather_mm(
            x,
            self.weight.swapaxes(-1, -2),
            lhs_indices=None if in_order else _numbers(*x.shape[:-2]),
            rhs_indices=experts,
            sorted_indices=in_order,
        )

    def to_quantized(
        self, group_size: int | None, bits: int | None, mode: str = "affine"
    ) -> "QuantizedExpertLinear":
        """The same map on quantised weights; called by `mlx.nn.quantize`."""
        return QuantizedExpertLinear(self.weight, group_size, bits, mode)


class QuantizedExpertLinear(nn.Module):
    """`ExpertLinear` on weights quantised along their inputs."""

    def __init__(
        self, weight: mx.array, group_size: int | None, bits: int | None, mode: str
    ):
        super().__init__()
        self.group_size, self.bits, self.mode = group_size, bits, mode
        self.weight, self.scales, *rest = mx.quantize(weight, group_size, bits, mode)
        self.biases = rest[0] if rest else None
        self.freeze()

    def __call__(self, x: mx.array, experts: mx.array, in_order: bool) -> mx.array:
        return mx.gather_qmm(
            x,
            self.weight,
            self.scales,
            self.biases,
            lhs_indices=None if in_order else _numbers(*x.shape[:-2]),
            rhs_indices=experts,
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            sorted_indices=in_order,
        )


@lru_cache(maxsize=256)
def _numbers(*shape: int) -> mx.array:
    """Of all rows of a batch: kept, since MLX would number them at every call."""
    numbers: Any = memoryview(array("I", range(prod(shape)))).cast("B")
    return mx.array(numbers.cast("I", shape))


class Router(nn.Module):
    """Chooses `top_k_experts` for each token and weighs them.

    The softmax over all experts, cut to the chosen and renormalised, equals a softmax
    over the chosen alone; it is taken in float32.
    """

    def __init__(self, config: TextConfig):
        super().__init__()
        assert config.num_experts and config.top_k_experts  # checked by Config
        self.proj = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.scale = mx.ones((config.hidden_size,))
        self.per_expert_scale = mx.ones((config.num_experts,))
        self.top_k = config.top_k_experts
        self.eps = config.rms_norm_eps
        self.root_size = config.hidden_size**-0.5

    @property
    def norm(self) -> Norm:
        """Of the hidden state, before `choose`."""
        return Norm(self.scale, self.root_size)

    def __call__(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """`x` [T, hidden] -> experts [T, K] and their weights [T, K]."""
        return self.choose(mx.fast.rms_norm(x, self.scale * self.root_size, self.eps))

    def choose(self, x: mx.array) -> tuple[mx.array, mx.array]:
        """The same of `x` that is normed already."""
        scores, scale = dense(self.proj, x), self.per_expert_scale
        chosen, weights = choose_experts(scores, scale, self.top_k)
        return chosen, weights.astype(x.dtype)


class Experts(nn.Module):
    """The experts' GeGLU networks; gate and up are one fused tensor, gate first."""

    def __init__(self, config: TextConfig):
        super().__init__()
        assert config.num_experts and config.moe_intermediate_size  # checked by Config
        hidden, width = config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = ExpertLinear(config.num_experts, hidden, 2 * width)
        self.down_proj = ExpertLinear(config.num_experts, width, hidden)
        self.held: range | None = None  # numbers, where others hold the rest

    def __call__(self, x: mx.array, chosen: mx.array, weights: mx.array) -> mx.array:
        """`x` [T, hidden], `chosen` and `weights` [T, K] -> [T, hidden]."""
        if self.held is not None:
            chosen, weights = _own(chosen, weights, self.held)
        gate_up, down = _affine(self.gate_up_proj), _affine(self.down_proj)
        if gate_up and down and experts_fit(x, gate_up, down):
            return experts(x, chosen, weights, gate_up, down)
        T, K = chosen.shape
        if T * K < SORT_FROM:
            y = self._forward(x[:, None, None], chosen, in_order=False)  # [T, K, 1, h]
            return _weighted_sum(y.squeeze(2), weights)
        flat = chosen.flatten()
        order = mx.argsort(flat)
        y = self._forward(x[order // K][:, None], flat[order], in_order=True)
        y = y[mx.argsort(order)].reshape(T, K, -1)
        return _weighted_sum(y, weights)

    def _forward(self, x: mx.array, experts: mx.array, in_order: bool) -> mx.array:
        gate, up = mx.split(self.gate_up_proj(x, experts, in_order), 2, axis=-1)
        return self.down_proj(geglu(gate, up), experts, in_order)


def _affine(linear: nn.Module) -> Affine | None:
    """What kernels can take of a map; None of any other."""
    if not isinstance(linear, QuantizedExpertLinear) or linear.biases is None:
        return None
    if linear.mode != "affine" or linear.group_size is None or linear.bits is None:
        return None
    weights = linear.weight, linear.scales, linear.biases
    return Affine(*weights, linear.group_size, linear.bits)


def _own(chosen: mx.array, weights: mx.array, held: range) -> tuple[mx.array, mx.array]:
    """Numbers among those `held`, with no weight for others."""
    own = (chosen >= held.start) & (chosen < held.stop)
    return mx.where(own, chosen - held.start, 0), mx.where(own, weights, 0)


def _weighted_sum(y: mx.array, weights: mx.array) -> mx.array:
    """`y` [T, K, hidden] and `weights` [T, K] -> [T, hidden]."""
    return (weights[:, None] @ y).squeeze(1)
