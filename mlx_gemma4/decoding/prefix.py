"""What a conversation has already read, so that each turn reads only what is new.

A turn's prompt repeats the conversation. Its longest common beginning with what the
cache holds is kept: by rollback where the sliding layers still reach, else from one of
the pins set at the turn's boundaries. Old thoughts that drop out of the history, or an
edited message, thus cost only what stands behind them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..cache import (
    Snapshot,
    check_kv_bits,
    copied,
    most_rollback,
    restore,
    rollback,
    snapshot,
    snapshot_reach,
)
from ..device import memory_limit
from ..errors import CacheError
from ..model import Gemma4

PINS = 3
PIN_BYTES = 2**29  # of all pins; each holds one window of every sliding layer
MOST = 8  # conversations
SHARE = 0.25  # of the memory that the weights leave
FEW = 256  # tokens that are sooner read again than kept twice
BLOCK = 1024  # tokens compared at once
HEADER = 16  # tokens by which templates write the beginning of an answer differently

Pins = Literal["both", "end", "none"]  # ends of the new part that get a pin


@dataclass(frozen=True)
class Pin:
    """A snapshot after `offset` tokens that reaches back to `reach`.

    passing: gives way to the next. shared: where other conversations begin alike, and
        stays.
    """

    offset: int
    reach: int
    snapshot: Snapshot
    passing: bool = False
    shared: bool = False

    def lands_at(self, wanted: int) -> int | None:
        """The best position at or below `wanted` to be had from this pin."""
        if self.offset <= wanted:
            return self.offset
        return wanted if self.reach <= wanted else None


class PrefixCache:
    """The caches of one conversation and the tokens they hold.

    shared: after how many tokens a pin is made that stays: so many of them another
        conversation is known to begin with; 0 makes none.
    busy: an answer of a batch is writing it.
    kv_bits: of the caches (`Gemma4.make_cache`).
    """

    def __init__(self, model: Gemma4, shared: int = 0, kv_bits: int | None = None):
        self._model, self.shared, self.kv_bits = model, shared, kv_bits
        self.busy = False
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.cache = self._model.make_cache(self.kv_bits)
        self.tokens: list[int] = []
        self._keys: list[int] = []  # the tokens, with media told apart by content
        self._pins: list[Pin] = []

    def check_model(self, model: Gemma4) -> None:
        if model is not self._model:
            raise CacheError("This prefix cache belongs to another model.")

    def keep_in(self, kv_bits: int | None) -> None:
        """Keep full layers in `kv_bits`; None leaves that as it is. Raises CacheError
        where what is held would have to be read again."""
        if kv_bits in (None, self.kv_bits):
            return
        if self.tokens:
            raise CacheError(
                f"This prefix cache holds {len(self.tokens)} tokens without kv_bits="
                f"{kv_bits}: clear() it, or make one with PrefixCache(model, "
                f"kv_bits={kv_bits})."
            )
        check_kv_bits(kv_bits, self._model.config.text_config)
        self.kv_bits = kv_bits
        self.clear()

    def reuse(self, keys: Sequence[int]) -> int:
        """Go back to the longest usable beginning of a prompt; return its length.

        keys: the prompt's tokens, or what `content_keys` makes of them; a medium is
            kept whole or not at all. At least one token is always left to read, since
            its logits are wanted.
        """
        wanted = self.common(keys)
        if len(self.tokens) - wanted <= most_rollback(self.cache):
            self._back_to(wanted)
            return wanted
        pin = self._best_pin(wanted)
        if pin is None:
            self.clear()
            return 0
        restore(self.cache, pin.snapshot)
        del self.tokens[pin.offset :], self._keys[pin.offset :]
        self._back_to(min(wanted, pin.offset))
        return len(self.tokens)

    def common(self, keys: Sequence[int]) -> int:
        """How many tokens a prompt begins with as this one does, less its last: those
        that would not have to be read, if all of them can be returned to."""
        if any(layer.offset != len(self.tokens) for layer in self.cache):
            self.clear()  # an interrupted call left them out of step
        wanted = min(_common(self._keys, keys), len(keys) - 1)
        while wanted and keys[wanted] < 0 and keys[wanted] == keys[wanted - 1]:
            wanted -= 1
        return wanted

    def reaches(self, keys: Sequence[int]) -> int:
        """How many tokens of a prompt would not have to be read."""
        wanted = self.common(keys)
        if len(self.tokens) - wanted <= most_rollback(self.cache):
            return wanted
        pin = self._best_pin(wanted)
        return min(pin.offset, wanted) if pin else 0

    def branch(self, keys: Sequence[int]) -> "PrefixCache | None":
        """Another conversation's, which holds what this one does of a prompt's
        beginning and stays as it is; None where nothing of it can be returned to."""
        wanted = self.common(keys)
        near = len(self.tokens) - wanted <= most_rollback(self.cache)
        pin = None if near else self._best_pin(wanted)
        if not wanted or not (near or pin):
            return None
        end = pin.offset if pin else len(self.tokens)
        other = PrefixCache(self._model, kv_bits=self.kv_bits)
        other.cache = copied(self.cache, pin.snapshot if pin else None)
        other.extend(self.tokens[:end], self._keys[:end])
        return other

    @property
    def prompt_end(self) -> int:
        """How many tokens the last prompt had, as far as it is known."""
        return self._pins[-1].offset if self._pins else 0

    @property
    def nbytes(self) -> int:
        pinned = sum(part.nbytes for pin in self._pins for part in pin.snapshot)
        return pinned + sum(layer.nbytes for layer in self.cache)

    def extend(self, tokens: Sequence[int], keys: Sequence[int] | None = None) -> None:
        """Note what was appended to the caches."""
        self.tokens += tokens
        self._keys += tokens if keys is None else keys

    def pin(self, passing: bool = False, shared: bool = False) -> None:
        """Make the present position one that later turns can return to.

        passing: only until the next pin, which takes its place.
        shared: as long as nothing before it changes.
        """
        offset = len(self.tokens)
        if offset == 0 or any(pin.offset == offset for pin in self._pins):
            return
        if self._pins and self._pins[-1].passing:
            self._pins.pop()
        pinned = snapshot(self.cache)
        pin = Pin(offset, snapshot_reach(pinned), pinned, passing, shared)
        self._pins.append(pin)
        size = sum(part.nbytes for part in pinned)
        most = min(PINS, PIN_BYTES // size) if size else PINS
        own = [each for each in self._pins if not each.shared][-max(1, most) :]
        self._pins = [each for each in self._pins if each.shared or each in own]

    def _best_pin(self, wanted: int) -> Pin | None:
        """The one from which to get closest to `wanted`."""
        landings = [(pin.lands_at(wanted), pin) for pin in self._pins]
        reachable = [(at, pin) for at, pin in landings if at is not None]
        return max(reachable, key=lambda pair: pair[0])[1] if reachable else None

    def _back_to(self, position: int) -> None:
        # The pins first: an interrupt must not leave one that points beyond the tokens.
        self._pins = [pin for pin in self._pins if pin.offset <= position]
        rollback(self.cache, len(self.tokens) - position)
        del self.tokens[position:], self._keys[position:]


class PrefixCaches:
    """The prefix caches of conversations with one model.

    A prompt goes on with the one that begins as it does. One that begins like another
    conversation and goes its own way gets a copy of the beginning, as long as all of
    them take no more than `most_bytes` (None: a quarter of the memory that the weights
    leave). The one that has not been used for longest gives way.

    kv_bits: of all their caches.
    """

    def __init__(
        self,
        model: Gemma4,
        most: int = MOST,
        most_bytes: int | None = None,
        kv_bits: int | None = None,
    ):
        check_kv_bits(kv_bits, model.config.text_config)
        self._model, self._most, self.kv_bits = model, most, kv_bits
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

    def closest(self, keys: Sequence[int]) -> PrefixCache:
        """The one to read a prompt with; see `PrefixCache.reuse` for its keys."""
        best = max(self._kept, key=lambda each: each.common(keys), default=None)
        if best is None or best.busy or not _goes_on(best, keys):
            best = self._new(best, keys)
        self._kept = [*(each for each in self._kept if each is not best), best]
        self._make_room(0, best)
        return best

    def _new(self, like: PrefixCache | None, keys: Sequence[int]) -> PrefixCache:
        common = like.common(keys) if like else 0
        if like is None or common <= FEW:
            return PrefixCache(self._model, kv_bits=self.kv_bits)
        if not self._make_room(like.nbytes, like):
            return PrefixCache(self._model, kv_bits=self.kv_bits) if like.busy else like
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
            free = (each for each in kept if each is not besides and not each.busy)
            old = next(free, None)
            if old is None:
                return False
            kept.remove(old)
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


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    start, most = 0, min(len(a), len(b))
    while start < most and a[start : start + BLOCK] == b[start : start + BLOCK]:
        start += BLOCK  # at once: one by one takes long
    pairs = zip(a[start : start + BLOCK], b[start : start + BLOCK], strict=False)
    differ = (start + i for i, (x, y) in enumerate(pairs) if x != y)
    return min(next(differ, most), most)
