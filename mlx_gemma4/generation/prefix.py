"""What a conversation has already read, so that each turn reads only what is new.

A turn's prompt repeats the conversation. Its longest common beginning with what the
cache holds is kept: by rollback where the sliding layers still reach, else from one of
the pins set at the turn's boundaries. Old thoughts that drop out of the history, or an
edited message, thus cost only what stands behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..cache import Snapshot, most_rollback, restore, rollback, snapshot, snapshot_reach
from ..errors import CacheError
from ..model import Gemma4

PINS = 3
PIN_BYTES = 2**29  # of all pins; each holds one window of every sliding layer


@dataclass(frozen=True)
class Pin:
    """A snapshot after `offset` tokens that reaches back to `reach`."""

    offset: int
    reach: int
    snapshot: Snapshot
    passing: bool = False

    def lands_at(self, wanted: int) -> int | None:
        """The best position at or below `wanted` to be had from this pin."""
        if self.offset <= wanted:
            return self.offset
        return wanted if self.reach <= wanted else None


class PrefixCache:
    """The caches of one conversation and the tokens they hold."""

    def __init__(self, model: Gemma4):
        self._model = model
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.cache = self._model.make_cache()
        self.tokens: list[int] = []
        self._keys: list[int] = []  # the tokens, with media told apart by content
        self._pins: list[Pin] = []

    def check_model(self, model: Gemma4) -> None:
        if model is not self._model:
            raise CacheError("This prefix cache belongs to another model.")

    def reuse(self, keys: Sequence[int]) -> int:
        """Go back to the longest usable beginning of a prompt; return its length.

        keys: the prompt's tokens, or what `content_keys` makes of them; a medium is
            kept whole or not at all. At least one token is always left to read, since
            its logits are wanted.
        """
        if self.cache[0].offset != len(self.tokens):
            self.clear()  # an interrupted call left the two out of step
        wanted = min(_common(self._keys, keys), len(keys) - 1)
        while wanted and keys[wanted] < 0 and keys[wanted] == keys[wanted - 1]:
            wanted -= 1
        if len(self.tokens) - wanted <= most_rollback(self.cache):
            self._back_to(wanted)
            return wanted
        landings = [(pin.lands_at(wanted), pin) for pin in self._pins]
        reachable = [(at, pin) for at, pin in landings if at is not None]
        if not reachable:
            self.clear()
            return 0
        position, pin = max(reachable, key=lambda pair: pair[0])
        restore(self.cache, pin.snapshot)
        del self.tokens[pin.offset :], self._keys[pin.offset :]
        self._back_to(position)
        return position

    def extend(self, tokens: Sequence[int], keys: Sequence[int] | None = None) -> None:
        """Note what was appended to the caches."""
        self.tokens += tokens
        self._keys += tokens if keys is None else keys

    def pin(self, passing: bool = False) -> None:
        """Make the present position one that later turns can return to.

        passing: only until the next pin, which takes its place.
        """
        offset = len(self.tokens)
        if offset == 0 or any(pin.offset == offset for pin in self._pins):
            return
        if self._pins and self._pins[-1].passing:
            self._pins.pop()
        pinned = snapshot(self.cache)
        self._pins.append(Pin(offset, snapshot_reach(pinned), pinned, passing))
        size = sum(part.nbytes for part in pinned)
        most = min(PINS, PIN_BYTES // size) if size else PINS
        del self._pins[: -max(1, most)]

    def _back_to(self, position: int) -> None:
        # The pins first: an interrupt must not leave one that points beyond the tokens.
        self._pins = [pin for pin in self._pins if pin.offset <= position]
        rollback(self.cache, len(self.tokens) - position)
        del self.tokens[position:], self._keys[position:]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
