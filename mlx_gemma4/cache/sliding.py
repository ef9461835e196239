"""The cache of a sliding layer."""

from collections.abc import Sequence

import mlx.core as mx

from . import buffers
from .buffers import Held
from .layer import LayerBuffers, LayerSnapshot
from .seen import NewKeysValues, Seen

SLACK = 128  # tokens that can be taken back from sliding layers


class SlidingCache(LayerBuffers):
    """What a sliding layer still needs: one window and some slack."""

    def __init__(self, window: int, slack: int = SLACK):
        super().__init__()
        self.seen = window - 1  # earlier positions that the next query sees
        self.kept = self.seen + slack
        self.capacity = self.kept + buffers.STEP

    def append(self, new: NewKeysValues) -> Seen:
        """Append `new`; return the new positions behind one window."""
        held, L = self._held, new[0].shape[2]
        visible = held.count - self.seen
        if min(held.count, self.kept) + L > self.capacity:  # attention gets all
            whole = Held(held.joined(new), held.first, held.offset + L)
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

    def stored(self) -> list[mx.array]:
        """Of what it holds, what can be gone back to."""
        return [array[:, :, -self.kept :] for array in super().stored()]

    def may_hold(self, count: int, offset: int) -> bool:
        return count == offset or self.seen <= count <= min(self.kept, offset)

    def reach(self, count: int, offset: int) -> int:
        first = offset - count
        return first + self.seen if first else 0

    def snapshot(self) -> LayerSnapshot:
        return self._pinned(
            self._held.last(self.kept, min(self._held.count, self.kept))
        )

    def snapshot_of(self, arrays: Sequence[mx.array], offset: int) -> LayerSnapshot:
        """One that was `stored` after `offset` tokens; see `put_back`."""
        other = SlidingCache(self.seen + 1, self.kept - self.seen)
        other.put_back(arrays, offset)
        return self._pinned(other._held)

    def _pinned(self, held: Held) -> LayerSnapshot:
        return LayerSnapshot(held, self.reach(held.count, held.offset))

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
