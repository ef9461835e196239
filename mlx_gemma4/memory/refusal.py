"""Why a context is refused, in numbers, and what would help."""

from collections.abc import Iterator
from dataclasses import replace

from ..cache import check_kv_bits
from ..cache.packed import BITS
from ..device import Room
from ..errors import ChatError, RoomError
from ..reading.sizes import size
from .estimate import Demand

PACKED = f"--kv-bits {BITS} (kv_bits={BITS})"
ON_DISK = "--ple disk (ple='disk')"


def refusal(
    what: str, demand: Demand, context: int, room: Room, table: int = 0
) -> RoomError:
    """The error for a context that does not fit.

    what: that takes it, as "The prompt". table: bytes of a table of per-layer
        embeddings that could stay on disk.
    """
    needed, limit = demand.at(context), room.limit
    most = f"{size(limit)} {room.where}"
    told = f"{what} needs {needed}, but a model may use at most {most}."
    return RoomError(" ".join([told, *_remedies(demand, context, limit, table)]))


def _remedies(demand: Demand, context: int, limit: int, table: int) -> Iterator[str]:
    if most := demand.most(limit, context):
        yield f"{most:,} tokens fit: ask about a part of it, or say less."
    less = [(ON_DISK, replace(demand, weights=demand.weights - table))] if table else []
    if demand.kv_bits is None and _packs(demand):
        less.append((PACKED, replace(demand, kv_bits=BITS)))
    for option, other in less:
        new = other.at(context).total
        if new < demand.at(context).total:
            enough = ", which fits" if new <= limit else ""
            yield f"{option} makes it {size(new)}{enough}."
    if not most and not less:
        yield "Choose a smaller or more strongly quantised model."


def _packs(demand: Demand) -> bool:
    try:
        check_kv_bits(BITS, demand.config)
    except ChatError:
        return False
    return True
