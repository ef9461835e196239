"""The prefix caches of several conversations: which of them a prompt goes on with."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..cache import check_kv_bits
from ..device import memory_limit
from ..errors import CacheError
from ..model import Gemma4
from .prefix import Keeping, PrefixCache

MOST = 8  # conversations
SHARE = 0.25  # of the memory that the weights leave
FEW = 256  # tokens that are sooner read again than kept twice
HEADER = 16  # tokens by which templates write the beginning of an answer differently

Pins = Literal["both", "end", "none"]  # ends of the new part that get a pin


class PrefixCaches:
    """The prefix caches of conversations with one model.

    A prompt goes on with the one that begins as it does. One that begins like another
    conversation and goes its own way gets a copy of the beginning, as long as all of
    them take no more than `most_bytes` (None: a quarter of the memory that the weights
    leave). The one that has not been used for longest gives way.

    kv_bits: of all their caches.
    keeping: where those that gave way are kept, and looked for.
    """

    def __init__(
        self,
        model: Gemma4,
        most: int = MOST,
        most_bytes: int | None = None,
        kv_bits: int | None = None,
        keeping: Keeping | None = None,
    ):
        check_kv_bits(kv_bits, model.config.text_config)
        self._model, self._most = model, most
        self.kv_bits, self._keeping = kv_bits, keeping
        self._most_bytes = _a_share(model) if most_bytes is None else most_bytes
        self._kept: list[PrefixCache] = []  # the last used one last

    def check_model(self, model: Gemma4) -> None:
        if model is not self._model:
            raise CacheError("These prefix caches belong to another model.")

    def keep_in(self, kv_bits: int | None) -> None:
        """As `PrefixCache.keep_in`, all of them or none."""
        if kv_bits in (None, self.kv_bits):
            return
        for each in sorted(self._kept, key=lambda each: -len(each.tokens)):
            each.keep_in(kv_bits)
        self.kv_bits = kv_bits

    def clear(self) -> None:
        """Forget everything."""
        self._kept = []

    def closest(self, keys: Sequence[int]) -> PrefixCache:
        """The one to read a prompt with; see `PrefixCache.reuse` for its keys."""
        best = max(self._kept, key=lambda each: each.common(keys), default=None)
        if best is None or best.busy or not _goes_on(best, keys):
            best = self._new(best, keys)
        self._kept = [*(each for each in self._kept if each is not best), best]
        self._make_room(0, best)
        return best

    @property
    def unused(self) -> int:
        """Bytes of those that no answer of a batch uses."""
        return _size([each for each in self._kept if not each.busy])

    def give_up(self, besides: PrefixCache | None = None) -> bool:
        """Gives up one that no answer uses, the oldest; whether there was one."""
        free = (each for each in self._kept if each is not besides and not each.busy)
        old = next(free, None)
        if old is not None:
            self._kept.remove(old)
            self._keep(old, spare=True)  # its memory is wanted now
        return old is not None

    def keep(self) -> None:
        """Has what they hold kept beyond this process."""
        for each in self._kept:
            self._keep(each)

    def _keep(self, cache: PrefixCache, spare: bool = False) -> None:
        if self._keeping is not None:
            self._keeping.keep(cache, FEW, spare)

    def _new(self, like: PrefixCache | None, keys: Sequence[int]) -> PrefixCache:
        common = like.common(keys) if like else 0
        fresh = PrefixCache(self._model, kv_bits=self.kv_bits)
        reached = max((each.reaches(keys) for each in self._kept), default=0)
        if self._keeping and self._keeping.recall(fresh, keys, reached + FEW):
            return fresh
        if like is None or common <= FEW:
            return fresh
        if not self._make_room(like.nbytes, like):
            return fresh if like.busy else like
        origin = max(self._kept, key=lambda each: each.reaches(keys))
        if origin.reaches(keys) > FEW and (branch := origin.branch(keys)):
            return branch
        # It is read again; the next one that begins so can be branched off there.
        return PrefixCache(self._model, common, self.kv_bits)

    def _make_room(self, more: int, besides: PrefixCache) -> bool:
        """Gives up others than `besides` until there is room for `more` bytes; whether
        there is."""
        kept = self._kept
        while len(kept) > self._most or _size(kept) + more > self._most_bytes:
            if not self.give_up(besides):
                return False
        return True


def pins_for(
    messages: Sequence[Mapping[str, Any]] | None, begun: Sequence[int]
) -> Pins:
    """What continues a turn, as a tool's answer does, gets a pin that must not push out
    the turn's own."""
    of_tool = messages and messages[-1].get("role") == "tool"
    return "end" if of_tool or begun else "both"


def _goes_on(best: PrefixCache, keys: Sequence[int]) -> bool:
    """Whether a prompt belongs to a conversation: hardly anything, or nothing but the
    last answer, would have to be given up for it."""
    common, held = best.common(keys), len(best.tokens)
    behind_prompt = common >= best.prompt_end - HEADER > 0
    return behind_prompt or held - common <= min(FEW, common)


def _size(caches: Sequence[PrefixCache]) -> int:
    return sum(each.nbytes for each in caches)


def _a_share(model: Gemma4) -> int:
    return max(0, int(SHARE * (memory_limit() - model.nbytes)))
