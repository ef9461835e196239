"""Keys and values of what was read, with exact rollback.

The contract is exactness: after any appends, rollbacks and restores, the next logits
equal those of a fresh prefill. What cannot be exact raises CacheError and changes
nothing.

- Full layers keep everything; going back only moves the end.
- Keys and values of a layer lie in one buffer, keys first, so that one write is enough
  where a kernel makes both.
- Sliding layers keep what the next query can see, `window - 1` positions, and `slack`
  more, so that the last `slack` tokens can always be taken back. Positions lie in
  order, so attention reads plain slices and needs no mask to decode.
- A snapshot pins a turn boundary: its sliding part is a copy of window and slack, its
  full part just a length, valid until a rollback goes below it.

The layer caches keep the method names of mlx-lm's caches, so its generation loop and
evaluators run on them.
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Never

import mlx.core as mx

from .config import TextConfig
from .errors import CacheError

STEP = 256  # slots by which buffers grow
SLACK = 128  # tokens that can be taken back from sliding layers

# Arrays [B, heads, L, D] whose heads in a row are those of the keys and of the values:
# one of each, or both in one.
NewKeysValues = Sequence[mx.array]


class Seen:
    """The keys and values that a layer may see: those from slot `start` to `end`.

    Made for each layer and token: what it holds is worked out when it is asked for.
    cut: what attention made of them for a mask, kept for layers that share them.
    """

    def __init__(self, parts: NewKeysValues, start: int, end: int):
        self.parts, self.start, self.end = parts, start, end
        self.heads = sum([part.shape[1] for part in parts]) // 2
        self.cut: dict[object, Any] = {}
        self._keys: mx.array | None = None
        self._values: mx.array | None = None

    @classmethod
    def all_of(cls, new: NewKeysValues) -> "Seen":
        return cls(new, 0, new[0].shape[2])

    def last(self, count: int) -> "Seen":
        """The last `count` of them, if there are so many."""
        return Seen(self.parts, max(self.start, self.end - count), self.end)

    @property
    def buffer(self) -> mx.array:
        """[B, 2H, slots, D]; the first H heads are the keys'."""
        one = len(self.parts) == 1
        return self.parts[0] if one else mx.concatenate(list(self.parts), axis=1)

    @property
    def keys(self) -> mx.array:
        """[B, H, end - start, D], like the values."""
        if self._keys is None:
            self._keys = self.parts[0][:, : self.heads, self.start : self.end]
        return self._keys

    @property
    def values(self) -> mx.array:
        if self._values is None:
            self._values = self.parts[-1][:, -self.heads :, self.start : self.end]
        return self._values


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

    def with_more(self, new: NewKeysValues, most: int | None) -> "Held":
        """With `new` behind it, in a buffer of at most `most` slots."""
        used, L = self.count, new[0].shape[2]
        slots = -(-(used + L) // STEP) * STEP
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

    def seen(self, start: int = 0) -> Seen:
        """From slot `start` on, or from the first."""
        assert self.buffer is not None
        return Seen((self.buffer,), max(0, start), self.count)


@dataclass(eq=False)
class LayerSnapshot:
    """A layer's state at a position: a copy of what it keeps, or a mere length.

    `reach` is the lowest position that can be gone back to from it.
    """

    held: Held
    reach: int = 0
    valid: bool = True

    @property
    def nbytes(self) -> int:
        return 0 if self.held.buffer is None else self.held.buffer.nbytes


class _Buffers(ABC):
    """What both kinds of cache share."""

    def __init__(self) -> None:
        self._held = Held()

    @abstractmethod
    def append(self, new: NewKeysValues) -> Seen:
        """Append `new`; return what the layer may see of it and before it."""

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        """The same of [B, H, L, D] both; mlx-lm's name for it."""
        seen = self.append((keys, values))
        return seen.keys, seen.values

    @property
    def offset(self) -> int:
        """How many tokens were read: the position of the next."""
        return self._held.offset

    @property
    def most_rollback(self) -> int:
        """How many tokens can be taken back exactly."""
        return self.offset

    def trim(self, n: int) -> int:
        """Take back the last `n` tokens or all there are; returns how many.

        Raises CacheError when that is not exact.
        """
        n = min(n, self.offset)
        _check_rollback(n, self.most_rollback)
        self._held = replace(self._held, offset=self.offset - n)
        return n

    def is_trimmable(self) -> bool:
        return True

    def newest(self, count: int | None = None) -> Seen:
        """What is held, or the last `count` positions of it if there are so many; none
        may be empty."""
        held = self._held
        return held.seen() if count is None else held.seen(held.count - count)

    def empty(self) -> bool:
        return self._held.buffer is None

    @property
    def state(self) -> tuple[mx.array, ...]:
        """The arrays to evaluate after a prefill."""
        return () if self._held.buffer is None else (self._held.buffer,)

    @property
    def meta_state(self) -> Never:
        raise CacheError("These caches cannot be saved to a file.")

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.state)


