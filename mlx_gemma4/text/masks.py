"""Which keys a query sees, when several positions are read at once.

Keys and queries end at the same position. Full layers are causal. Sliding layers see
the last `window` positions, themselves included; where a model attends both ways inside
a picture, its positions also see the later ones of the same picture, in sliding layers
only.
"""

from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from ..kernels import prefill

BLOCK = 128  # queries that share a slice of keys in banded attention


@dataclass(frozen=True)
class Band:
    """The window mask of many queries, applied block by block, not as an array.

    Most scores of a long chunk are hidden: those of later keys, and of keys that the
    window has left behind. What no query of a block sees is never computed.
    """

    window: int


Mask = mx.array | Band | str | None


def window_mask(queries: int, keys: int, window: int) -> Mask:
    """Mask of a sliding layer: bool `[queries, keys]`, True = attend.

    None where nothing is hidden, a Band for many queries, "causal" where the window
    does not bite.
    """
    if queries == 1 and keys <= window:
        return None
    if queries > BLOCK:
        return Band(window)
    if keys <= window:
        return "causal"
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
    window = mask.window if isinstance(mask, Band) else None
    if isinstance(mask, str):  # causal
        window = keys.shape[2]
    return prefill(queries, keys, values, window, partial(_plain, mask=mask))


def _plain(queries: mx.array, keys: mx.array, values: mx.array, mask: Mask) -> mx.array:
    if isinstance(mask, Band):
        return _banded(queries, keys, values, mask.window)
    return mx.fast.scaled_dot_product_attention(
        queries, keys, values, scale=1.0, mask=mask
    )


def _banded(
    queries: mx.array, keys: mx.array, values: mx.array, window: int
) -> mx.array:
    """The same as with the whole mask, but keys outside a block's reach are skipped."""
    L, earlier = queries.shape[2], keys.shape[2] - queries.shape[2]
    outputs = []
    for start in range(0, L, BLOCK):
        end = min(start + BLOCK, L)
        first, last = max(0, earlier + start - window + 1), earlier + end
        mask = window_mask(end - start, last - first, window)
        rows, seen = queries[:, :, start:end], slice(first, last)
        outputs.append(_plain(rows, keys[:, :, seen], values[:, :, seen], mask))
    return mx.concatenate(outputs, axis=2)


def vision_window_mask(blocks: mx.array, keys: int, window: int) -> mx.array:
    """Mask of a sliding layer whose queries hold pictures: bool `[B, 1, L, keys]`.

    `blocks` [B, L] gives each position the number of its picture, or -1. A picture lies
    wholly inside the queries.
    """
    B, L = blocks.shape
    distance = _distance(L, keys)
    earlier = mx.full((B, keys - L), -1, blocks.dtype)
    key_blocks = mx.concatenate([earlier, blocks], axis=1)
    same = (blocks[:, :, None] == key_blocks[:, None, :]) & (blocks >= 0)[:, :, None]
    return (((distance >= 0) | same) & (distance < window))[:, None]


def vision_blocks(is_vision: mx.array) -> mx.array:
    """Number the runs of neighbouring vision positions: int32 `[B, L]`, -1 elsewhere.

    Follows the reference: a run is one block, whatever mixture of pictures it is.
    """
    flags = is_vision.astype(mx.int32)
    starts = mx.maximum(flags - mx.pad(flags, [(0, 0), (1, 0)])[:, :-1], 0)
    return mx.where(is_vision, mx.cumsum(starts, axis=1) - 1, -1)


def _distance(queries: int, keys: int) -> mx.array:
    rows = mx.arange(keys - queries, keys)[:, None]
    return rows - mx.arange(keys)[None]
