"""What queries find: scores with scale 1, their softmax and the sum of values.

A few rows go to a kernel where one is on. Many behind a window are cut into blocks, and
all blocks go into one call, each with keys of its own.
"""

from functools import partial
from typing import Any, cast

import mlx.core as mx

from ..cache import PackedSeen, Seen
from ..kernels import (
    EVERYTHING,
    attention,
    attention_of_ready,
    in_rows,
    mlx_has_one,
    rotate_queries,
)
from ..rope import Rotation
from .masks import BLOCK, Band, Mask
from .packed import attend_packed

SCORES = 1 << 26  # bytes of a block's scores at most; MLX computes a few blocks ahead
LEAST_ROWS = 8  # of a block, however many keys there are


def attend(queries: mx.array, seen: Seen, mask: Mask) -> mx.array:
    """Attention with score scale 1: [B, L, H * D].

    queries: [B, H, L, D], or in blocks if `mask` cuts them.
    """
    if isinstance(mask, Band) and mask.blocks > 1:
        return _banded(queries, seen, mask)
    if isinstance(seen, PackedSeen):
        return in_rows(attend_packed(queries, seen, mask is not None))
    keys, values = seen.keys, seen.values
    _, H, L, D = queries.shape
    # Nearly every step of decoding: at once, without what only a kernel asks for.
    if mask is None and mlx_has_one(H, L, D, seen.heads, seen.end - seen.start):
        return in_rows(_whole(queries, keys, values, None))
    window, plain = _window_of(mask, L), partial(_plain, mask=mask)
    return attention_of_ready(queries, keys, values, window, plain)


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
    if isinstance(seen, PackedSeen):
        return attend(rotate_queries(queries, weight, eps, rotation), seen, mask)
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


def _whole(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    fused = mx.fast.scaled_dot_product_attention
    return fused(queries, keys, values, scale=1.0, mask=cast(Any, mask))


def causal_rows(heads: int, keys: int, size: int) -> int:
    """Queries of `heads` heads that a block has on a CPU, where scores of `size` bytes
    are computed for all `keys`."""
    return max(LEAST_ROWS, min(BLOCK, SCORES // (heads * keys * size)))


def _causal(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Block by block: what no query of a block sees is never computed."""
    _, heads, L, _ = queries.shape
    earlier, parts = keys.shape[2] - L, []
    many = causal_rows(heads, keys.shape[2], queries.dtype.size)
    for start in range(0, L, many):
        rows, before = slice(start, start + many), slice(earlier + start + many)
        block = queries[:, :, rows]
        if parts:  # or MLX computes the scores of all blocks before it uses the first
            (block,) = mx.depends([block], parts[-1:])
        parts.append(_whole(block, keys[:, :, before], values[:, :, before], "causal"))
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
    return in_rows(mx.concatenate(parts, axis=2))
