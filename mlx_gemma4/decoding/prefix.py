"""What a conversation has already read, so that each turn reads only what is new.

A turn's prompt repeats the conversation. Its longest common beginning with what the
cache holds is kept: by rollback where the sliding layers still reach, else from one of
the pins set at the turn's boundaries. Old thoughts that drop out of the history, or an
edited message, thus cost only what stands behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..cache import (
    LayerCache,
    Snapshot,
    check_kv_bits,
    copied,
    most_rollback,
    restore,
    rollback,
    snapshot,
    snapshot_reach,
)
from ..errors import CacheError
from ..memory.held import pins_kept
from ..model import Gemma4

PINS = 3
BLOCK = 1024  # tokens compared at once


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


class Keeping(Protocol):
    """Where prefix caches outlast the process that filled them."""

    def recall(
        self, prefix: "PrefixCache", keys: Sequence[int], least: int = 1
    ) -> bool:
        """Gives an empty one what is kept of a prompt's beginning, if that saves
        reading `least` tokens; whether it did."""
        ...

    def keep(self, prefix: "PrefixCache", least: int, spare: bool = False) -> None:
        """Keeps what `prefix` holds, if `least` tokens of it are not kept yet.

        spare: it may be left out where much is to be kept.
        """
        ...


class PrefixCache:
    """The caches of one conversation and the tokens they hold.

    shared: after how many tokens a pin is made that stays: so many of them another
        conversation is known to begin with; 0 makes none.
    kv_bits: of the caches (`Gemma4.make_cache`).
    keeping: where what it holds may be had from as long as it is empty.
    busy: an answer of a batch is writing it.
    on_disk: how many of its tokens are kept there.
    """

    def __init__(
        self,
        model: Gemma4,
        shared: int = 0,
        kv_bits: int | None = None,
        keeping: Keeping | None = None,
    ):
        self._model, self.shared = model, shared
        self.kv_bits, self.keeping = kv_bits, keeping
        self.busy = False
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.cache = self.new_caches()
        self.tokens: list[int] = []
        self._keys: list[int] = []  # the tokens, with media told apart by content
        self._pins: list[Pin] = []
        self.on_disk = 0

    def new_caches(self) -> list[LayerCache]:
        """Empty ones of its kind."""
        return self._model.make_cache(self.kv_bits)

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

    @property
    def model(self) -> Gemma4:
        return self._model

    @property
    def keys(self) -> Sequence[int]:
        """The tokens it holds, as `reuse` takes them."""
        return self._keys

    @property
    def pins(self) -> Sequence[Pin]:
        """The positions that can be returned to, but for those near the end."""
        return self._pins

    @property
    def shared_pins(self) -> int:
        """How many of its pins stay, with the one that is still to be made."""
        return max(bool(self.shared), sum(pin.shared for pin in self._pins))

    def put_back(
        self,
        cache: list[LayerCache],
        tokens: list[int],
        keys: list[int],
        pins: list[Pin],
    ) -> None:
        """Holds what another one held; its caches are no one else's."""
        self.cache, self.tokens, self._keys, self._pins = cache, tokens, keys, pins
        self.on_disk = len(tokens)

    def recall(self, keys: Sequence[int]) -> None:
        """While it is empty, has what is kept of a prompt's beginning."""
        if self.keeping is not None and not self.tokens:
            self.keeping.recall(self, keys)

    def back_to_prompt(self) -> None:
        """Gives up what was generated behind the last prompt."""
        end = self.prompt_end
        if 0 < end < len(self.tokens):
            self.reuse(self._keys[: end + 1])

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
        return usable(self._keys, keys)

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
        most = pins_kept(size, PINS)
        own = [each for each in self._pins if not each.shared][-most:]
        self._pins = [each for each in self._pins if each.shared or each in own]

    def _best_pin(self, wanted: int) -> Pin | None:
        """The one from which to get closest to `wanted`."""
        landings = [(pin.lands_at(wanted), pin) for pin in self._pins]
        reachable = [(at, pin) for at, pin in landings if at is not None]
        return max(reachable, key=lambda pair: pair[0])[1] if reachable else None

    def _back_to(self, position: int) -> None:
        # The pins first: an interrupt must not leave one that points beyond the tokens.
        self._pins = [pin for pin in self._pins if pin.offset <= position]
        self.on_disk = min(self.on_disk, position)
        rollback(self.cache, len(self.tokens) - position)
        del self.tokens[position:], self._keys[position:]


def usable(held: Sequence[int], keys: Sequence[int]) -> int:
    """How many tokens of a prompt, less its last, begin what is held; media whole."""
    wanted = min(_common(held, keys), len(keys) - 1)
    while wanted and keys[wanted] < 0 and keys[wanted] == keys[wanted - 1]:
        wanted -= 1
    return wanted


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    start, most = 0, min(len(a), len(b))
    while start < most and a[start : start + BLOCK] == b[start : start + BLOCK]:
        start += BLOCK  # at once: one by one takes long
    pairs = zip(a[start : start + BLOCK], b[start : start + BLOCK], strict=False)
    differ = (start + i for i, (x, y) in enumerate(pairs) if x != y)
    return min(next(differ, most), most)
