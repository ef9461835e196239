"""Which keys a query sees, when several positions are read at once.

Keys and queries end at the same position. Full layers are causal. Sliding layers see
the last `window` positions, themselves included; where a model attends both ways inside
a picture, its positions also see the later ones of the same picture, in sliding layers
only.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import mlx.core as mx

from ..kernels import EVERYTHING, MOST_ROWS, attention, enabled

BLOCK = 128  # queries that share a slice of keys


@dataclass(frozen=True, eq=False)
class Band:
    """The mask of many queries in blocks, made once for all layers that share it.

    Most scores of a long chunk are hidden: those of later keys, and of keys that the
    window has left behind. Each block of queries gets as many keys in a row as one may
    see, and all blocks go into one call: their keys are views that overlap.

    mask: bool [1 or B, 1 or blocks, block, reach].
    left, right: how many keys have to be put before those that there are, and behind.
    window: positions that a query sees, itself included, which is all that a kernel
        needs to know; None where pictures are seen both ways.
    gradients: call block by block. The gradient of overlapping views takes more memory.
    """

    mask: mx.array
    left: int
    right: int
    window: int | None = None
    gradients: bool = False
    _of_heads: dict[tuple[int, int], mx.array] = field(default_factory=dict)

    def of_heads(self, kv_heads: int, sharing: int) -> mx.array:
        """The mask of queries of `sharing` heads in a row: [1 or B * H_kv, 1 or blocks,
        sharing * block, reach]."""
        heads = kv_heads, sharing
        if heads not in self._of_heads:
            B, n, block, reach = self.mask.shape
            rows = kv_heads if B > 1 else 1
            mask = self.mask[:, None, :, None]
            mask = mx.broadcast_to(mask, (B, rows, n, sharing, block, reach))
            self._of_heads[heads] = mask.reshape(B * rows, n, sharing * block, reach)
        return self._of_heads[heads]


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
    block, blocks = _blocks(queries)
    reach, left = window - 1 + block + later, window - 1 - (keys - queries)
    right = blocks * block - queries + later
    distance = mx.arange(block)[:, None] + (window - 1) - mx.arange(reach)[None]
    places = mx.arange(blocks)[:, None] * block + mx.arange(reach)[None]
    mask = (distance >= 0)[None, None]
    if pictures is not None:
        own = mx.pad(pictures, [(0, 0), (0, right)], constant_values=-1)
        seen = mx.pad(own, [(0, 0), (max(0, window - 1), 0)], constant_values=-1)
        own = own[:, : blocks * block].reshape(-1, blocks, block, 1)
        mask = mask | ((own >= 0) & (own == seen[:, places][:, :, None]))
    mask = mask & (distance < window)
    if left > 0:
        mask = mask & (places >= left)[None, :, None]
    kernels = window if pictures is None else None
    return Band(mask, left, right, kernels, gradients)


def _blocks(queries: int) -> tuple[int, int]:
    """How many queries a block has, and how many blocks there are."""
    block = min(BLOCK, queries)
    return block, -(-queries // block)


def attend(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    """Attention with score scale 1: queries [B, H, L, D], keys and values
    [B, H_kv, S, D] -> [B, H, L, D]."""
    window = _window_of(mask, queries.shape[2])
    return attention(queries, keys, values, window, partial(_plain, mask=mask))


def _window_of(mask: Mask, queries: int) -> int | None:
    """How many positions a query sees; None where that does not say it all."""
    if isinstance(mask, Band):
        return mask.window
    causal = queries == 1 if mask is None else isinstance(mask, str)
    return EVERYTHING if causal else None


def _plain(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    if isinstance(mask, Band):
        return _banded(queries, keys, values, mask)
    # On a GPU MLX bounds what exists of the scores at a time; on a CPU all would.
    if mask == "causal" and queries.shape[2] > BLOCK and not mx.metal.is_available():
        return _causal(queries, keys, values)
    return _whole(queries, keys, values, mask)


def _whole(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    fused = mx.fast.scaled_dot_product_attention
    return fused(queries, keys, values, scale=1.0, mask=cast(Any, mask))


def _causal(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Block by block: what no query of a block sees is never computed."""
    L, behind = queries.shape[2], []
    earlier = keys.shape[2] - L
    for start in range(0, L, BLOCK):
        rows, seen = slice(start, start + BLOCK), slice(0, earlier + start + BLOCK)
        part = queries[:, :, rows], keys[:, :, seen], values[:, :, seen]
        behind.append(_whole(*part, "causal"))
    return mx.concatenate(behind, axis=2)


