"""Rotary position embeddings, in the rotate-half layout.

Sliding layers rotate every pair of the head. Full layers are "proportional": only the
first quarter of the pairs turns, with frequencies spread over the whole head, and the
rest stays put. Patches of a picture rotate half of the head by x and half by y.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import mlx.core as mx
import mlx.nn as nn

from .config import RopeParameters
from .errors import CheckpointError


@dataclass(frozen=True)
class Turn:
    """The rotation of `[B, H, L, D]`, its first row standing at `offset`."""

    rotate: Callable[[mx.array], mx.array]
    periods: mx.array
    offset: int

    def __call__(self, x: mx.array) -> mx.array:
        return self.rotate(x)

    @cached_property
    def position(self) -> mx.array:
        """`offset` as a kernel takes it: int32 [1]."""
        return mx.array([self.offset], mx.int32)


def rope_periods(head_dim: int, rope: RopeParameters) -> mx.array:
    """Positions per radian, `theta^(2i / head_dim)` for each pair: `[head_dim / 2]`.

    Pairs that do not rotate have an infinite period. Computed in double precision and
    rounded once to float32, since an error grows with the position it is scaled by.
    """
    if rope.rope_type not in ("default", "proportional"):
        raise CheckpointError(f"rope_type {rope.rope_type!r} is unknown.")
    share = 1.0 if rope.rope_type == "default" else rope.partial_rotary_factor
    pairs, rotated = head_dim // 2, int(share * head_dim // 2)
    stretch = 1.0 if rope.rope_type == "default" else rope.factor
    periods = [stretch * rope.rope_theta ** (2 * i / head_dim) for i in range(rotated)]
    return mx.array(periods + [math.inf] * (pairs - rotated), mx.float32)


class RoPE(nn.Module):
    """Rotates `[B, H, L, D]` by position, the first row standing at `offset`."""

    def __init__(self, head_dim: int, rope: RopeParameters):
        super().__init__()
        self.head_dim = head_dim
        self._periods = rope_periods(head_dim, rope)  # not a parameter: underscore

    def __call__(self, x: mx.array, offset: int) -> mx.array:
        return mx.fast.rope(
            x,
            self.head_dim,
            traditional=False,
            base=None,
            scale=1.0,
            offset=offset,
            freqs=self._periods,
        )

    def at(self, offset: int, length: int, dtype: mx.Dtype) -> Turn:
        """The rotation of `[B, H, length, D]` at `offset`, to be used by many layers.

        On a CPU, where MLX has no kernel for it, the angles are then computed once.
        """
        if mx.metal.is_available():
            return Turn(partial(self, offset=offset), self._periods, offset)
        positions = mx.arange(offset, offset + length, dtype=mx.float32)
        angles = positions[:, None] / self._periods
        cos, sin = mx.cos(angles), mx.sin(angles)
        cos = mx.concatenate([cos, cos], axis=-1).astype(dtype)
        sin = mx.concatenate([-sin, sin], axis=-1).astype(dtype)
        return Turn(partial(_rotate, cos, sin), self._periods, offset)


def _rotate(cos: mx.array, sin: mx.array, x: mx.array) -> mx.array:
    """`x` turned by `cos` and `sin` [L, D], the first half of `sin` negated."""
    half = x.shape[-1] // 2
    swapped = mx.concatenate([x[..., half:], x[..., :half]], axis=-1)
    return x * cos + swapped * sin


def axial_angles(
    positions: mx.array, head_dim: int, rope: RopeParameters
) -> tuple[mx.array, mx.array]:
    """Cosines and sines for patches at `positions` [P, 2] (x, y): float32 `[P, D]`."""
    half = head_dim // 2
    rates = [rope.rope_theta ** (-2 * i / half) for i in range(half // 2)]
    angles = positions[..., None].astype(mx.float32) * mx.array(rates)  # [P, 2, D / 4]
    angles = mx.concatenate([angles, angles], axis=-1).reshape(-1, head_dim)
    return mx.cos(angles), mx.sin(angles)


def rotate_axial(x: mx.array, angles: tuple[mx.array, mx.array]) -> mx.array:
    """Rotate `x` [..., P, D] by the `axial_angles` of its patches."""
    cos, sin = (angle.astype(x.dtype) for angle in angles)
    first, second = mx.split(x.reshape(*x.shape[:-1], 2, 2, -1), 2, axis=-2)
    turned = mx.concatenate([-second, first], axis=-2).reshape(x.shape)
    return x * cos + turned * sin
