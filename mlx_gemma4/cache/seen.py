"""What attention gets of a layer: keys and values in a row."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

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