def _banded(
    queries: mx.array, keys: mx.array, values: mx.array, band: Band
) -> mx.array:
    B, H, L, D = queries.shape
    block, blocks = _blocks(L)
    kv_heads = keys.shape[1]
    rows = B * kv_heads, H // kv_heads, blocks, block, D
    queries = _padded(queries, 0, blocks * block - L).reshape(rows).swapaxes(1, 2)
    queries = queries.reshape(B * kv_heads, blocks, -1, D)
    keys, values = (_padded(x, band.left, band.right) for x in (keys, values))
    mask = band.of_heads(kv_heads, H // kv_heads)
    if band.gradients:
        out = _block_by_block(queries, keys, values, mask)
    else:
        keys, values = (_overlapping(x, blocks, mask.shape[3]) for x in (keys, values))
        out = _whole(queries, keys, values, mask)
    out = out.reshape(B * kv_heads, blocks, -1, block, D).swapaxes(1, 2)
    return out.reshape(B, H, -1, D)[:, :, :L]


def _padded(x: mx.array, left: int, right: int) -> mx.array:
    """`x` [B, H, S, D] with so many more positions; fewer where `left` is negative."""
    if left < 0:
        x = x[:, :, -left:]
    if left <= 0 and right == 0:
        return x
    return mx.pad(x, [(0, 0), (0, 0), (max(0, left), right), (0, 0)])


def _overlapping(x: mx.array, blocks: int, reach: int) -> mx.array:
    """What each block of queries sees of `x` [B, H, S, D], as views of it:
    [B * H, blocks, reach, D]."""
    B, H, S, D = x.shape
    return mx.as_strided(x, (B * H, blocks, reach, D), (S * D, BLOCK * D, D, 1))


def _block_by_block(
    queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array
) -> mx.array:
    """The same without overlapping views, whose gradient would take more memory.

    queries: [B * H_kv, blocks, rows, D]. keys, values: [B, H_kv, S, D].
    """
    parts, (many, blocks, _, D) = [], queries.shape
    keys, values = (x.reshape(many, 1, -1, D) for x in (keys, values))
    mask = mx.broadcast_to(mask, (len(mask), blocks, *mask.shape[2:]))
    for i in range(blocks):
        seen, own = slice(BLOCK * i, BLOCK * i + mask.shape[3]), slice(i, i + 1)
        part = queries[:, own], keys[:, :, seen], values[:, :, seen]
        parts.append(_whole(*part, mask[:, own]))
    return mx.concatenate(parts, axis=1)


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
    return _vision_mask(blocks, _of_keys(blocks, keys), window)


def _of_keys(blocks: mx.array, keys: int) -> mx.array:
    """`blocks` [B, L] of the last of `keys` positions as those of all: [B, keys]."""
    return mx.pad(blocks, [(0, 0), (keys - blocks.shape[1], 0)], constant_values=-1)


def _vision_mask(
    blocks: mx.array, key_blocks: mx.array, window: int, later: int = 0
) -> mx.array:
    """bool `[B, 1, queries, keys]`; the last `later` keys lie behind all queries."""
    distance = _distance(blocks.shape[1], key_blocks.shape[1] - later, later)
    same = (blocks[:, :, None] == key_blocks[:, None, :]) & (blocks >= 0)[:, :, None]
    return (((distance >= 0) | same) & (distance < window))[:, None]


def vision_blocks(is_vision: mx.array) -> mx.array:
    """Number the runs of neighbouring vision positions: int32 `[B, L]`, -1 elsewhere.

    Follows the reference: a run is one block, whatever mixture of pictures it is.
    """
    flags = is_vision.astype(mx.int32)
    starts = mx.maximum(flags - mx.pad(flags, [(0, 0), (1, 0)])[:, :-1], 0)
    return mx.where(is_vision, mx.cumsum(starts, axis=1) - 1, -1)


def _distance(queries: int, keys: int, later: int = 0) -> mx.array:
    """How far each key lies before each query; `later` more lie behind the last."""
    rows = mx.arange(keys - queries, keys)[:, None]
    return rows - mx.arange(keys + later)[None]