class FullCache(_Buffers):
    """Everything a full layer has read."""

    def __init__(self) -> None:
        super().__init__()
        self._snapshots: list[weakref.ref[LayerSnapshot]] = []

    def append(self, new: NewKeysValues) -> Seen:
        """Append `new`; return everything up to the new end."""
        self._held = self._held.with_more(new, None)
        return self._held.seen()

    def trim(self, n: int) -> int:
        end = self.offset - min(n, self.offset)
        # First: Ctrl-C must not leave one that holds although its end was taken back.
        for snapshot in filter(None, (ref() for ref in self._snapshots)):
            snapshot.valid = snapshot.valid and snapshot.held.offset <= end
        return super().trim(n)

    def snapshot(self) -> LayerSnapshot:
        snapshot = LayerSnapshot(Held(offset=self.offset))
        living = [ref for ref in self._snapshots if ref() is not None]
        self._snapshots = [*living, weakref.ref(snapshot)]
        return snapshot

    def can_restore(self, snapshot: LayerSnapshot) -> bool:
        ours = any(ref() is snapshot for ref in self._snapshots)
        return ours and snapshot.valid and snapshot.held.offset <= self.offset

    def restore(self, snapshot: LayerSnapshot) -> None:
        self.trim(self.offset - snapshot.held.offset)

    def copied(self, snapshot: LayerSnapshot | None) -> "FullCache":
        """Another one, as this one is, or was at a snapshot."""
        end, other = snapshot.held.offset if snapshot else self.offset, FullCache()
        slots = -(-end // STEP) * STEP
        other._held = replace(self._held, offset=end).last(end, slots)
        return other


class SlidingCache(_Buffers):
    """What a sliding layer still needs: one window and some slack."""

    def __init__(self, window: int, slack: int = SLACK):
        super().__init__()
        self.seen = window - 1  # earlier positions that the next query sees
        self.kept = self.seen + slack
        self.capacity = self.kept + STEP

    def append(self, new: NewKeysValues) -> Seen:
        """Append `new`; return the new positions behind one window."""
        held, L = self._held, new[0].shape[2]
        visible = held.count - self.seen
        if min(held.count, self.kept) + L > self.capacity:  # attention gets all
            whole = Held(_joined(held, new), held.first, held.offset + L)
            self._held = whole.last(self.kept, self.capacity)
            return whole.seen(visible)
        if held.count + L > self.capacity:
            held = held.last(self.kept, self.capacity)
        self._held = held.with_more(new, self.capacity)
        return self._held.seen(held.count - self.seen)

    @property
    def most_rollback(self) -> int:
        """How many tokens can be taken back exactly."""
        held = self._held
        return held.count if held.first == 0 else max(0, held.count - self.seen)

    def snapshot(self) -> LayerSnapshot:
        held = self._held.last(self.kept, min(self._held.count, self.kept))
        return LayerSnapshot(held, held.first + self.seen if held.first else 0)

    def can_restore(self, snapshot: LayerSnapshot) -> bool:
        return True

    def restore(self, snapshot: LayerSnapshot) -> None:
        # A copy: what follows must not be written into the snapshot.
        self._held = snapshot.held.last(self.kept, self.capacity)

    def copied(self, snapshot: LayerSnapshot | None) -> "SlidingCache":
        """Another one, as this one is, or was at a snapshot."""
        other = SlidingCache(self.seen + 1, self.kept - self.seen)
        held = snapshot.held if snapshot else self._held
        other._held = held.last(held.count, self.capacity)
        return other


LayerCache = FullCache | SlidingCache
Snapshot = tuple[LayerSnapshot, ...]


def make_cache(config: TextConfig, slack: int = SLACK) -> list[LayerCache]:
    """One cache per layer with keys and values of its own (KV-shared ones need none).

    slack: how many tokens can always be taken back.
    """
    return [
        SlidingCache(config.sliding_window, slack)
        if config.is_sliding(layer)
        else FullCache()
        for layer in range(config.first_kv_shared_layer)
    ]


def most_rollback(cache: Sequence[LayerCache]) -> int:
    """How many tokens `rollback` can take back from all layers exactly."""
    return min(layer.most_rollback for layer in cache)


def rollback(cache: Sequence[LayerCache], n: int) -> None:
    """Take back the last `n` tokens. Raises CacheError, changing nothing, if it
    cannot be exact."""
    _check_rollback(n, most_rollback(cache))
    for layer in cache:
        layer.trim(n)


def snapshot(cache: Sequence[LayerCache]) -> Snapshot:
    """Pin the present position, to be returned to by `restore`."""
    pinned = tuple(layer.snapshot() for layer in cache)
    # Now: an unevaluated copy would keep the whole buffer it is taken from.
    mx.eval([part.held.buffer for part in pinned if part.held.buffer is not None])
    return pinned


def snapshot_reach(pinned: Snapshot) -> int:
    """The lowest position that `rollback` reaches once `pinned` is restored."""
    return max(part.reach for part in pinned)


def restore(cache: Sequence[LayerCache], pinned: Snapshot) -> None:
    """Return to a snapshot of this cache. Raises CacheError, changing nothing, if it is
    another's or was overtaken by a rollback to before it."""
    if not all(
        layer.can_restore(part) for layer, part in zip(cache, pinned, strict=True)
    ):
        raise CacheError(
            "This snapshot is another cache's, or was rolled back past. "
            "Read the conversation again from the start."
        )
    for layer, part in zip(cache, pinned, strict=True):
        layer.restore(part)


def copied(cache: Sequence[LayerCache], pinned: Snapshot | None) -> list[LayerCache]:
    """Another cache that holds what this one does, or did at a snapshot of it; from now
    on each goes its own way."""
    states = pinned or [None] * len(cache)
    both = zip(cache, states, strict=True)
    made: list[LayerCache] = [layer.copied(state) for layer, state in both]
    mx.eval([array for layer in made for array in layer.state])
    return made


def _check_rollback(n: int, most: int) -> None:
    if not 0 <= n <= most:
        raise CacheError(
            f"Cannot take back {n} tokens exactly, only 0 to {most}: the sliding "
            "layers have let go of what lies before. Restore a snapshot instead."
        )


def _with_room(
    buffer: mx.array | None, new: NewKeysValues, used: int, slots: int
) -> mx.array:
    """`buffer`, or one of `slots` slots that begins with its first `used`."""
    if buffer is not None and buffer.shape[2] >= slots:
        return buffer
    if buffer is not None and used:
        return _copy(buffer[:, :, :used], slots)
    B, _, _, D = new[0].shape
    return mx.zeros((B, sum(x.shape[1] for x in new), slots, D), new[0].dtype)


def _joined(held: Held, new: NewKeysValues) -> mx.array:
    """What is held and, behind it, `new`."""
    joined = mx.concatenate(list(new), axis=1)
    if held.buffer is None:
        return joined
    return mx.concatenate([held.buffer[:, :, : held.count], joined], axis=2)


def _copy(x: mx.array, slots: int) -> mx.array:
    """`x` at the front of a buffer of its own, so that it keeps no larger one alive."""
    B, H, used, D = x.shape
    fresh = mx.zeros((B, H, slots, D), x.dtype)
    fresh[:, :, :used] = x
    return fresh
