"""Drafts from the text so far: what followed the last few tokens when they came before.

Quoting, editing and code say again what the prompt says.
"""

from collections.abc import Iterable

LONGEST, SHORTEST = 4, 2  # tokens that have to be the same before what is proposed


class Lookup:
    """Follows the tokens of a prompt and its answer."""

    def __init__(self, tokens: Iterable[int] = ()):
        self._tokens: list[int] = []
        # Behind which place runs of tokens stood last, by their length.
        self._behind: list[dict[tuple[int, ...], int]] = [
            {} for _ in range(LONGEST + 1)
        ]
        self._from: int | None = None  # of `_tokens`: what may come next
        for token in tokens:
            self.follow(token)

    def follow(self, token: int) -> None:
        """Goes on behind one more token."""
        self._tokens.append(token)
        end, found = len(self._tokens), None
        for length in range(min(LONGEST, end), SHORTEST - 1, -1):
            run = tuple(self._tokens[end - length :])
            place = self._behind[length].get(run)
            found = place if found is None else found
            self._behind[length][run] = end
        self._from = found

    @property
    def following(self) -> int | None:
        """The token that may come next, if the last ones stood somewhere before."""
        return None if self._from is None else self._tokens[self._from]

    def propose(self, most: int) -> list[int]:
        """`most` tokens that may come next; none where nothing is known. Where they
        lead to the end of the text, it is taken to go round."""
        if self._from is None:
            return []
        cycle = self._tokens[self._from : self._from + most]
        return (cycle * -(-most // len(cycle)))[:most] if most else []
