"""Queries, keys and values for the tests of attention, and what comes of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from checks import close, exact, random

from mlx_gemma4.cache import Seen
from mlx_gemma4.config import RopeParameters
from mlx_gemma4.kernels import EVERYTHING, attention
from mlx_gemma4.rope import Rotation, rope_periods, rotation_at
from mlx_gemma4.text.masks import Mask, band
from mlx_gemma4.text.scores import attend

EPS = 1e-6
SLIDING = RopeParameters("default", 10_000.0)

Arrays = tuple[mx.array, mx.array, mx.array]


@dataclass(frozen=True)
class Case:
    """Queries behind what a cache holds, keys and values as views into its buffers."""

    rows: int = 1
    keys: int = 5
    heads: int = 4
    kv_heads: int = 2
    dim: int = 24
    window: int | None = None
    batch: int = 1
    dtype: mx.Dtype = mx.bfloat16

    @property
    def mask(self) -> Mask:
        if self.window is not None:
            return band(self.rows, self.keys, self.window)
        return None if self.rows == 1 else "causal"

    def arrays(self) -> Arrays:
        """Scores have a spread of one, so that several keys count."""
        shape = (self.batch, self.rows, self.heads, self.dim)
        queries = (random(1, shape, self.dtype) * self.dim**-0.5).astype(self.dtype)
        shape = (self.batch, self.kv_heads, self.keys + 7, self.dim)
        keys, values = (random(seed, shape, self.dtype) for seed in (2, 3))
        seen = slice(3, 3 + self.keys)
        return queries.transpose(0, 2, 1, 3), keys[:, :, seen], values[:, :, seen]

    @property
    def weight(self) -> mx.array:
        """Of the queries' norm; scores keep their spread."""
        noise = random(4, (self.dim,), self.dtype) / 4
        return ((noise + 1) * self.dim**-0.5).astype(self.dtype)

    @property
    def offset(self) -> int:
        """Far into a text, but in float32, whose angles would be the larger error."""
        return 7 if self.dtype == mx.float32 else 3000

    @property
    def rotation(self) -> Rotation:
        position = mx.array([self.offset], mx.int32)
        periods = rope_periods(self.dim, SLIDING)
        return rotation_at(periods, position, self.rows, mx.float32)


def turned(queries: np.ndarray, case: Case) -> np.ndarray:
    """Normed and rotated, [B, H, L, D]."""
    x = queries / np.sqrt((queries**2).mean(axis=-1, keepdims=True) + EPS)
    positions = case.offset + np.arange(case.rows)
    angles = positions[:, None] / exact(case.rotation.periods)
    first, second = np.split(x * exact(case.weight), 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    halves = [first * cos - second * sin, second * cos + first * sin]
    return np.concatenate(halves, axis=-1)


def expected(arrays: Arrays, window: int | None) -> np.ndarray:
    queries, keys, values = (exact(x) for x in arrays)
    return found(queries, keys, values, window)


def found(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, window: int | None
) -> np.ndarray:
    shared = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat(shared, axis=1), values.repeat(shared, axis=1)
    scores = queries @ keys.swapaxes(2, 3)
    L, S = scores.shape[2:]
    distance = np.arange(S - L, S)[:, None] - np.arange(S)
    seen = (distance >= 0) & (distance < (window or S))
    shares = np.where(seen, np.exp(scores), 0)
    return shares / shares.sum(axis=-1, keepdims=True) @ values


def attended(arrays: Arrays, mask: Mask) -> mx.array:
    """[B, H, L, D], like the queries. Keys and values lie within a buffer."""
    queries, *kv = arrays
    B, H, L, D = queries.shape
    return attend(queries, held(kv), mask).reshape(B, L, H, D).swapaxes(1, 2)


def held(kv: Sequence[mx.array]) -> Seen:
    """As a cache has it, between slots that are not seen."""
    joined = mx.concatenate(list(kv), axis=1)
    buffer = mx.pad(joined, [(0, 0), (0, 0), (3, 4), (0, 0)], constant_values=mx.nan)
    return Seen((buffer,), 3, 3 + joined.shape[2])


def compare(case: Case) -> None:
    """Queries that are ready."""
    arrays = case.arrays()
    close(attended(arrays, case.mask), expected(arrays, case.window))


def refuse_plain(*_: mx.array) -> mx.array:
    raise AssertionError("the plain way was taken")


def compare_raw(case: Case) -> None:
    """Queries that were only projected."""
    queries, keys, values = case.arrays()
    ours = attention(
        queries.transpose(0, 2, 1, 3),
        case.weight,
        EPS,
        case.rotation,
        keys,
        values,
        case.window or EVERYTHING,
        refuse_plain,
    )
    ready = turned(exact(queries), case)
    seen = found(ready, exact(keys), exact(values), case.window)
    close(ours, seen.swapaxes(1, 2).reshape(ours.shape))
