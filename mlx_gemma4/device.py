"""What the machine offers. Models are listed with this, too, so that MLX is imported
only where it is asked."""

import os
from dataclasses import dataclass
from functools import cache

from .launched import count


@dataclass(frozen=True)
class Room:
    """Memory of one process: bytes that weights hold, of `limit` that a model may use,
    and where that is in words."""

    weights: int
    limit: int
    where: str = "here"


def memory_limit() -> int:
    """Bytes that weights can take: the GPU's working set, or all memory on a CPU."""
    import mlx.core as mx

    if mx.metal.is_available():
        return int(mx.device_info()["max_recommended_working_set_size"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def shared_limit() -> int:
    """The same for a model that the processes started together hold: as if each had as
    much."""
    return memory_limit() * count()


@cache
def keep_in_memory() -> None:
    """Let macOS page out no weights from now on; a limit that was set stays."""
    import mlx.core as mx

    if mx.metal.is_available() and (own := mx.set_wired_limit(memory_limit())):
        mx.set_wired_limit(own)
