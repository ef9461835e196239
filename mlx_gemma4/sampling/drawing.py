"""Tokens drawn from logits: temperature, top-k, top-p and min-p.

Each filter works on what the one before it left, as in the reference.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import cast

import mlx.core as mx

from .settings import Sampling

SORTED = 2048  # numbers that MLX sorts in one launch
BLOCK = 8  # tokens whose noise is made at once


class Noise:
    """Gumbel noise of width `width` for each token of an answer: it depends on the seed
    and on the token's number alone, and is made for `BLOCK` tokens at once."""

    def __init__(self, seed: int, width: int):
        # Another than the seed's own: seeds that are neighbours must not share noise.
        key = mx.random.split(mx.random.key(seed))[0]
        self._first, self._second = cast(list[int], key.tolist())
        self._width = width
        self._blocks: dict[int, mx.array] = {}

    def rows(self, number: int, count: int) -> mx.array:
        """Of token `number` and those behind it: float32 [count, width]."""
        first, last = number // BLOCK, (number + count - 1) // BLOCK
        self._blocks = {b: self._block(b) for b in range(first, last + 1)}
        blocks = [*self._blocks.values()]
        noise = blocks[0] if first == last else mx.concatenate(blocks)
        start = number - first * BLOCK
        return noise[start : start + count]

    def _block(self, number: int) -> mx.array:
        if (made := self._blocks.get(number)) is not None:
            return made
        key = mx.array([self._first, (self._second + number) % 2**32], mx.uint32)
        return mx.random.gumbel((BLOCK, self._width), key=key)


@lru_cache(maxsize=16)
def drawing_with(sampling: Sampling) -> Callable[..., mx.array]:
    """`draw` with these settings, as few launches as can be where there is a GPU."""
    drawing = partial(draw, sampling=sampling)
    return mx.compile(drawing) if mx.metal.is_available() else drawing


def draw(logits: mx.array, noise: mx.array, sampling: Sampling) -> mx.array:
    """Draw from `logits` [n, vocab] with all filters applied: int `[n, 1]`.

    noise: Gumbel's, [n, as many as top-k keeps]: the largest sum is drawn.
    """
    k = noise.shape[-1]
    if k == logits.shape[-1] and sampling.top_p == 1 and sampling.min_p == 0:
        drawn = logits / sampling.temperature + noise
        return mx.argmax(drawn, axis=-1, keepdims=True)
    best = likeliest(logits, k)
    logits = mx.take_along_axis(logits, best, axis=-1) / sampling.temperature
    drawn = filter_sorted(logits, sampling) + noise
    return mx.take_along_axis(best, mx.argmax(drawn, axis=-1, keepdims=True), -1)


def likeliest(logits: mx.array, k: int) -> mx.array:
    """Where the `k` largest of `logits` [rows, n] are, in falling order: [rows, k].

    The `k` largest lie in the `k` blocks whose largest are the largest, so that nothing
    long has to be sorted, which takes many launches.
    """
    size = logits.shape[-1]
    width = size // max(SORTED, 4 * k)
    if width < 2:
        return mx.argsort(-logits, axis=-1)[:, :k]
    count = size // width
    blocks = logits[:, : count * width].reshape(-1, count, width).max(axis=-1)
    blocks = mx.argpartition(blocks, kth=-k, axis=-1)[:, -k:]
    within = mx.arange(width, dtype=blocks.dtype)
    some = (blocks[..., None] * width + within).reshape(-1, k * width)
    if rest := size - count * width:  # shorter than a block
        behind = mx.arange(size - rest, size, dtype=some.dtype)
        behind = mx.broadcast_to(behind, (len(some), rest))
        some = mx.concatenate([some, behind], axis=-1)
    best = likeliest(mx.take_along_axis(logits, some, axis=-1), k)
    return mx.take_along_axis(some, best, axis=-1)


def filter_sorted(logits: mx.array, sampling: Sampling) -> mx.array:
    """Apply top-p and min-p to `logits` [n, k] in falling order; -inf = dropped.

    The likeliest meets both, and stays.
    """
    shares = mx.softmax(logits, axis=-1)
    before = mx.cumsum(shares, axis=-1) - shares
    keep = before < sampling.top_p
    keep = keep & (shares >= sampling.min_p * shares[:, :1])
    return mx.where(keep, logits, -mx.inf)
