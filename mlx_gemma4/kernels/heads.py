"""Norm and rotation of queries and keys, and the norm of values, in one launch.

Keys and values are joined as the cache takes them; it is written behind this by MLX,
which alone can do so in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx

from .launch import DTYPES, MOST_ROWS, constants, differentiable, enabled, launch

if TYPE_CHECKING:
    from ..rope import Rotation

# Elements of a head; MLX hands out fewer weights as another kind of pointer.
LEAST_DIM, MOST_DIM = 8, 1024


def rotate_heads(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    q_weight: mx.array,
    k_weight: mx.array,
    eps: float,
    rotation: "Rotation",
) -> tuple[mx.array, list[mx.array]]:
    """Queries [B, L, H, D], and keys and values [B, L, H_kv, D], as projected.

    Returns the queries normed by `q_weight` [D] and rotated, [B, H, L, D]; and as a
    cache takes them the keys normed by `k_weight` and rotated, and the values normed:
    [B, H_kv, L, D] each, or in one array [B, 2 * H_kv, L, D].
    """
    form = _Form(eps, rotation, with_queries=True, with_keys=True)
    queries, *kv = form.run(queries, keys, values, q_weight, k_weight)
    return queries, kv


def rotate_keys(
    keys: mx.array,
    values: mx.array,
    k_weight: mx.array,
    eps: float,
    rotation: "Rotation",
) -> list[mx.array]:
    """What `rotate_heads` does with keys and values."""
    form = _Form(eps, rotation, with_queries=False, with_keys=True)
    return form.run(keys, values, k_weight)


def rotate_queries(
    queries: mx.array, weight: mx.array, eps: float, rotation: "Rotation"
) -> mx.array:
    """What `rotate_heads` does with queries: [B, H, L, D]."""
    form = _Form(eps, rotation, with_queries=True, with_keys=False)
    return form.run(queries, weight)[0]


@dataclass(frozen=True)
class _Form:
    """One use of the kernel: on queries, or keys and values, or both; then weights."""

    eps: float
    rotation: "Rotation"
    with_queries: bool
    with_keys: bool

    def run(self, *arrays: mx.array) -> list[mx.array]:
        if not _fits(arrays) or self.rotation.position.size > 1:
            return self.plain(*arrays)
        return differentiable(self.kernel, self.twin)(*arrays)

    def plain(self, *arrays: mx.array) -> list[mx.array]:
        made, rest = [], list(arrays)
        k_weight = rest.pop() if self.with_keys else None
        q_weight = rest.pop() if self.with_queries else None
        if q_weight is not None:
            made.append(self._rotated(rest.pop(0), q_weight))
        if k_weight is not None:
            keys, values = rest
            normed = mx.fast.rms_norm(values, None, self.eps).transpose(0, 2, 1, 3)
            made += [self._rotated(keys, k_weight), normed]
        return made

    def twin(self, *arrays: mx.array) -> list[mx.array]:
        made = self.plain(*arrays)
        if not self.with_keys:
            return made
        *made, keys, values = made
        return [*made, mx.concatenate([keys, values], axis=1)]

    def _rotated(self, x: mx.array, weight: mx.array) -> mx.array:
        normed = mx.fast.rms_norm(x, weight, self.eps)
        return self.rotation(normed.transpose(0, 2, 1, 3))

    def kernel(self, *arrays: mx.array) -> list[mx.array]:
        names = ["queries"] * self.with_queries + ["keys", "values"] * self.with_keys
        names += ["q_weight"] * self.with_queries + ["k_weight"] * self.with_keys
        inputs = dict(zip(names, arrays, strict=True))
        B, L, _, D = arrays[0].shape
        outputs, heads = {}, 0
        if self.with_queries:
            heads += (H := inputs["queries"].shape[2])
            outputs["rotated"] = ((B, H, L, D), arrays[0].dtype)
        if self.with_keys:
            heads += 2 * (H := inputs["keys"].shape[2])
            outputs["kv"] = ((B, 2 * H, L, D), arrays[0].dtype)
        inputs["periods"] = self.rotation.periods
        inputs["position"] = self.rotation.position
        threads = 32 * -(-D // 64)
        words = ["QUERIES"] * self.with_queries + ["KEYS"] * self.with_keys
        return launch(
            "heads",
            inputs | {"numbers": constants(self.eps)},
            outputs,
            grid=(threads, heads, B * L),
            threadgroup=(threads, 1, 1),
            template=[("T", arrays[0].dtype), ("D", D)],
            defines=" ".join(words),
            header=("rotate",),
        )


def _fits(arrays: Sequence[mx.array]) -> bool:
    B, L, _, D = arrays[0].shape
    return (
        enabled("heads", f"{D}d")
        and arrays[0].dtype in DTYPES
        and all(x.dtype == arrays[0].dtype and x.shape[-1] == D for x in arrays)
        and 0 < B * L <= MOST_ROWS
        and LEAST_DIM <= D <= MOST_DIM
        and D % 8 == 0
    )
