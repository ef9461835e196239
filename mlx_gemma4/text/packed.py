"""Attention to keys and values of which the later ones are packed in 8 bits.

One softmax goes over both parts. Scores are float32 whatever the model computes in:
rounded to bfloat16 they would put the result a third further off than the packing does
(benchmarks/kv_bits.py).
"""

import mlx.core as mx

from ..cache import Packed, PackedSeen

MOST_SCORES = 2**24  # that exist at a time, as long as a product has enough rows
ROWS = 32  # that a product has at least: on a GPU fewer take as long


def packed_rows(heads: int, kv_heads: int, keys: int) -> int:
    """Queries of `heads` heads whose scores with `keys` keys exist at a time."""
    return max(-(-ROWS * kv_heads // heads), MOST_SCORES // (heads * keys))


def attend_packed(queries: mx.array, seen: PackedSeen, causal: bool) -> mx.array:
    """Attention with score scale 1: [B, H, L, D] as `queries` are.

    causal: they end where what is seen ends; else each sees all of it.
    """
    B, H, L, _ = queries.shape
    keys = seen.end + seen.count
    rows = packed_rows(H, seen.heads, B * keys)
    parts: list[mx.array] = []
    for start in range(0, L, rows):
        block = queries[:, :, start : start + rows]
        if parts:  # or the scores of all blocks are computed before the first is used
            (block,) = mx.depends([block], parts[-1:])
        last = min(start + rows, L) if causal else L
        parts.append(_block(block, seen, keys - L + last, causal))
    found = parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)
    return found.astype(queries.dtype)


def _block(queries: mx.array, seen: PackedSeen, count: int, causal: bool) -> mx.array:
    """Of queries that see nothing behind the first `count` positions."""
    B, H, L, D = queries.shape
    shape = B, seen.heads, L * H // seen.heads, D  # those that share keys in a row
    rows = queries.astype(mx.float32).reshape(shape)
    keys, values = seen.head
    head, tail = min(seen.end, count), count - seen.end
    packed_keys, packed_values = seen.packed(max(0, tail))
    scores = rows @ keys[:, :, :head].swapaxes(2, 3)
    if tail > 0:
        behind = _product(rows, packed_keys, seen, transpose=True)
        scores = mx.concatenate([scores, behind], axis=3)
    if causal and L > 1:
        scores = _without_later(scores.reshape(B, H, L, count))
    shares = mx.softmax(scores, axis=-1).reshape(*shape[:3], count)
    found = shares[..., :head] @ values[:, :, :head]
    if tail > 0:
        found += _product(shares[..., head:], packed_values, seen, transpose=False)
    return found.reshape(queries.shape)


def _product(
    x: mx.array, packed: Packed, seen: PackedSeen, transpose: bool
) -> mx.array:
    words, scales, biases = packed
    return mx.quantized_matmul(
        x, words, scales, biases, transpose, seen.group, seen.bits
    )


def _without_later(scores: mx.array) -> mx.array:
    """Scores [B, H, L, S] of queries that end where the keys end, each without those of
    later keys."""
    L, S = scores.shape[2:]
    seen = mx.arange(S)[None] <= mx.arange(S - L, S)[:, None]
    return mx.where(seen, scores, -mx.inf)
