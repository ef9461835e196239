"""Buffers of keys and values, which grow by steps and are replaced in one."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from .seen import NewKeysValues, Seen

STEP = 256  # slots by which buffers grow
LARGE = 2**25  # bytes from which on a copy is waited for


@dataclass(frozen=True)
class Held:
    """What a cache holds: keys and values in one buffer [B, 2H, slots, D], of slot i at
    the position `first + i`; what stands at `offset` and behind it does not count.

    A cache puts one of these in place of another in one step, so that Ctrl-C leaves it
    with the old one or the new one.
    """

    buffer: mx.array | None = None
    first: int = 0
    offset: int = 0

    @property
    def count(self) -> int:
        return self.offset - self.first

    @property
    def arrays(self) -> tuple[mx.array, ...]:
        return () if self.buffer is None else (self.buffer,)

    def with_more(self, new: NewKeysValues, most: int | None, least: int = 0) -> "Held":
        """With `new` behind it; a new buffer has at most `most` slots, and at least
        `least`."""
        used, L = self.count, new[0].shape[2]
        slots = rounded_up(max(used + L, least))
        slots = min(slots, most or slots)
        buffer = _with_room(self.buffer, new, used, slots)
        head = 0
        for x in new:
            buffer[:, head : head + x.shape[1], used : used + L] = x
            head += x.shape[1]
        return Held(buffer, self.first, self.offset + L)

    def last(self, count: int, slots: int) -> "Held":
        """The last `count` positions, if so many, in a buffer of their own."""
        if self.buffer is None:
            return self
        start = max(0, self.count - count)
        buffer = _copy(self.buffer[:, :, start : self.count], slots)
        return Held(buffer, self.first + start, self.offset)

    def copied(self) -> "Held":
        """The same in a buffer of its own, which may grow."""
        return self.last(self.count, rounded_up(self.count))

    def stored(self) -> list[mx.array]:
        """What counts of it, without a copy."""
        return [] if self.buffer is None else [self.buffer[:, :, : self.count]]

    def layout(self, count: int, head_dim: int) -> list[tuple[int, int]]:
        """Positions and elements of the arrays of `stored`, where it holds `count`."""
        return [(count, head_dim)]

    def of(self, arrays: Sequence[mx.array], offset: int) -> "Held":
        """One of its kind that holds what was `stored` after `offset` tokens."""
        (buffer,) = arrays
        return Held(buffer, offset - buffer.shape[2], offset)

    def seen(self, start: int = 0) -> Seen:
        """From slot `start` on, or from the first."""
        assert self.buffer is not None
        return Seen((self.buffer,), max(0, start), self.count)

    def joined(self, new: NewKeysValues) -> mx.array:
        """What is held and, behind it, `new`."""
        joined = mx.concatenate(list(new), axis=1)
        if self.buffer is None:
            return joined
        return mx.concatenate([self.buffer[:, :, : self.count], joined], axis=2)


def rounded_up(slots: int) -> int:
    return -(-slots // STEP) * STEP


def _with_room(
    buffer: mx.array | None, new: NewKeysValues, used: int, slots: int
) -> mx.array:
    """`buffer`, or one of `slots` slots that begins with its first `used`."""
    if buffer is not None and buffer.shape[2] >= slots:
        return buffer
    if buffer is not None and used:
        larger = _copy(buffer[:, :, :used], slots)
        if larger.nbytes >= LARGE:
            mx.eval(larger)  # or the layers' old buffers are all there beside the new
        return larger
    B, _, _, D = new[0].shape
    return mx.zeros((B, sum(x.shape[1] for x in new), slots, D), new[0].dtype)


def _copy(x: mx.array, slots: int) -> mx.array:
    """`x` at the front of a buffer of its own, so that it keeps no larger one alive."""
    B, H, used, D = x.shape
    fresh = mx.zeros((B, H, slots, D), x.dtype)
    fresh[:, :, :used] = x
    return fresh
