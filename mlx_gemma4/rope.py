"""Rotary position embeddings, in the rotate-half layout.

Sliding layers rotate every pair of the head. Full layers are "proportional": only the
first quarter of the pairs rotates, with frequencies spread over the whole head, and the
rest stays put. Patches of a picture rotate half of the head by x and half by y.
"""

import math
from dataclasses import dataclass

import mlx.core as mx

from .config import RopeParameters
from .errors import CheckpointError


@dataclass(frozen=True)
class Rotation:
    """Rotates `[B, H, L, D]` by position.

    periods: positions per radian of each pair, [D / 2].
    position: of the first row, int32 [1], or of that of each of B, [B]: an array, so
        that a compiled step does not depend on it.
    angles: cosines and sines [L, D], or [B, 1, L, D], the first half of the sines
        negated, where they are computed once for many layers.
    """

    periods: mx.array
    position: mx.array
    angles: tuple[mx.array, mx.array] | None = None

    def __call__(self, x: mx.array) -> mx.array:
        if self.angles is None:
            return mx.fast.rope(
                x,
                x.shape[-1],
                traditional=False,
                base=None,
                scale=1.0,
                offset=self.position,
                freqs=self.periods,
            )
        cos, sin = self.angles
        half = x.shape[-1] // 2
        swapped = mx.concatenate([x[..., half:], x[..., :half]], axis=-1)
        return x * cos + swapped * sin


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


def rotation_at(
    periods: mx.array, position: mx.array, length: int, dtype: mx.Dtype
) -> Rotation:
    """The rotation of `[B, H, length, D]` at `position`, to be used by many layers.

    On a CPU, where MLX has no kernel for it, the angles are then computed once.
    """
    if mx.metal.is_available():
        return Rotation(periods, position)
    positions = position[:, None] + mx.arange(length, dtype=mx.float32)
    angles = positions[..., None] / periods
    angles = angles[0] if len(position) == 1 else angles[:, None]
    cos, sin = mx.cos(angles), mx.sin(angles)
    cos = mx.concatenate([cos, cos], axis=-1).astype(dtype)
    sin = mx.concatenate([-sin, sin], axis=-1).astype(dtype)
    return Rotation(periods, position, (cos, sin))


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
