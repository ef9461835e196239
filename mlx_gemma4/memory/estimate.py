"""What a context takes, part by part, and how much of one fits."""

from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from ..config import TextConfig
from ..reading.sizes import size
from .held import growing_bytes, kv_bytes, pin_bytes
from .media import MediaBytes
from .reading import Where, reading_bytes


@dataclass(frozen=True)
class Estimate:
    """Bytes of a model and a conversation of `context` tokens.

    kv: keys and values, and what turns keep to return to. reading: what is needed
        beside them for a moment, at most. media: pixels and sound that wait.
    """

    context: int
    weights: int
    kv: int
    reading: int
    media: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.reading + self.media

    def __str__(self) -> str:
        media = f", media {size(self.media)}" if self.media else ""
        return (
            f"{size(self.total)} (weights {size(self.weights)}, {self.context:,} "
            f"tokens of context {size(self.kv)}, reading {size(self.reading)}{media})"
        )


@dataclass(frozen=True)
class Demand:
    """What takes memory, but for how many tokens there are.

    weights: bytes of the model and of what is loaded beside it. dtype: of its keys and
    values; kv_bits: as `make_cache` takes it. step: tokens that are read at once. pins:
    positions that turns return to. media: what is seen and heard.
    """

    config: TextConfig
    weights: int
    dtype: mx.Dtype
    step: int
    pins: int = 0
    kv_bits: int | None = None
    media: MediaBytes = MediaBytes()

    def at(self, context: int) -> Estimate:
        """With `context` tokens, be they read or written."""
        config, dtype, bits = self.config, self.dtype, self.kv_bits
        kv = kv_bytes(config, context, dtype, bits)
        kv += self.pins * pin_bytes(config, context, dtype)
        # A part of the prompt goes on to the end of a medium.
        rows, where = min(self.step + self.media.longest - 1, context), Where.here()
        reading = reading_bytes(config, rows, context, dtype, where, bits)
        # Buffers have room for a prompt before it is read; they grow before a step.
        growing = growing_bytes(config, context, dtype, bits)
        reading = max(reading, growing, self.media.working)
        return Estimate(context, self.weights, kv, reading, self.media.held)

    def most(self, limit: int, wanted: int) -> int:
        """How many of `wanted` tokens fit in `limit` bytes."""
        low, high = 0, wanted
        fits = partial(self._fits, limit)
        if fits(high):  # mostly
            return high
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _fits(self, limit: int, context: int) -> bool:
        return self.at(context).total <= limit
