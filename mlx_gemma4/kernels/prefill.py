"""Attention of many queries, causal or windowed, that skips the keys nobody sees.

Keys and values are read where they lie, as views of the cache's buffers: no copies, and
no array of scores or masks.
"""

import mlx.core as mx

from .launch import DTYPES, MOST_ROWS, enabled, launch

MOST_DIM = 512
QUERY_BYTES = 1 << 14  # half of a threadgroup's memory


def prefill_fits(queries: mx.array, keys: mx.array, values: mx.array) -> bool:
    """Whether the kernel is on and takes arrays like these."""
    _, heads, length, dim = queries.shape
    return (
        enabled("prefill")
        and queries.dtype in DTYPES
        and keys.dtype == values.dtype == queries.dtype
        and keys.shape == values.shape
        and MOST_ROWS < length <= keys.shape[2]
        and heads % keys.shape[1] == 0
        and dim == keys.shape[3]
        and dim <= MOST_DIM
        and dim % 8 == 0
    )


def prefill(
    queries: mx.array, keys: mx.array, values: mx.array, window: int
) -> mx.array:
    """Attention with score scale 1: queries [B, H, L, D], keys and values
    [B, H_kv, S, D] -> [B, H, L, D], in float32 but for inputs and output.

    window: of the last S keys, how many a query sees up to its own place, the last
        query's being the last key.
    """
    B, H, L, D = queries.shape
    inputs = {"queries": queries, "keys": keys, "values": values}
    rows = min(32, QUERY_BYTES // (8 * D * queries.itemsize) * 8)  # matrices of 8
    simdgroups = next(n for n in (8, 4, 2, 1) if D % (8 * n) == 0)
    (out,) = launch(
        "prefill",
        inputs | {"window": mx.array([min(window, keys.shape[2])], mx.int32)},
        {"out": ((B, L, H, D), queries.dtype)},
        grid=(32 * simdgroups * H, -(-L // rows), B),
        threadgroup=(32 * simdgroups, 1, 1),
        template=[
            ("T", queries.dtype),
            ("D", D),
            ("ROWS", rows),
            ("SIMDGROUPS", simdgroups),
        ],
        strided=True,
    )
    return out.transpose(0, 2, 1, 3)
