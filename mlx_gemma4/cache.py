"""Keys and values of what was read, with exact rollback.

The contract is exactness: after any appends, rollbacks and restores, the next logits
equal those of a fresh prefill. What cannot be exact raises CacheError and changes
nothing.

- Full layers keep everything; going back only moves the end.
- Sliding layers keep what the next query can see, `window - 1` positions, and `slack`
  more, so that the last `slack` tokens can always be taken back. Positions lie in
  order, so attention reads plain slices and needs no mask to decode.
- A snapshot pins a turn boundary: its sliding part is a copy of window and slack, its
  full part just a length, valid until a rollback goes below it.

The layer caches keep the method names of mlx-lm's caches, so its generation loop and
evaluators run on them.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Never

import mlx.core as mx

from .config import TextConfig
from .errors import CacheError

STEP = 256  # slots by which buffers grow
SLACK = 128  # tokens that can be taken back from sliding layers


@dataclass(eq=False)
class LayerSnapshot:
    """A layer's state at `offset`: a copy of what it keeps, or a mere length.

    `reach` is the lowest position that can be gone back to from it.
    """

    offset: int
    reach: int = 0
    keys: mx.array | None = None
    values: mx.array | None = None
    valid: bool = True

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.keys, self.values) if x is not None)


class _Buffers:
    """What both kinds share: keys and values [B, H, S, D] up to position `offset`."""

    def __init__(self) -> None:
        self.offset = 0
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

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
        self.offset -= n
        return n

    def is_trimmable(self) -> bool:
        return True

    def empty(self) -> bool:
        return self.keys is None

    @property
    def state(self) -> tuple[mx.array, ...]:
        """The arrays to evaluate after a prefill."""
        return tuple(x for x in (self.keys, self.values) if x is not None)

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

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Append [B, H, L, D]; return everything up to the new end."""
        start, end = self.offset, self.offset + keys.shape[2]
        slots = -(-end // STEP) * STEP
        self.keys = _appended(self.keys, keys, start, slots)
        self.values = _appended(self.values, values, start, slots)
        self.offset = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def trim(self, n: int) -> int:
        n = super().trim(n)
        for snapshot in filter(None, (ref() for ref in self._snapshots)):
            snapshot.valid = snapshot.valid and snapshot.offset <= self.offset
        return n

    def snapshot(self) -> LayerSnapshot:
        snapshot = LayerSnapshot(self.offset)
        living = [ref for ref in self._snapshots if ref() is not None]
        self._snapshots = [*living, weakref.ref(snapshot)]
        return snapshot

    def can_restore(self, snapshot: LayerSnapshot) -> bool:
        ours = any(ref() is snapshot for ref in self._snapshots)
        return ours and snapshot.valid and snapshot.offset <= self.offset

    def restore(self, snapshot: LayerSnapshot) -> None:
        self.trim(self.offset - snapshot.offset)


class SlidingCache(_Buffers):
    """What a sliding layer still needs: one window and some slack."""

    def __init__(self, window: int, slack: int = SLACK):
        super().__init__()
        self.first = 0  # position of slot 0
        self.seen = window - 1  # earlier positions that the next query sees
        self.kept = self.seen + slack
        self.capacity = self.kept + STEP

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Append [B, H, L, D]; return the new positions behind one window."""
        L = keys.shape[2]
        if self.keys is None or self.values is None:
            self.keys, self.values = keys[:, :, :0], values[:, :, :0]
        if self._held + L > self.capacity:
            self._drop(self._held - min(self._held, self.kept))
        if self._held + L > self.capacity:
            return self._pass_through(keys, values)
        start, end = self._held, self._held + L
        slots = min(-(-end // STEP) * STEP, self.capacity)
        self.keys = _appended(self.keys, keys, start, slots)
        self.values = _appended(self.values, values, start, slots)
        self.offset += L
        visible = max(0, start - self.seen)
        return self.keys[:, :, visible:end], self.values[:, :, visible:end]

    def _drop(self, n: int) -> None:
        """Forget the `n` oldest slots."""
        assert self.keys is not None and self.values is not None
        end = self._held
        self.keys = _copy(self.keys[:, :, n:end], self.capacity)
        self.values = _copy(self.values[:, :, n:end], self.capacity)
        self.first += n

    def _pass_through(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Append more than the buffer holds: attention gets all, the end is kept."""
        assert self.keys is not None and self.values is not None
        held = self._held
        keys = mx.concatenate([self.keys[:, :, :held], keys], axis=2)
        values = mx.concatenate([self.values[:, :, :held], values], axis=2)
        total = keys.shape[2]
        self.keys = _copy(keys[:, :, -self.kept :], self.capacity)
        self.values = _copy(values[:, :, -self.kept :], self.capacity)
        self.offset = self.first + total
        self.first = self.offset - min(total, self.kept)
        visible = max(0, held - self.seen)
        return keys[:, :, visible:], values[:, :, visible:]

    @property
    def _held(self) -> int:
        return self.offset - self.first

    @property
    def most_rollback(self) -> int:
        """How many tokens can be taken back exactly."""
        return self._held if self.first == 0 else max(0, self._held - self.seen)

    def snapshot(self) -> LayerSnapshot:
        held = min(self._held, self.kept)
        first, end = self.offset - held, self._held
        reach = first + self.seen if first else 0
        if self.keys is None or self.values is None:
            return LayerSnapshot(self.offset, reach)
        keys = _copy(self.keys[:, :, end - held : end], held)
        values = _copy(self.values[:, :, end - held : end], held)
        return LayerSnapshot(self.offset, reach, keys, values)

    def can_restore(self, snapshot: LayerSnapshot) -> bool:
        return True

    def restore(self, snapshot: LayerSnapshot) -> None:
        self.offset = self.first = snapshot.offset
        self.keys = self.values = None
        if snapshot.keys is not None and snapshot.values is not None:
            # A copy: what follows must not be written into the snapshot.
            self.keys = _copy(snapshot.keys, self.capacity)
            self.values = _copy(snapshot.values, self.capacity)
            self.first -= snapshot.keys.shape[2]


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
    mx.eval([(part.keys, part.values) for part in pinned])
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


def _check_rollback(n: int, most: int) -> None:
    if not 0 <= n <= most:
        raise CacheError(
            f"Cannot take back {n} tokens exactly, only 0 to {most}: the sliding "
            "layers have let go of what lies before. Restore a snapshot instead."
        )


def _appended(buffer: mx.array | None, x: mx.array, used: int, slots: int) -> mx.array:
    """`buffer` with `x` behind its first `used` slots; in place if it has `slots`."""
    B, H, L, D = x.shape
    if buffer is None or (used == 0 and buffer.shape[2] < slots):
        buffer = mx.zeros((B, H, slots, D), x.dtype)
    elif buffer.shape[2] < slots:
        buffer = _copy(buffer[:, :, :used], slots)
    buffer[:, :, used : used + L] = x
    return buffer


def _copy(x: mx.array, slots: int) -> mx.array:
    """`x` at the front of a buffer of its own, so that it keeps no larger one alive."""
    B, H, used, D = x.shape
    fresh = mx.zeros((B, H, slots, D), x.dtype)
    fresh[:, :, :used] = x
    return fresh
