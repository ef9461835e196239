"""Which keys a query sees, when several positions are read at once.

Keys and queries end at the same position. Full layers are causal. Sliding layers see
the last `window` positions, themselves included; where a model attends both ways inside
a picture, its positions also see the later ones of the same picture, in sliding layers
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import mlx.core as mx

from ..cache import Seen
from ..kernels import (
    EVERYTHING,
    MOST_ROWS,
    attention,
    attention_of_ready,
    enabled,
    mlx_has_one,
)
from ..rope import Rotation

BLOCK = 128  # queries that share a slice of keys


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
    mask = mask & (distance < window)
    if left > 0:
        mask = mask & (places >= left)[None, :, None]
    kernels = window if pictures is None else None
    masks = [row[:, None] for row in mask]
    return Band(queries, masks, left, right, kernels, gradients)


def attend(queries: mx.array, seen: Seen, mask: Mask) -> mx.array:
    """Attention with score scale 1: [B, L, H * D].

    queries: [B, H, L, D], or in blocks if `mask` cuts them.
    """
    if isinstance(mask, Band) and mask.blocks > 1:
        return _banded(queries, seen, mask)
    keys, values = seen.keys, seen.values
    _, H, L, D = queries.shape
    if mask is None and mlx_has_one(H, L, D, seen.heads, seen.end - seen.start):
        return _in_rows(_whole(queries, keys, values, None))
    window, plain = _window_of(mask, L), partial(_plain, mask=mask)
    return _in_rows(attention_of_ready(queries, keys, values, window, plain))


def attend_raw(
    queries: mx.array,
    weight: mx.array,
    eps: float,
    rotation: Rotation,
    seen: Seen,
    mask: Mask,
) -> mx.array:
    """The same of queries [B, L, H, D] as they were projected, still to be normed by
    `weight` [D] and rotated."""
    window, plain = _window_of(mask, queries.shape[1]), partial(_plain, mask=mask)
    turn, kv = (weight, eps, rotation), (seen.keys, seen.values)
    return attention(queries, *turn, *kv, window, plain)


def _window_of(mask: Mask, queries: int) -> int | None:
    """How many positions a query sees; None where that does not say it all."""
    if isinstance(mask, Band):
        return mask.window
    causal = queries == 1 if mask is None else isinstance(mask, str)
    return EVERYTHING if causal else None


def _plain(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    """In MLX's own operations, of few queries or under no window: [B, H, L, D]."""
    if isinstance(mask, Band):
        first = max(0, -mask.left)
        mask, keys, values = mask.of_one_block, keys[:, :, first:], values[:, :, first:]
    # On a GPU MLX bounds what exists of the scores at a time; on a CPU all would.
    elif mask == "causal" and queries.shape[2] > BLOCK and not mx.metal.is_available():
        return _causal(queries, keys, values)
    return _whole(queries, keys, values, mask)


def _in_rows(found: mx.array) -> mx.array:
    """[B, H, L, D] -> [B, L, H * D]"""
    B, H, L, D = found.shape
    return (found if L == 1 else found.swapaxes(1, 2)).reshape(B, L, H * D)


def _whole(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    fused = mx.fast.scaled_dot_product_attention
    return fused(queries, keys, values, scale=1.0, mask=cast(Any, mask))


def _causal(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Block by block: what no query of a block sees is never computed."""
    L, parts = queries.shape[2], []
    earlier = keys.shape[2] - L
    for start in range(0, L, BLOCK):
        rows, before = slice(start, start + BLOCK), slice(earlier + start + BLOCK)
        part = queries[:, :, rows], keys[:, :, before], values[:, :, before]
        parts.append(_whole(*part, "causal"))
    return mx.concatenate(parts, axis=2)


def _banded(queries: mx.array, seen: Seen, band: Band) -> mx.array:
    if band.gradients:
        whole = _with_room(seen, band.left, band.right)
        return _block_by_block(queries, whole, band)
    if band not in seen.cut:
        seen.cut[band] = _overlapping(_with_room(seen, band.left, band.right), band)
    kv = seen.cut[band]
    parts = mx.split(queries, len(kv)) if len(kv) > 1 else [queries]
    rows = []
    for i, (part, (keys, values)) in enumerate(zip(parts, kv, strict=True)):
        found = _whole(part, keys, values, band.masks[i % len(band.masks)])
        blocks, H, block, D = found.shape
        rows.append(found.swapaxes(1, 2).reshape(1, blocks * block, H * D))
    found = rows[0] if len(rows) == 1 else mx.concatenate(rows)
    return found[:, : band.queries]


def _with_room(seen: Seen, left: int, right: int) -> Seen:
    """So many more slots before (if negative, less) and behind; what is in them is
    hidden."""
    start, end, slots = seen.start - left, seen.end + right, seen.parts[0].shape[2]
    if start >= 0 and end <= slots:
        return Seen(seen.parts, start, end)
    first, last = max(0, start), min(end, slots)
    more = [(0, 0), (0, 0), (first - start, end - last), (0, 0)]
    parts = [mx.pad(part[:, :, first:last], more) for part in seen.parts]
    return Seen(parts, 0, end - start)


def _overlapping(seen: Seen, band: Band) -> list[tuple[mx.array, mx.array]]:
    """What each block of queries sees of the keys and values of each row, both
    [blocks, H_kv, reach, D]: views that overlap the next block's."""
    rows, both, slots, D = seen.buffer.shape
    block, heads, flat = band.block, seen.heads, seen.buffer.reshape(-1)
    shape = band.blocks, heads, band.masks[0].shape[3], D
    strides = block * D, slots * D, D, 1

    def views(head: int) -> mx.array:
        return mx.as_strided(flat, shape, strides, (head * slots + seen.start) * D)

    firsts = range(0, rows * both, both)
    return [(views(first), views(first + heads)) for first in firsts]


def _block_by_block(queries: mx.array, seen: Seen, band: Band) -> mx.array:
    """Of queries [B, H, L, D] without overlapping views: [B, L, H * D]."""
    block, reach = band.masks[0].shape[2:]
    keys, values, parts = seen.keys, seen.values, []
    for i in range(band.blocks):
        rows, cut = (
            slice(block * i, block * (i + 1)),
            slice(block * i, block * i + reach),
        )
        part = queries[:, :, rows], keys[:, :, cut], values[:, :, cut]
        masks = [mask[i % len(mask)] for mask in band.masks]
        parts.append(_whole(*part, mx.stack(masks)[:, :, : part[0].shape[2]]))
    return _in_rows(mx.concatenate(parts, axis=2))


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
    return (((distance >= 0) | same) & (distance < window))[:, None]


def vision_blocks(is_vision: mx.array) -> mx.array:
    """Number the runs of neighbouring vision positions: int32 `[B, L]`, -1 elsewhere.

    Follows the reference: a run is one block, whatever mixture of pictures it is.
    """
    flags = is_vision.astype(mx.int32)
    starts = mx.maximum(flags - mx.pad(flags, [(0, 0), (1, 0)])[:, :-1], 0)
    return mx.where(is_vision, mx.cumsum(starts, axis=1) - 1, -1)


def _distance(queries: int, keys: int) -> mx.array:
    """How far each key lies before each query."""
    return mx.arange(keys - queries, keys)[:, None] - mx.arange(keys)[None]
