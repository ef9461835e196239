"""What the caches of all kinds of layers share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Never

import mlx.core as mx

from ..errors import CacheError
from .buffers import Held
from .seen import NewKeysValues, Seen


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
        return sum(array.nbytes for array in self.held.arrays)


class LayerBuffers(ABC):
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
        check_rollback(n, self.most_rollback)
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
        return self._held.arrays

    @property
    def meta_state(self) -> Never:
        raise CacheError("These caches cannot be saved to a file.")

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.state)


def check_rollback(n: int, most: int) -> None:
    if not 0 <= n <= most:
        raise CacheError(
            f"Cannot take back {n} tokens exactly, only 0 to {most}: the sliding "
            "layers have let go of what lies before. Restore a snapshot instead."
        )
