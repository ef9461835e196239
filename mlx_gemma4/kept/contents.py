"""What a prefix cache holds, as arrays with names, and put back from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..cache import LayerCache, LayerSnapshot, SlidingCache
from ..config import TextConfig
from ..decoding.prefix import Pin, PrefixCache
from ..errors import CacheError
from ..reading.listing import listed
from .entry import NUMPY, Head, Medium, read_arrays

END = "end"


@dataclass(frozen=True)
class Point:
    """A position that can be returned to, and the lowest one from there."""

    offset: int
    reach: int

    def lands_at(self, wanted: int) -> int:
        """The best position at or below `wanted` from here; 0 if there is none."""
        if self.offset <= wanted:
            return self.offset
        return wanted if self.reach <= wanted else 0


def pins_to_keep(prefix: PrefixCache) -> list[Pin]:
    """Where others begin alike, and the last one, unless the end is near it."""
    end = len(prefix.tokens)
    # What is stored reaches less far back than what is held.
    near = max(
        cache.reach(array.shape[2], end)
        for cache in prefix.cache
        for array in cache.stored()[:1]
    )
    last = prefix.pins[-1:]
    return [p for p in prefix.pins if p.shared or (p in last and p.offset < near)]


def arrays_of(prefix: PrefixCache, pins: Sequence[Pin]) -> dict[str, mx.array]:
    """What its layers hold at the end, and sliding layers at `pins`, without a copy."""
    arrays: dict[str, mx.array] = {}
    for layer, cache in enumerate(prefix.cache):
        arrays |= _named(END, layer, cache.stored())
    for n, pin in enumerate(pins):
        for layer, part in enumerate(pin.snapshot):
            arrays |= _named(f"pin{n}", layer, part.held.stored())
    return arrays


def _named(state: str, layer: int, arrays: Sequence[mx.array]) -> dict[str, mx.array]:
    return {f"{state}.{layer}.{i}": array for i, array in enumerate(arrays)}


def media_of(keys: Sequence[int]) -> list[Medium]:
    """The media among keys of a prompt: runs of one number below 0."""
    media: list[Medium] = []
    start = 0
    while start < len(keys):
        end = start + 1
        while keys[start] < 0 and end < len(keys) and keys[end] == keys[start]:
            end += 1
        if keys[start] < 0:
            media.append(Medium(start, end, keys[start]))
        start = end
    return media


def points(head: Head, caches: Sequence[LayerCache], config: TextConfig) -> list[Point]:
    """The positions that an entry can be returned to: those of its pins, and its end.

    caches: empty ones of the model. Raises CacheError for tensors that are not just
    those such caches would have stored.
    """
    tensors = dict(head.tensors)
    if len({t.dtype for t in tensors.values()} - {"U32"}) != 1:
        raise CacheError(f"{head.file} holds numbers of several types.")
    found: list[Point] = []
    states = [(f"pin{n}", at) for n, (at, _) in enumerate(head.about.pins)]
    for state, offset in [*states, (END, len(head.tokens))]:
        reach, counts = 0, set[int]()
        for layer, cache in enumerate(caches):
            if state != END and not isinstance(cache, SlidingCache):
                continue
            first = tensors.get(f"{state}.{layer}.0")
            if first is None or len(first.shape) != 4:
                raise CacheError(f"{head.file} lacks {state}.{layer}.0.")
            count = first.shape[2] if isinstance(cache, SlidingCache) else offset
            if not cache.may_hold(count, offset):
                raise CacheError(f"{head.file}: {count} positions of {offset}.")
            layout = cache.layout(count, config.layer_head_dim(layer))
            heads = 2 * config.layer_key_value_heads(layer)
            for i, (positions, elements) in enumerate(layout):
                tensor = tensors.pop(f"{state}.{layer}.{i}", None)
                if tensor is None or tensor.dtype not in NUMPY:
                    raise CacheError(f"{head.file} lacks {state}.{layer}.{i}.")
                if tensor.shape != (1, heads, positions, elements):
                    raise CacheError(f"{head.file}: {tensor.name} is {tensor.shape}.")
            reach = max(reach, cache.reach(count, offset))
            if isinstance(cache, SlidingCache):
                counts.add(count)
        if len(counts) > 1:
            raise CacheError(f"{head.file}: {sorted(counts)} positions of one window.")
        found.append(Point(offset, reach))
    if tensors:
        raise CacheError(f"{head.file} holds {listed(sorted(tensors))} as well.")
    return found


def put_back(prefix: PrefixCache, head: Head, most: int) -> None:
    """Makes an empty prefix cache hold what an entry does, whose `points` were found to
    be in order. Raises OSError and CacheError, and changes nothing."""
    rows = prefix.model.config.text_config.token_rows
    if not 0 <= min(head.tokens) <= max(head.tokens) < rows:
        raise CacheError(f"{head.file} holds tokens that the model has not.")
    arrays = read_arrays(head, most)
    caches = prefix.new_caches()
    for layer, cache in enumerate(caches):
        cache.put_back(_of(arrays, END, layer), len(head.tokens))
    pins: list[Pin] = []
    for n, (at, shared) in enumerate(head.about.pins):
        parts = tuple(_snapshots(caches, arrays, f"pin{n}", at))
        reach = max(part.reach for part in parts)
        pins.append(Pin(at, reach, parts, shared=shared))
    prefix.put_back(caches, list(head.tokens), list(head.keys), pins)


def _snapshots(
    caches: Sequence[LayerCache], arrays: Mapping[str, mx.array], state: str, at: int
) -> Iterator[LayerSnapshot]:
    for layer, cache in enumerate(caches):
        if isinstance(cache, SlidingCache):
            yield cache.snapshot_of(_of(arrays, state, layer), at)
        else:
            yield cache.snapshot(at)


def _of(arrays: Mapping[str, mx.array], state: str, layer: int) -> list[mx.array]:
    start = f"{state}.{layer}."
    return [array for name, array in arrays.items() if name.startswith(start)]
