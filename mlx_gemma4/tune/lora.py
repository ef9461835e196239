"""Low-rank layers round a linear map that stays as it is, in floats or quantised.

LoRA (arXiv:2106.09685) adds `scale * x A B` to the map; DoRA (arXiv:2402.09353) gives
every output a learned magnitude as well. Parameter names and shapes are mlx-lm's.
Letters: I inputs, O outputs, R rank, E experts.
"""

import math
import zlib

import mlx.core as mx
import mlx.nn as nn

from ..text.moe import ExpertLinear, QuantizedExpertLinear

Linear = nn.Linear | nn.QuantizedLinear
ExpertsLinear = ExpertLinear | QuantizedExpertLinear
Matrix = Linear | ExpertsLinear | nn.Embedding | nn.QuantizedEmbedding
PACKED = (nn.QuantizedLinear, QuantizedExpertLinear, nn.QuantizedEmbedding)
ALL = slice(None)
TINY = 1e-30  # below any squared norm that float32 can divide by


def plain_weight(base: Matrix, rows: slice = ALL) -> mx.array:
    """The weight of `base`, `[O, I]` or `[E, O, I]`, as floats.

    rows: of its first axis, outputs or experts, only these.
    """
    if not isinstance(base, PACKED):
        return base.weight[rows]
    biases = base.get("biases")
    return mx.dequantize(
        base.weight[rows],
        base.scales[rows],
        biases[rows] if biases is not None else None,
        group_size=base.group_size,
        bits=base.bits,
        mode=base.mode,
    )


def sizes(base: Matrix) -> tuple[int, int]:
    """Inputs and outputs of a linear map, or of every expert's."""
    outputs, inputs = base.weight.shape[-2:]
    if isinstance(base, PACKED):
        assert base.bits is not None  # MLX fills it in
        inputs = inputs * 32 // base.bits
    return inputs, outputs


def starting_values(
    shape: tuple[int, ...], inputs: int, seed: int, path: str
) -> mx.array:
    """Uniform in ±1/√I as mlx-lm draws A; by path, so that no order matters."""
    key = mx.random.key(seed * 2**32 + zlib.crc32(path.encode()))
    bound = 1 / math.sqrt(inputs)
    return mx.random.uniform(-bound, bound, shape, key=key)


class LoRALinear(nn.Module):
    """`linear(x) + scale * (x @ lora_a) @ lora_b`; lora_a [I, R], lora_b [R, O]."""

    def __init__(
        self, linear: Linear, lora_a: mx.array, lora_b: mx.array, scale: float
    ):
        super().__init__()
        self.linear = linear
        self.lora_a, self.lora_b = lora_a, lora_b
        self.scale = scale

    def __call__(self, x: mx.array) -> mx.array:
        y = self.linear(x)
        return y + (self.scale * ((x @ self.lora_a) @ self.lora_b)).astype(y.dtype)

    def merged(self, rows: slice = ALL) -> mx.array:
        """The weight [O, I], float32, of one linear map that does the same.

        rows: only these outputs.
        """
        weight = plain_weight(self.linear, rows).astype(mx.float32)
        return weight + self.scale * (self.lora_a @ self.lora_b[:, rows]).T


class DoRALinear(nn.Module):
    """LoRA whose outputs keep a learned magnitude `m` [O], float32.

    The norm of the adapted weight counts as a constant for the gradient (section 4.3
    of the paper). It is computed without the adapted weight itself:
    |w + s ba|² = |w|² + 2 s (w a)·b + s² b·(aᵀa b), output by output.
    """

    def __init__(
        self,
        linear: Linear,
        lora_a: mx.array,
        lora_b: mx.array,
        scale: float,
        m: mx.array | None = None,
    ):
        super().__init__()
        self.linear = linear
        self.lora_a, self.lora_b = lora_a, lora_b
        self.scale = scale
        weight = plain_weight(linear).astype(mx.float32)
        self._square = mx.square(weight).sum(axis=1)  # [O]
        self.m = mx.sqrt(self._square) if m is None else m
        mx.eval(self._square, self.m)  # not to keep the plain weight

    def __call__(self, x: mx.array) -> mx.array:
        y = self._without_bias(x)
        y = y + (self.scale * ((x @ self.lora_a) @ self.lora_b)).astype(y.dtype)
        y = (self.m / mx.stop_gradient(self._norm())).astype(y.dtype) * y
        return y + self.linear.bias if "bias" in self.linear else y

    def _without_bias(self, x: mx.array) -> mx.array:
        y = self.linear(x)
        return y - self.linear.bias if "bias" in self.linear else y

    def _norm(self) -> mx.array:
        """Norms [O] of the adapted weight's rows."""
        a, b = self.lora_a.astype(mx.float32), self.lora_b.astype(mx.float32)
        crossed = (self._without_bias(a.T).T * b.T).sum(axis=1)
        square = ((b.T @ (a.T @ a)) * b.T).sum(axis=1)
        total = self._square + 2 * self.scale * crossed + self.scale**2 * square
        return mx.sqrt(mx.maximum(total, TINY))

    def merged(self, rows: slice = ALL) -> mx.array:
        """The weight [O, I], float32, of one linear map that does the same.

        rows: only these outputs.
        """
        weight = plain_weight(self.linear, rows).astype(mx.float32)
        weight = weight + self.scale * (self.lora_a @ self.lora_b[:, rows]).T
        norm = mx.linalg.norm(weight, axis=1)
        return (self.m[rows] / norm)[:, None] * weight


class LoRAExperts(nn.Module):
    """LoRA of every expert's linear map: lora_a [E, R, I], lora_b [E, O, R]."""

    def __init__(
        self, linear: ExpertsLinear, lora_a: mx.array, lora_b: mx.array, scale: float
    ):
        super().__init__()
        self.linear = linear
        self.lora_a, self.lora_b = lora_a, lora_b
        self.scale = scale

    def __call__(self, x: mx.array, experts: mx.array, in_order: bool) -> mx.array:
        y = self.linear(x, experts, in_order)
        z = x
        for weight in (self.lora_a, self.lora_b):
            z = mx.gather_mm(
                z,
                weight.swapaxes(-1, -2),
                rhs_indices=experts,
                sorted_indices=in_order,
            )
        return y + (self.scale * z).astype(y.dtype)

    def merged(self, rows: slice = ALL) -> mx.array:
        """The weights [E, O, I], float32, of maps that do the same.

        rows: only these experts.
        """
        weight = plain_weight(self.linear, rows).astype(mx.float32)
        return weight + self.scale * (self.lora_b[rows] @ self.lora_a[rows])


Adapted = LoRALinear | DoRALinear | LoRAExperts
