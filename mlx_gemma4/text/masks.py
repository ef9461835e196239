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

from ..kernels import EVERYTHING, MOST_ROWS, attention, enabled

BLOCK = 128  # queries that share a slice of keys in banded attention


@dataclass(frozen=True)
class Band:
    """The window mask of many queries, applied block by block, not as an array.

    Most scores of a long chunk are hidden: those of later keys, and of keys that the
    window has left behind. What no query of a block sees is never computed.

    A few queries have one where a kernel takes them, which needs no more than that.
    """

    window: int


@dataclass(frozen=True, eq=False)
class Piece:
    """Some queries, the keys that one of them may see, and which of these each sees."""

    queries: slice
    keys: slice
    mask: "Mask"


@dataclass(frozen=True, eq=False)
class PictureBand:
    """A Band whose blocks also reach to the ends of the pictures they touch.

    The masks of its pieces are made once, for all layers that share it.
    """

    pieces: tuple[Piece, ...]


Mask = mx.array | Band | PictureBand | str | None


def window_mask(queries: int, keys: int, window: int) -> Mask:
    """Mask of a sliding layer: bool `[queries, keys]`, True = attend.

    None where nothing is hidden, a Band for many queries or a kernel, "causal" where
    the window does not bite.
    """
    bites = keys > window
    kernel = enabled("attention" if queries <= MOST_ROWS else "prefill")
    if queries > BLOCK or (bites and kernel):
        return Band(window)
    return _block_mask(queries, keys, window)


def _block_mask(queries: int, keys: int, window: int) -> mx.array | str | None:
    """The same, never a Band."""
    if keys <= window:
        return None if queries == 1 else "causal"
    distance = _distance(queries, keys)
    return (distance >= 0) & (distance < window)


def causal_mask(queries: int, keys: int) -> Mask:
    """Mask of a full layer.

    On a GPU MLX's own causal attention skips what is hidden; on a CPU a Band does.
    """
    if mx.metal.is_available():
        return None if queries == 1 else "causal"
    return window_mask(queries, keys, window=keys)


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
        return _banded(queries, keys, values, mask.window)
    if isinstance(mask, PictureBand):
        return _pieced(queries, keys, values, mask.pieces)
    return mx.fast.scaled_dot_product_attention(
        queries, keys, values, scale=1.0, mask=mask
    )


def _banded(
    queries: mx.array, keys: mx.array, values: mx.array, window: int
) -> mx.array:
    """The same as with the whole mask, but keys outside a block's reach are skipped."""
    L, S = queries.shape[2], keys.shape[2]
    pieces = []
    for start in range(0, L, BLOCK):
        rows, seen = _reach(start, L, S, window)
        count = rows.stop - rows.start, seen.stop - seen.start
        pieces.append(Piece(rows, seen, _block_mask(*count, window)))
    return _pieced(queries, keys, values, pieces)


def _pieced(
    queries: mx.array, keys: mx.array, values: mx.array, pieces: Sequence[Piece]
) -> mx.array:
    outputs = [
        _plain(
            queries[:, :, piece.queries],
            keys[:, :, piece.keys],
            values[:, :, piece.keys],
            piece.mask,
        )
        for piece in pieces
    ]
    return mx.concatenate(outputs, axis=2)


def _reach(start: int, L: int, S: int, window: int) -> tuple[slice, slice]:
    """The block of queries from `start` on, and the keys of their windows."""
    end, earlier = min(start + BLOCK, L), S - L
    seen = slice(max(0, earlier + start - window + 1), earlier + end)
    return slice(start, end), seen


def picture_mask(blocks: mx.array, keys: int, window: int) -> Mask:
    """Mask of a sliding layer whose queries may hold pictures.

    As `vision_window_mask`, but many queries get a PictureBand, or a Band if none of
    them belongs to a picture. `blocks` is then evaluated.
    """
    L = blocks.shape[1]
    if L <= BLOCK:
        return vision_window_mask(blocks, keys, window)
    numbers = cast(list[list[int]], blocks.tolist())
    if all(max(row) < 0 for row in numbers):
        return window_mask(L, keys, window)
    key_blocks = _of_keys(blocks, keys)
    pieces = []
    for start in range(0, L, BLOCK):
        rows, seen = _reach(start, L, keys, window)
        if all(max(row[rows]) < 0 for row in numbers):
            count = rows.stop - rows.start, seen.stop - seen.start
            pieces.append(Piece(rows, seen, _block_mask(*count, window)))
            continue
        later = max(_rest_of_picture(row, rows.stop) for row in numbers)
        seen = slice(seen.start, seen.stop + later)
        mask = _vision_mask(blocks[:, rows], key_blocks[:, seen], window, later)
        pieces.append(Piece(rows, seen, mask))
    return PictureBand(tuple(pieces))


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
