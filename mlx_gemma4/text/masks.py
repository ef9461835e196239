"""Which keys a query sees, when several positions are read at once.

Keys and queries end at the same position. Full layers are causal. Sliding layers see
the last `window` positions, themselves included; where a model attends both ways inside
a picture, its positions also see the later ones of the same picture, in sliding layers
only.

How far ahead they see is an open question (`WINDOW_AHEAD`), which only a picture of
more soft tokens than the window asks: 1,120 of them on 12B, 26B or 31B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import mlx.core as mx

from ..kernels import MOST_ROWS, enabled
from ..rope import Rotation

BLOCK = 128  # queries that share a slice of keys
# The reference (transformers 5.24) bounds what lies before a query alone: it sees its
# picture to the end. Google DeepMind's `gemma` bounds both sides: where this is True.
WINDOW_AHEAD = False


@dataclass(frozen=True, eq=False)
class Band:
    """The mask of many queries in blocks, made once for all layers that share it.

    Most scores of a long chunk are hidden: those of later keys, and of keys that the
    window has left behind. Each block of queries gets as many keys in a row as one may
    see, and all blocks go into one call: their keys are views that overlap.

    queries: how many there are.
    masks: bool [1 or blocks, 1, block, reach], one for all rows of a batch or one for
        each.
    left, right: how many keys have to be put before those that there are, and behind.
    window: positions that a query sees, itself included, which is all that a kernel
        needs to know; None where pictures are seen both ways.
    gradients: call block by block, with queries that are not cut. The gradient of
        overlapping views takes more memory.
    rotation: of queries in blocks.
    """

    queries: int
    masks: Sequence[mx.array]
    left: int
    right: int
    window: int | None = None
    gradients: bool = False
    rotation: Rotation | None = None

    @property
    def block(self) -> int:
        return self.masks[0].shape[2]

    @property
    def blocks(self) -> int:
        return -(-self.queries // self.block)

    @property
    def of_one_block(self) -> mx.array:
        """Without the keys that would have to be put before those there are."""
        return self.masks[0][..., max(0, self.left) :]

    def rotating(self, rotation: Rotation, rows: int) -> "Band":
        """With the rotation of queries that are cut into blocks, `rows` batches of
        them; `rotation` is that of all positions in a row."""
        starts = mx.arange(self.blocks, dtype=mx.int32) * self.block
        position, angles = rotation.position + starts, rotation.angles
        if angles is not None:
            cos, sin = (self.cut(x[None], x.shape[1])[:, None] for x in angles)
            angles = mx.tile(cos, (rows, 1, 1, 1)), mx.tile(sin, (rows, 1, 1, 1))
        turned = Rotation(rotation.periods, mx.tile(position, rows), angles)
        return replace(self, rotation=turned)

    def cut(self, x: mx.array, *shape: int) -> mx.array:
        """`x` [B, queries, width] in blocks: [B * blocks, block, *shape]."""
        if fill := self.blocks * self.block - self.queries:
            x = mx.pad(x, [(0, 0), (0, fill), (0, 0)])
        return x.reshape(-1, self.block, *shape)


Mask = mx.array | Band | str | None


def window_mask(queries: int, keys: int, window: int, gradients: bool = False) -> Mask:
    """Mask of a sliding layer: bool `[queries, keys]`, True = attend.

    None where nothing is hidden, "causal" where the window does not bite, a Band for
    many queries or a kernel.
    """
    if keys <= window:
        return causal_mask(queries)
    if queries > BLOCK or (queries <= MOST_ROWS and enabled("attention")):
        return band(queries, keys, window, gradients)
    distance = _distance(queries, keys)
    return (distance >= 0) & (distance < window)


def causal_mask(queries: int) -> Mask:
    """Mask of a full layer."""
    return None if queries == 1 else "causal"


def band(
    queries: int,
    keys: int,
    window: int,
    gradients: bool = False,
    pictures: mx.array | None = None,
    later: int = 0,
) -> Band:
    """The Band of a window.

    pictures: the numbers of queries' pictures [B, queries], which reach at most `later`
        positions beyond the end of a block.
    """
    block = min(BLOCK, queries)
    blocks = -(-queries // block)
    reach, left = window - 1 + block + later, window - 1 - (keys - queries)
    right = blocks * block - queries + later
    distance = mx.arange(block)[:, None] + (window - 1) - mx.arange(reach)[None]
    places = mx.arange(blocks)[:, None] * block + mx.arange(reach)[None]
    mask = (distance >= 0)[None, None]  # [1 or B, 1 or blocks, block, reach]
    if pictures is not None:
        own = mx.pad(pictures, [(0, 0), (0, right)], constant_values=-1)
        seen = mx.pad(own, [(0, 0), (max(0, window - 1), 0)], constant_values=-1)
        own = own[:, : blocks * block].reshape(-1, blocks, block, 1)
        mask = mask | ((own >= 0) & (own == seen[:, places][:, :, None]))
    mask = mask & _within(distance, window)
    if left > 0:
        mask = mask & (places >= left)[None, :, None]
    kernels = window if pictures is None else None
    masks = [row[:, None] for row in mask]
    return Band(queries, masks, left, right, kernels, gradients)


def picture_mask(
    blocks: mx.array, keys: int, window: int, gradients: bool = False
) -> Mask:
    """Mask of a sliding layer whose queries may hold pictures.

    As `vision_window_mask`, but many queries get a Band, whose blocks also reach to the
    ends of the pictures they touch. `blocks` is then evaluated.
    """
    L = blocks.shape[1]
    if L <= BLOCK:
        return vision_window_mask(blocks, keys, window)
    numbers = cast(list[list[int]], blocks.tolist())
    if max(map(max, numbers)) < 0:
        return window_mask(L, keys, window, gradients)
    ends = range(BLOCK, L, BLOCK)
    later = max(_rest_of_picture(row, end) for row in numbers for end in ends)
    return band(L, keys, window, gradients, blocks, later)


def _rest_of_picture(row: list[int], start: int) -> int:
    """How many positions from `start` on go on with the picture before them."""
    end = start
    while end < len(row) and row[end] == row[start - 1] >= 0:
        end += 1
    return end - start


def vision_window_mask(blocks: mx.array, keys: int, window: int) -> mx.array:
    """Mask of a sliding layer whose queries hold pictures: bool `[B, 1, L, keys]`.

    `blocks` [B, L] gives each position the number of its picture, or -1. A picture lies
    wholly inside the queries.
    """
    L = blocks.shape[1]
    of_keys = mx.pad(blocks, [(0, 0), (keys - L, 0)], constant_values=-1)
    distance = _distance(L, keys)
    same = (blocks[:, :, None] == of_keys[:, None, :]) & (blocks >= 0)[:, :, None]
    return (((distance >= 0) | same) & _within(distance, window))[:, None]


def vision_blocks(is_vision: mx.array) -> mx.array:
    """Number the runs of neighbouring vision positions: int32 `[B, L]`, -1 elsewhere.

    Follows the reference: a run is one block, whatever mixture of pictures it is.
    """
    flags = is_vision.astype(mx.int32)
    starts = mx.maximum(flags - mx.pad(flags, [(0, 0), (1, 0)])[:, :-1], 0)
    return mx.where(is_vision, mx.cumsum(starts, axis=1) - 1, -1)


def _within(distance: mx.array, window: int) -> mx.array:
    """Whether keys so far before a query, or behind it, lie in its window."""
    near = distance < window
    return near & (distance > -window) if WINDOW_AHEAD else near


def _distance(queries: int, keys: int) -> mx.array:
    """How far each key lies before each query."""
    return mx.arange(keys - queries, keys)[:, None] - mx.arange(keys)[None]
