"""Queries, keys and values for the tests of attention, and what comes of them."""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from checks import close, exact, random

from mlx_gemma4.text.masks import Mask, attend, band

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
        queries = random(1, shape, self.dtype) * self.dim**-0.5
        shape = (self.batch, self.kv_heads, self.keys + 7, self.dim)
        keys, values = (random(seed, shape, self.dtype) for seed in (2, 3))
        seen = slice(3, 3 + self.keys)
        return queries.transpose(0, 2, 1, 3), keys[:, :, seen], values[:, :, seen]


def expected(arrays: Arrays, window: int | None) -> np.ndarray:
    queries, keys, values = (exact(x) for x in arrays)
    shared = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat(shared, axis=1), values.repeat(shared, axis=1)
    scores = queries @ keys.swapaxes(2, 3)
    L, S = scores.shape[2:]
    distance = np.arange(S - L, S)[:, None] - np.arange(S)
    seen = (distance >= 0) & (distance < (window or S))
    shares = np.where(seen, np.exp(scores), 0)
    return shares / shares.sum(axis=-1, keepdims=True) @ values


def compare(case: Case) -> None:
    arrays = case.arrays()
    close(attend(*arrays, case.mask), expected(arrays, case.window))
