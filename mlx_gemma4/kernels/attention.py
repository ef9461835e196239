"""Attention of a few queries, straight from the cache's views of keys and values.

Few keys take one launch. More are cut into spans, each with threadgroups of its own,
and a second launch adds up what they found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import mlx.core as mx

from .heads import LEAST_DIM, rotate_queries
from .launch import DTYPES, MOST_ROWS, constants, differentiable, enabled, launch

if TYPE_CHECKING:
    from ..rope import Rotation

MOST_DIM = 512  # of a head
# All of these were chosen by reckoning; nothing was measured on an Apple GPU.
ALONE = (512 + MOST_ROWS) * 256  # elements of keys for one launch: a window and a draft
MANY = 32  # threadgroups, from which on each may take twice as much in one launch
SPAN = 128 * 256  # elements of keys for a threadgroup of the first of two launches
MOST_SPANS = 128
ENOUGH = 128  # threadgroups, from which on queries are better taken together
SIMDGROUPS = 16  # in a threadgroup: no more registers than every Apple GPU has
WIDE = 256  # elements of a head: beyond, half as many
EVERYTHING = 1 << 24  # a window that hides nothing, and a whole float32
FEW_KEYS, MANY_KEYS = 512 + MOST_ROWS, 4096 + MOST_ROWS  # that a query sees

Plain = Callable[[mx.array, mx.array, mx.array], mx.array]


def attention_case(head_dim: int, keys: int) -> str:
    """What `enabled` is asked for, of a query that sees `keys` keys."""
    for most in (FEW_KEYS, MANY_KEYS):
        if keys <= most:
            return f"{head_dim}d {most} keys"
    return f"{head_dim}d more keys"


def takes_raw(
    rows: int, heads: int, kv_heads: int, head_dim: int, dtype: mx.Dtype
) -> bool:
    """Whether `attention` does the norm and rotation of such queries in its launch."""
    return (
        enabled("attention", attention_case(head_dim, FEW_KEYS))
        and 0 < rows <= MOST_ROWS
        and heads % kv_heads == 0
        and LEAST_DIM <= head_dim <= MOST_DIM
        and head_dim % 8 == 0
        and dtype in DTYPES
    )


def attention(
    queries: mx.array,
    q_weight: mx.array,
    eps: float,
    rotation: "Rotation",
    keys: mx.array,
    values: mx.array,
    window: int | None,
    plain: Plain,
) -> mx.array:
    """Causal attention with score scale 1, of queries that end where the keys end.

    queries: [B, L, H, D] as they were projected, to be normed by `q_weight` [D] and
        rotated.
    keys, values: [B, H_kv, S, D], views or not, as long as the elements of each head
        lie side by side.
    window: positions that a query sees, itself included, or EVERYTHING; None where the
        mask is another one, and no kernel is for it.
    plain: the same of ready queries [B, H, L, D], keys and values in plain MLX, for
        what does not fit and for gradients.
    Returns [B, L, H * D].
    """
    if window is None or not _fits(queries, keys, values, window, q_weight):
        ready = rotate_queries(queries, q_weight, eps, rotation)
        return in_rows(plain(ready, keys, values))

    def kernel(*arrays: mx.array) -> list[mx.array]:
        queries, keys, values, weight = arrays
        turn = _Turn(weight, eps, rotation)
        return [_launch(queries, keys, values, window, turn)]

    def twin(*arrays: mx.array) -> list[mx.array]:
        queries, keys, values, weight = arrays
        normed = mx.fast.rms_norm(queries, weight, eps).transpose(0, 2, 1, 3)
        return [in_rows(plain(rotation(normed), keys, values))]

    return differentiable(kernel, twin)(queries, keys, values, q_weight)[0]


def attention_in_slots(
    queries: mx.array,
    q_weight: mx.array,
    eps: float,
    rotation: "Rotation",
    buffer: mx.array,
    filled: mx.array,
    window: int,
) -> mx.array:
    """The same on all slots of a cache's buffer [B, 2 * H_kv, slots, D], of which the
    first `filled`, int32 [1], count: how many that is need not be known when it is
    compiled. Where `slots_fit`; it has no gradient."""
    heads = buffer.shape[1] // 2
    kv, turn = (buffer[:, :heads], buffer[:, heads:]), _Turn(q_weight, eps, rotation)
    return _launch(queries, *kv, window, turn, filled)


def slots_fit(head_dim: int, rows: int, slots: int, window: int) -> bool:
    """Whether `attention_in_slots` is to be used for queries that are left raw."""
    case = attention_case(head_dim, _seen(slots, rows, window))
    return enabled("attention", case) and slots < EVERYTHING


def attention_of_ready(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    window: int | None,
    plain: Plain,
) -> mx.array:
    """As `attention`, of queries [B, H, L, D] that are normed and rotated.

    Only where MLX has no such kernel of its own: it would save no launch there.
    """
    _, H, L, D = queries.shape
    if (
        window is None
        or mlx_has_one(H, L, D, *keys.shape[1:3])
        or not _fits(queries.transpose(0, 2, 1, 3), keys, values, window)
    ):
        return in_rows(plain(queries, keys, values))

    def kernel(*arrays: mx.array) -> list[mx.array]:
        queries, keys, values = arrays
        return [_launch(queries.transpose(0, 2, 1, 3), keys, values, window)]

    def twin(*arrays: mx.array) -> list[mx.array]:
        return [in_rows(plain(*arrays))]

    return differentiable(kernel, twin)(queries, keys, values)[0]


def in_rows(found: mx.array) -> mx.array:
    """[B, H, L, D] -> [B, L, H * D]."""
    B, H, L, D = found.shape
    return (found if L == 1 else found.swapaxes(1, 2)).reshape(B, L, H * D)


def mlx_has_one(heads: int, rows: int, dim: int, kv_heads: int, keys: int) -> bool:
    """Whether MLX 0.32 does the attention of a few rows in one go on an Apple GPU."""
    sharing = heads // kv_heads
    if dim == 512:
        return rows == 1 and sharing == 8 and keys >= 1024
    return dim in (64, 96, 128, 192, 256) and rows <= 8 and rows * sharing <= 32


def _fits(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    window: int,
    weight: mx.array | None = None,
) -> bool:
    _, L, H, D = queries.shape
    kv_heads, S = keys.shape[1:3]
    return (
        takes_raw(L, H, kv_heads, D, queries.dtype)
        and enabled("attention", attention_case(D, _seen(S, L, window)))
        and queries.dtype == keys.dtype == values.dtype
        and (weight is None or weight.dtype == queries.dtype)
        and D == keys.shape[3]
        and keys.shape == values.shape
        and L <= S < EVERYTHING
    )


def _seen(keys: int, rows: int, window: int) -> int:
    """How many keys the queries of all rows see."""
    return min(keys, window + rows - 1)


def _spans(seen: int, dim: int, queries: int) -> int:
    """Into how many spans the `seen` keys are cut, for so many queries in all."""
    alone = ALONE if queries < MANY else 2 * ALONE
    return 1 if seen * dim <= alone else min(MOST_SPANS, -(-seen * dim // SPAN))


def _together(sharing: int, others: int) -> int:
    """How many queries that share keys a threadgroup takes, of `sharing`.

    Reading keys once for several saves little as long as cores have nothing to do.
    others: by what the number of threadgroups is to be multiplied.
    """
    for count in (8, 4, 2):
        if count <= sharing and -(-sharing // count) * others >= ENOUGH:
            return count
    return 1


@lru_cache(maxsize=8)
def _count(number: int) -> mx.array:
    return mx.array([number], mx.int32)


@dataclass(frozen=True)
class _Turn:
    """What raw queries still need."""

    weight: mx.array
    eps: float
    rotation: "Rotation"


def _launch(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    window: int,
    turn: _Turn | None = None,
    filled: mx.array | None = None,
) -> mx.array:
    """Of queries [B, L, H, D]. filled: how many of the keys count, if not all."""
    B, L, H, D = queries.shape
    kv_heads, sharing = keys.shape[1], L * H // keys.shape[1]
    spans = _spans(_seen(keys.shape[2], L, window), D, B * L * H)
    together = _together(sharing, B * kv_heads * spans)
    simdgroups = SIMDGROUPS if D <= WIDE else SIMDGROUPS // 2
    numbers = constants(min(window, EVERYTHING), turn.eps if turn else 0.0)
    inputs = {"queries": queries, "keys": keys, "values": values, "numbers": numbers}
    inputs["filled"] = _count(keys.shape[2]) if filled is None else filled
    if turn is not None:
        inputs |= {"weight": turn.weight, "periods": turn.rotation.periods}
        inputs["position"] = turn.rotation.position
    whole = {"out": ((B, L, H * D), queries.dtype)}
    parts = {
        "unfinished": ((B * L * H, spans, D), mx.float32),
        "levels": ((B * L * H, spans, 2), mx.float32),
    }
    found = launch(
        "attention",
        inputs,
        whole if spans == 1 else parts,
        grid=(32 * simdgroups * spans, -(-sharing // together), B * kv_heads),
        threadgroup=(32 * simdgroups, 1, 1),
        template=[("T", queries.dtype), ("D", D), ("QUERIES", together)]
        + [("SIMDGROUPS", simdgroups), ("KEYS", 8 // -(-D // 128))],
        defines=" ".join(["RAW"] * (turn is not None) + ["PARTS"] * (spans > 1)),
        header=("rotate",),
        strided=True,
    )
    return found[0] if spans == 1 else _added_up(found[0], found[1], queries)


def _added_up(unfinished: mx.array, levels: mx.array, queries: mx.array) -> mx.array:
    """What the spans of `queries` [B, L, H, D] come to."""
    B, L, H, D = queries.shape
    threads = 32 * -(-D // 32)
    return launch(
        "attention_sum",
        {"unfinished": unfinished, "levels": levels},
        {"out": ((B, L, H * D), queries.dtype)},
        grid=(threads, B * L * H, 1),
        threadgroup=(threads, 1, 1),
        template=[("T", queries.dtype), ("D", D)],
    )[0]
