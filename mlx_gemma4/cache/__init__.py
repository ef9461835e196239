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
- Full layers may be packed in 8 bits from a position on (packed.py).
- A snapshot pins a turn boundary: its sliding part is a copy of window and slack, its
  full part just a length, valid until a rollback goes below it.

The layer caches keep the method names of mlx-lm's caches, so its generation loop and
evaluators run on them.
"""

from .full import FullCache
from .layer import LayerSnapshot
from .layers import (
    WATCHERS,
    LayerCache,
    Snapshot,
    copied,
    kv_bits_of,
    make_cache,
    most_rollback,
    reserve,
    reserved,
    restore,
    rollback,
    snapshot,
    snapshot_reach,
)
from .packed import Packed, PackedSeen, check_bits, check_kv_bits
from .seen import NewKeysValues, Seen
from .sliding import SLACK, SlidingCache

__all__ = [
    "SLACK",
    "WATCHERS",
    "FullCache",
    "LayerCache",
    "LayerSnapshot",
    "NewKeysValues",
    "Packed",
    "PackedSeen",
    "Seen",
    "SlidingCache",
    "Snapshot",
    "check_bits",
    "check_kv_bits",
    "copied",
    "kv_bits_of",
    "make_cache",
    "most_rollback",
    "reserve",
    "reserved",
    "restore",
    "rollback",
    "snapshot",
    "snapshot_reach",
]
