"""What answers take in memory, and how many of them may go on at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..cache.buffers import STEP
from ..errors import RoomError
from ..memory.estimate import Demand, for_a_moment
from .prefix import PrefixCache
from .prefixes import PrefixCaches

RESERVE = 1024  # tokens that an answer without a limit is counted with at first


class GaveWay(RoomError):
    """An answer was ended for those that had begun before it."""

    def __init__(self) -> None:
        super().__init__(
            "The answers that are made at once took all memory, and this one gave way "
            "to those before it. Ask again, make fewer at once (--rows), or allow less "
            "of each: --max-tokens (max_tokens), --max-context (max_context), "
            "--kv-bits 8 (kv_bits=8)."
        )


@dataclass
class Need:
    """What an answer takes in memory.

    limit: bytes that it and all beside it may take.
    tokens: of its prompt, and of the answer as far as it is counted on.
    others: the caches that `prefix` is one of.
    """

    demand: Demand
    limit: int
    tokens: int
    prefix: PrefixCache
    others: PrefixCaches | None = None

    @property
    def outgrown(self) -> bool:
        """Whether the next token is more than is counted on."""
        return len(self.prefix.tokens) >= self.tokens

    def grow(self) -> None:
        while self.outgrown:
            self.tokens += STEP


def fitting(needs: Sequence[Need]) -> int:
    """How many of these, from the first on, there is memory for beside what the others
    hold. Caches that no answer uses are given up first."""
    for need in needs:
        need.grow()
    unused = {id(need.others): need.others for need in needs if need.others}
    while (count := _count(needs, [*unused.values()])) < len(needs):
        if not any(others.give_up() for others in unused.values()):
            break
    return count


def _count(needs: Sequence[Need], unused: Sequence[PrefixCaches]) -> int:
    told = [need.demand.at(need.tokens) for need in needs]
    held = [need.prefix.nbytes for need in needs]
    weights = max((each.weights for each in told), default=0)
    limit = min((need.limit for need in needs), default=0)
    left = limit - weights - sum(held) - sum(o.unused for o in unused)
    for count, (each, own) in enumerate(zip(told, held, strict=True)):
        left -= max(0, each.kv - own) + each.media
        if for_a_moment(told[: count + 1]) > left:
            return count
    return len(needs)
