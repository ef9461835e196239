"""Keys and values of full layers in 8 bits, from a position on.

What lies below START stays as it was computed, for ever: the first tokens, which most
queries look back to, and all of a short chat. What comes behind is packed as it is
appended, each position for itself, in groups along the head. So what is held depends on
the tokens alone, and never on how they were read, taken back or returned to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import mlx.core as mx

from ..config import TextConfig
from ..errors import ChatError
from .buffers import Held, rounded_up
from .seen import NewKeysValues, Seen

START = 1024
GROUPS = (64, 32)  # elements of a head that share a scale: the first that divides it
BITS = 8
FEWER = (
    "Fewer bits are not offered: 4 put attention 25 % off, 8 put it 2 % off "
    "(benchmarks/kv_bits.py)."
)

# Words uint32 [..., D * bits / 32], scales and biases [..., D / group].
Packed = tuple[mx.array, mx.array, mx.array]


def check_bits(kv_bits: int | None) -> None:
    """Raises ChatError for a number of bits that no model keeps full layers in."""
    if kv_bits not in (None, BITS):
        raise ChatError(
            f"kv_bits is {kv_bits!r}; it must be {BITS}, or be left out. {FEWER}"
        )


def check_kv_bits(kv_bits: int | None, config: TextConfig) -> None:
    """The same for this model."""
    check_bits(kv_bits)
    if kv_bits is None:
        return
    kinds = range(config.first_kv_shared_layer)
    dims = {config.layer_head_dim(i) for i in kinds if not config.is_sliding(i)}
    if any(dim % GROUPS[-1] for dim in dims):
        raise ChatError(
            f"kv_bits needs heads of a multiple of {GROUPS[-1]} elements; this model's "
            f"have {max(dims)}. Leave it out."
        )


def group_of(head_dim: int) -> int:
    """How many elements of a head share a scale."""
    return next(group for group in GROUPS if head_dim % group == 0)


class PackedSeen(Seen):
    """A beginning as it was computed, and `count` positions behind it that are packed.

    tail: the buffers of words, scales and biases, each [B, 2H, slots, …].
    """

    def __init__(
        self, parts: NewKeysValues, end: int, tail: Packed, count: int, bits: int
    ):
        super().__init__(parts, 0, end)
        self.tail, self.count, self.bits = tail, count, bits
        self.group = parts[0].shape[3] // tail[1].shape[3]

    @cached_property
    def head(self) -> tuple[mx.array, mx.array]:
        """Keys and values of the beginning in float32, [B, H, end, D] both."""
        keys, values = (x[:, :, : self.end] for x in self._halves(self.parts[0]))
        return keys.astype(mx.float32), values.astype(mx.float32)

    def packed(self, count: int) -> tuple[Packed, Packed]:
        """Keys and values of the first `count` of those behind."""
        (a, b), (c, d), (e, f) = (
            [x[:, :, :count] for x in self._halves(array)] for array in self.tail
        )
        return (a, c, e), (b, d, f)

    @property
    def keys(self) -> mx.array:
        """Of all, [B, H, end + count, D], like the values: what they are taken for."""
        return self._unpacked(0)

    @property
    def values(self) -> mx.array:
        return self._unpacked(1)

    def _halves(self, array: mx.array) -> tuple[mx.array, mx.array]:
        return array[:, : self.heads], array[:, self.heads :]

    def _unpacked(self, half: int) -> mx.array:
        head = self._halves(self.parts[0])[half][:, :, : self.end]
        words, scales, biases = self.packed(self.count)[half]
        tail = mx.dequantize(words, scales, biases, self.group, self.bits)
        return mx.concatenate([head, tail.astype(head.dtype)], axis=2)


@dataclass(frozen=True)
class PackedHeld(Held):
    """What a full layer holds: up to `start` in `buffer`, the rest in `tail`, as the
    buffers of PackedSeen are."""

    bits: int = BITS
    start: int = START
    tail: tuple[mx.array, ...] = ()

    @property
    def arrays(self) -> tuple[mx.array, ...]:
        return (*super().arrays, *self.tail)

    @property
    def _head(self) -> Held:
        return Held(self.buffer, 0, min(self.offset, self.start))

    def _tails(self) -> list[Held]:
        end = max(self.offset, self.start)
        return [Held(buffer, self.start, end) for buffer in self.tail or (None,) * 3]

    def with_more(
        self, new: NewKeysValues, most: int | None, least: int = 0
    ) -> "PackedHeld":
        head, tail, L = self._head, self.tail, new[0].shape[2]
        room = min(L, self.start - head.offset)
        if room:
            whole = [x[:, :, :room] for x in new]
            head = head.with_more(whole, self.start, min(least, self.start))
        if L > room:
            group = group_of(new[0].shape[3])
            parts = [mx.quantize(x[:, :, room:], group, self.bits) for x in new]
            kinds = zip(self._tails(), zip(*parts, strict=True), strict=True)
            behind = least - self.start
            grown = [held.with_more(kind, None, behind).buffer for held, kind in kinds]
            tail = tuple(buffer for buffer in grown if buffer is not None)
        return replace(self, buffer=head.buffer, offset=self.offset + L, tail=tail)

    def stored(self) -> list[mx.array]:
        behind = self._tails() if self.offset > self.start else []
        return [array for held in (self._head, *behind) for array in held.stored()]

    def layout(self, count: int, head_dim: int) -> list[tuple[int, int]]:
        head = [(min(count, self.start), head_dim)]
        if count <= self.start:
            return head
        scales = head_dim // group_of(head_dim)
        widths = (head_dim * self.bits // 32, scales, scales)
        return head + [(count - self.start, width) for width in widths]

    def of(self, arrays: Sequence[mx.array], offset: int) -> "PackedHeld":
        head, *tail = arrays
        return replace(self, buffer=head, offset=offset, tail=tuple(tail))

    def copied(self) -> "PackedHeld":
        tail: tuple[mx.array, ...] = ()
        if self.offset > self.start:
            count = self.offset - self.start
            slots = rounded_up(count)
            copies = [held.last(count, slots).buffer for held in self._tails()]
            tail = tuple(buffer for buffer in copies if buffer is not None)
        return replace(self, buffer=self._head.copied().buffer, tail=tail)

    def seen(self, start: int = 0) -> Seen:
        assert start <= 0 and self.buffer is not None  # full layers see all
        if self.offset <= self.start:
            return super().seen()
        words, scales, biases = self.tail
        tail, count = (words, scales, biases), self.offset - self.start
        return PackedSeen((self.buffer,), self.start, tail, count, self.bits)
