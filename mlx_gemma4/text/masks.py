"""Which keys a query sees, when several positions are read at once.

Keys and queries end at the same position. Full layers are causal. Sliding layers see
the last `window` positions, themselves included; where a model attends both ways inside
a picture, its positions also see the later ones of the same picture, in sliding layers
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import mlx.core as mx

from ..kernels import EVERYTHING, MOST_ROWS, attention, attention_of_ready, enabled
from ..rope import Rotation

BLOCK = 128  # queries that share a slice of keys in banded attention


@dataclass(frozen=True, eq=False)
class Piece:
    """Some queries, the keys that one of them may see, and which of these each sees."""

    queries: slice
    keys: slice
    mask: mx.array | str | None


@dataclass(frozen=True, eq=False)
class Band:
    """The mask of many queries in pieces, made once for all layers that share it.

    Most scores of a long chunk are hidden: those of later keys, and of keys that the
    window has left behind. What no query of a piece sees is never computed.

    pieces: with all queries between them, in order.
    window: positions that a query sees, itself included, which is all that a kernel
        needs to know; None where pictures are seen both ways.
    """

    pieces: Sequence[Piece]
    window: int | None = None


Mask = mx.array | Band | str | None


def window_mask(queries: int, keys: int, window: int) -> Mask:
    """Mask of a sliding layer: bool `[queries, keys]`, True = attend.

    None where nothing is hidden, a Band for many queries or a kernel, "causal" where
    the window does not bite.
    """
    kernel = queries <= MOST_ROWS and enabled("attention")
    if queries > BLOCK or (keys > window and kernel):
        return band(queries, keys, window)
    return _whole(queries, keys, window)


def causal_mask(queries: int, keys: int) -> Mask:
    """Mask of a full layer.

    On a GPU this is left to MLX. Heads of 512 have no kernel that skips what is hidden,
    but from 0.32.4 on their scores exist for some queries at a time. On a CPU all of
    them would, and a Band it is.
    """
    if mx.metal.is_available():
        return None if queries == 1 else "causal"
    return window_mask(queries, keys, window=keys)


def band(queries: int, keys: int, window: int) -> Band:
    """The Band of a window alone. Pieces of one size share an array."""
    pieces: list[Piece] = []
    masks: dict[tuple[int, int], mx.array | str | None] = {}
    earlier = keys - queries
    for start in range(0, queries, BLOCK):
        end = min(start + BLOCK, queries)
        first = max(0, earlier + start - window + 1)
        size = end - start, earlier + end - first
        if size not in masks:
            masks[size] = _whole(*size, window)
        rows, seen = slice(start, end), slice(first, earlier + end)
        pieces.append(Piece(rows, seen, masks[size]))
    return Band(pieces, window)


def _whole(queries: int, keys: int, window: int) -> mx.array | str | None:
    """As `window_mask`, never a Band."""
    if keys <= window:
        return None if queries == 1 else "causal"
    distance = _distance(queries, keys)
    return (distance >= 0) & (distance < window)


def attend(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    """Attention with score scale 1: queries [B, H, L, D], keys and values
    [B, H_kv, S, D] -> [B, H, L, D]."""
    window = _window_of(mask, queries.shape[2])
    plain = partial(_plain, mask=mask)
    return attention_of_ready(queries, keys, values, window, plain)


def attend_raw(
    queries: mx.array,
    weight: mx.array,
    eps: float,
    rotation: Rotation,
    keys: mx.array,
    values: mx.array,
    mask: Mask,
) -> mx.array:
    """The same of queries [B, L, H, D] as they were projected, still to be normed by
    `weight` [D] and rotated -> [B, L, H * D]."""
    window, plain = _window_of(mask, queries.shape[1]), partial(_plain, mask=mask)
    return attention(queries, weight, eps, rotation, keys, values, window, plain)


def _window_of(mask: Mask, queries: int) -> int | None:
    """How many positions a query sees; None where that does not say it all."""
    if isinstance(mask, Band):
        return mask.window
    causal = queries == 1 if mask is None else isinstance(mask, str)
    return EVERYTHING if causal else None


def _plain(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    run = partial(mx.fast.scaled_dot_product_attention, scale=1.0)
    if not isinstance(mask, Band):
        return run(queries, keys, values, mask=mask)
    starts = [piece.queries.start for piece in mask.pieces[1:]]
    parts = mx.split(queries, starts, axis=2)
    outputs = [
        run(part, keys[:, :, piece.keys], values[:, :, piece.keys], mask=piece.mask)
        for part, piece in zip(parts, mask.pieces, strict=True)
    ]
    return mx.concatenate(outputs, axis=2)


def picture_mask(blocks: mx.array, keys: int, window: int) -> Mask:
    """Mask of a sliding layer whose queries may hold pictures.

    As `vision_window_mask`, but many queries get a Band, whose pieces also reach to the
    ends of the pictures they touch. `blocks` is then evaluated.
    """
    L = blocks.shape[1]
    if L <= BLOCK:
        return vision_window_mask(blocks, keys, window)
    numbers = cast(list[list[int]], blocks.tolist())
    text, pieces = band(L, keys, window), []
    key_blocks = _of_keys(blocks, keys)
    for piece in text.pieces:
        rows, seen = piece.queries, piece.keys
        if any(max(row[rows]) >= 0 for row in numbers):
            later = max(_rest_of_picture(row, rows.stop) for row in numbers)
            seen = slice(seen.start, seen.stop + later)
            mask = _vision_mask(blocks[:, rows], key_blocks[:, seen], window, later)
            piece = Piece(rows, seen, mask)
        pieces.append(piece)
    return text if pieces == text.pieces else Band(pieces)


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
