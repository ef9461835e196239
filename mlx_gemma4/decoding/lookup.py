"""Drafts from the text so far: what followed the last few tokens when they came before.

Quoting, editing and code say again what the prompt says.
"""

from array import array
from collections.abc import Iterable

LONGEST = 4  # tokens of which as many as can be have to be the same; two at least
TRIED = 16  # earlier places, the newest first


class Lookup:
    """Follows the tokens of a prompt and its answer."""

    def __init__(self, tokens: Iterable[int] = ()):
        self._tokens = array("i")
        self._last: dict[int, int] = {}  # behind which place two tokens stood last
        # By place: the one before it behind the same two tokens, or -1.
        self._earlier = array("i", [-1])
        for token in tokens:
            self._note(token)
        self._from = self._best()

    def follow(self, token: int) -> None:
        """Goes on behind one more token."""
        self._note(token)
        self._from = self._best()

    def _note(self, token: int) -> None:
        self._tokens.append(token)
        place = -1
        if len(self._tokens) > 1:
            two = self._tokens[-2] << 32 | token
            place = self._last.get(two, -1)
            self._last[two] = len(self._tokens)
        self._earlier.append(place)

    def _best(self) -> int | None:
        """The place whose tokens before it are most like the last ones, if there are
        two at least; of several, the newest."""
        end, best, most = len(self._tokens), None, 0
        place = self._earlier[end]
        for _ in range(TRIED):
            if place < 0 or most == LONGEST:
                break
            length = 2
            while length < min(LONGEST, place) and (
                self._tokens[place - length - 1] == self._tokens[end - length - 1]
            ):
                length += 1
            if length > most:
                best, most = place, length
            place = self._earlier[place]
        return best

    @property
    def following(self) -> int | None:
        """The token that may come next, if the last ones stood somewhere before."""
        return None if self._from is None else self._tokens[self._from]

    def propose(self, most: int) -> list[int]:
        """`most` tokens that may come next; none where nothing is known. Where they
        lead to the end of the text, it is taken to go round."""
        if self._from is None:
            return []
        cycle = self._tokens[self._from : self._from + most].tolist()
        return (cycle * -(-most // len(cycle)))[:most] if most else []
