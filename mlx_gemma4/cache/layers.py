"""The caches of all layers of a model, which go on and back together."""

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx

from ..config import TextConfig
from ..errors import CacheError
from .full import FullCache
from .layer import LayerSnapshot, check_rollback
from .packed import check_kv_bits
from .sliding import SLACK, SlidingCache

LayerCache = FullCache | SlidingCache
Snapshot = tuple[LayerSnapshot, ...]


class Watcher(Protocol):
    """Is told of what happens to caches beside being appended to and trimmed."""

    def pinned(self, cache: Sequence[LayerCache], pinned: Snapshot) -> None: ...
    def restored(self, cache: Sequence[LayerCache], pinned: Snapshot) -> None: ...
    def copied(
        self,
        cache: Sequence[LayerCache],
        pinned: Snapshot | None,
        made: Sequence[LayerCache],
    ) -> None: ...


WATCHERS: list[Watcher] = []


def make_cache(
    config: TextConfig, slack: int = SLACK, kv_bits: int | None = None
) -> list[LayerCache]:
    """One cache per layer with keys and values of its own (KV-shared ones need none).

    slack: how many tokens can always be taken back.
    kv_bits: how many full layers are packed in, 8, behind their first START positions.

    Raises ChatError where that is not possible.
    """
    check_kv_bits(kv_bits, config)
    return [
        SlidingCache(config.sliding_window, slack)
        if config.is_sliding(layer)
        else FullCache(kv_bits)
        for layer in range(config.first_kv_shared_layer)
    ]


def kv_bits_of(cache: Sequence[LayerCache]) -> int | None:
    """What `make_cache` made it with."""
    full = [layer for layer in cache if isinstance(layer, FullCache)]
    return full[0].kv_bits if full else None


def reserve(cache: Sequence[LayerCache], tokens: int) -> None:
    """Where buffers are too small for what comes, they get room for `tokens` in all at
    once, in place of growing to it by one copy after the other."""
    for layer in cache:
        if isinstance(layer, FullCache):
            layer.reserved = tokens


def reserved(cache: Sequence[LayerCache]) -> int:
    """What `reserve` said last."""
    return max((x.reserved for x in cache if isinstance(x, FullCache)), default=0)


def most_rollback(cache: Sequence[LayerCache]) -> int:
    """How many tokens `rollback` can take back from all layers exactly."""
    return min(layer.most_rollback for layer in cache)


def rollback(cache: Sequence[LayerCache], n: int) -> None:
    """Take back the last `n` tokens. Raises CacheError, changing nothing, if it
    cannot be exact."""
    check_rollback(n, most_rollback(cache))
    for layer in cache:
        layer.trim(n)


def snapshot(cache: Sequence[LayerCache]) -> Snapshot:
    """Pin the present position, to be returned to by `restore`."""
    pinned = tuple(layer.snapshot() for layer in cache)
    # Now: an unevaluated copy would keep the whole buffer it is taken from.
    mx.eval([part.held.buffer for part in pinned if part.held.buffer is not None])
    for watcher in WATCHERS:
        watcher.pinned(cache, pinned)
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
    for watcher in WATCHERS:
        watcher.restored(cache, pinned)
    for layer, part in zip(cache, pinned, strict=True):
        layer.restore(part)


def copied(cache: Sequence[LayerCache], pinned: Snapshot | None) -> list[LayerCache]:
    """Another cache that holds what this one does, or did at a snapshot of it; from now
    on each goes its own way."""
    states = pinned or [None] * len(cache)
    both = zip(cache, states, strict=True)
    made: list[LayerCache] = [layer.copied(state) for layer, state in both]
    mx.eval([array for layer in made for array in layer.state])
    for watcher in WATCHERS:
        watcher.copied(cache, pinned, made)
    return made
