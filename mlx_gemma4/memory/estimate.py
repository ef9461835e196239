"""What a context takes, part by part, and how much of one fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from ..config import TextConfig
from ..reading.sizes import size
from .held import growing_bytes, kv_bytes, pin_bytes, pins_kept
from .media import MediaBytes
from .reading import Where, drawing_bytes, reading_bytes


@dataclass(frozen=True)
class Estimate:
    """Bytes of a model and a conversation of `context` tokens.

    kv: keys and values, and what turns keep to return to. reading: what is needed
        beside them for a moment, at most.
    step: of this, what each of several answers needs at once for its next token.
    largest: and what only one of them does.
    media: pixels and sound that wait.
    """

    context: int
    weights: int
    kv: int
    reading: int
    step: int
    largest: int
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
    positions that turns return to. media: what is seen and heard. shared: positions
    where others begin alike, each of which stays.
    """

    config: TextConfig
    weights: int
    dtype: mx.Dtype
    step: int
    pins: int = 0
    kv_bits: int | None = None
    media: MediaBytes = MediaBytes()
    shared: int = 0

    def at(self, context: int) -> Estimate:
        """With `context` tokens, be they read or written."""
        config, dtype, bits = self.config, self.dtype, self.kv_bits
        pinned = self.pins + self.shared
        pin = pin_bytes(config, context, dtype) if pinned else 0
        kv = kv_bytes(config, context, dtype, bits)
        kv += (pins_kept(pin, self.pins) + self.shared) * pin
        # A part of the prompt goes on to the end of a medium.
        rows, where = min(self.step + self.media.longest - 1, context), Where.here()
        reading = reading_bytes(config, rows, context, dtype, where, bits)
        # Buffers have room for a prompt before it is read; they grow before a step.
        small, largest = growing_bytes(config, context, dtype, bits)
        step = small + drawing_bytes(config)
        # A new pin is there before an old one is given up.
        most = max(reading, step + largest, pin, self.media.working)
        held = self.media.held
        return Estimate(context, self.weights, kv, most, step, largest, held)

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


def for_a_moment(answers: Sequence[Estimate]) -> int:
    """What several answers need for a moment, at most: one of them reads while the
    others wait, or all of them take a step."""
    reading = max((each.reading for each in answers), default=0)
    step = sum(each.step for each in answers)
    return max(reading, step + max((each.largest for each in answers), default=0))
