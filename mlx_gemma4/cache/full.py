"""The cache of a full layer."""

import weakref
from dataclasses import replace

from . import packed
from .buffers import Held
from .layer import LayerBuffers, LayerSnapshot
from .packed import PackedHeld
from .seen import NewKeysValues, Seen


class FullCache(LayerBuffers):
    """Everything a full layer has read.

    kv_bits: how many its keys and values are packed in behind a beginning (packed.py);
        None keeps them as they are.
    """

    def __init__(self, kv_bits: int | None = None) -> None:
        super().__init__()
        if kv_bits is not None:
            self._held = PackedHeld(bits=kv_bits, start=packed.START)
        self.reserved = 0  # positions that the next buffer has room for, at least
        self._snapshots: list[weakref.ref[LayerSnapshot]] = []

    @property
    def kv_bits(self) -> int | None:
        return self._held.bits if isinstance(self._held, PackedHeld) else None

    def append(self, new: NewKeysValues) -> Seen:
        """Append `new`; return everything up to the new end."""
        self._held = self._held.with_more(new, None, self.reserved)
        return self._held.seen()

    def trim(self, n: int) -> int:
        end = self.offset - min(n, self.offset)
        # First: Ctrl-C must not leave one that holds although its end was taken back.
        for snapshot in filter(None, (ref() for ref in self._snapshots)):
            snapshot.valid = snapshot.valid and snapshot.held.offset <= end
        return super().trim(n)

    def may_hold(self, count: int, offset: int) -> bool:
        return count == offset

    def reach(self, count: int, offset: int) -> int:
        return 0

    def snapshot(self, offset: int | None = None) -> LayerSnapshot:
        """Of what is held now, or was after `offset` tokens."""
        snapshot = LayerSnapshot(Held(offset=self.offset if offset is None else offset))
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
        other._held = replace(self._held, offset=end).copied()
        return other
