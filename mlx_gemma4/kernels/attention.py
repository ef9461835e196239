"""Attention straight from the cache's views of keys and values.

Of a few queries it is this kernel's, of more `prefill`'s. Few keys take one launch.
More are cut into spans, each with threadgroups of its own, and a second launch adds up
what they found.
"""

from collections.abc import Callable

import mlx.core as mx

from .launch import DTYPES, MOST_ROWS, constants, differentiable, enabled, launch
from .prefill import prefill, prefill_fits

LEAST_DIM, MOST_DIM = 8, 512  # of a head; MLX hands out fewer elements differently
# All of these were chosen by reckoning; nothing was measured on an Apple GPU.
ALONE = 512 + MOST_ROWS  # keys for one launch: a small model's window, and a draft
SPAN = 128  # keys for a threadgroup of the first of two launches
MOST_SPANS = 32  # one for each lane of the second
# In a threadgroup: every Apple GPU takes so many, whatever the registers.
SIMDGROUPS = 8
ENOUGH = 64  # threadgroups, from which on queries are better taken together
WIDE = 256  # elements of a head: beyond, registers hold fewer queries and keys
EVERYTHING = 1 << 24  # a window that hides nothing, and a whole float32

Plain = Callable[[mx.array, mx.array, mx.array], mx.array]


def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    window: int | None,
    plain: Plain,
) -> mx.array:
    """Causal attention with score scale 1, of queries that end where the keys end.

    queries: [B, H, L, D], like the result. keys, values: [B, H_kv, S, D], views or not,
        as long as the elements of each head lie side by side (`prefill` has no need).
    window: positions that a query sees, itself included, or EVERYTHING; None where the
        mask is another one, and no kernel is for it.
    plain: the same of queries, keys and values in plain MLX, for what does not fit and
        for gradients.
    """
    few = queries.shape[2] <= MOST_ROWS
    fits, run = (_fits, _launch) if few else (prefill_fits, prefill)
    if window is None or not fits(queries, keys, values):
        return plain(queries, keys, values)

    def kernel(*arrays: mx.array) -> list[mx.array]:
        queries, keys, values = arrays
        return [run(queries, keys, values, window)]

    def twin(*arrays: mx.array) -> list[mx.array]:
        return [plain(*arrays)]

    return differentiable(kernel, twin)(queries, keys, values)[0]


def _fits(queries: mx.array, keys: mx.array, values: mx.array) -> bool:
    return (
        enabled("attention")
        and 0 < queries.shape[2] <= MOST_ROWS
        and queries.dtype in DTYPES
        and queries.dtype == keys.dtype == values.dtype
        and LEAST_DIM <= queries.shape[3] <= MOST_DIM
        and queries.shape[3] == keys.shape[3] == values.shape[3]
        and queries.shape[2] <= keys.shape[2] < EVERYTHING
        and queries.shape[1] % keys.shape[1] == 0
    )


def _spans(keys: int, rows: int, window: int) -> int:
    seen = min(keys, window + rows - 1)
    return 1 if seen <= ALONE else min(MOST_SPANS, -(-seen // SPAN))


def _tile(dim: int, sharing: int, others: int) -> int:
    """How many queries that share keys a threadgroup takes, of `sharing`.

    Reading keys once for several saves little as long as cores have nothing to do.
    others: by what the number of threadgroups is to be multiplied.
    """
    for tile in (4, 2) if dim <= WIDE else (2,):
        if tile <= sharing and -(-sharing // tile) * others >= ENOUGH:
            return tile
    return 1


def _launch(
    queries: mx.array, keys: mx.array, values: mx.array, window: int
) -> mx.array:
    B, H, L, D = queries.shape
    kv_heads, spans = keys.shape[1], _spans(keys.shape[2], L, window)
    sharing = L * H // kv_heads  # queries of one head of keys
    tile = _tile(D, sharing, B * kv_heads * spans)
    inputs = {"queries": queries, "keys": keys, "values": values}
    parts = {
        "unfinished": ((B * L * H, spans, D), mx.float32),
        "levels": ((B * L * H, spans, 2), mx.float32),
    }
    whole = {"out": ((B, L, H, D), queries.dtype)}
    made = launch(
        "attention",
        inputs | {"numbers": constants(min(window, EVERYTHING))},
        whole if spans == 1 else parts,
        grid=(32 * SIMDGROUPS * spans, -(-sharing // tile), B * kv_heads),
        threadgroup=(32 * SIMDGROUPS, 1, 1),
        template=[("T", queries.dtype), ("D", D), ("TILE", tile)]
        + [("GROUPS", SIMDGROUPS), ("KEYS", 4 if D <= WIDE else 2)],
        defines="" if spans == 1 else "PARTS",
        strided=True,
    )
    if spans > 1:
        width = 32 * -(-D // 32)
        made = launch(
            "attention_sum",
            dict(zip(parts, made, strict=True)),
            whole,
            grid=(width, B * L * H, 1),
            threadgroup=(width, 1, 1),
            template=[("T", queries.dtype)],
        )
    return made[0].transpose(0, 2, 1, 3)
