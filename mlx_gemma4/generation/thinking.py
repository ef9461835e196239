"""A limit on how long a model thinks."""

from collections.abc import Sequence

import mlx.core as mx

from ..chat.splitter import CALL, CHANNEL, CHANNEL_END, HEADER
from ..chat.tokenizer import Tokenizer
from ..errors import ChatError


class ThoughtLimit:
    """Closes a thought that has `most` tokens: its next one is the mark that ends it.

    Lazy, so that decoding can run ahead. The header of a thought does not count, a
    second thought only has what the first left. A call within a thought ends it.

    inside: the prompt has opened a thought.
    begun: ids of the answer so far.
    """

    def __init__(
        self, tokenizer: Tokenizer, most: int, inside: bool, begun: Sequence[int] = ()
    ) -> None:
        if type(most) is not int or most < 0:
            raise ChatError(
                f"think_budget is {most!r}; it must be a whole number from 0."
            )
        marks = tokenizer.special_tokens
        if CHANNEL not in marks or CHANNEL_END not in marks:
            raise ChatError("think_budget: this model has no marks for thoughts.")
        self.most = most
        self._start, self._end = marks[CHANNEL], marks[CHANNEL_END]
        self._call = marks.get(CALL, self._end)
        self._header = 0 if inside else len(tokenizer.encode(HEADER))
        self._open, self._count = mx.array([[inside]]), mx.array([[-self._header]])
        for token in begun:
            self.follow(mx.array([[token]]))

    def __call__(self, token: mx.array) -> mx.array:
        """A drawn token, int `[1, 1]`, or the mark that has to be in its place."""
        spent = self._open & (self._count >= self.most)
        token = mx.where(spent, mx.array(self._end, token.dtype), token)
        self.follow(token)
        return token

    def close(self) -> None:
        """The thought that is open ends with its next token."""
        self.most = -self._header

    def follow(self, token: mx.array) -> None:
        """Goes on behind a token, int `[1, 1]`, that stays as it is."""
        self._count = self._count + self._open
        closed = (token == self._end) | (token == self._call)
        self._open = (self._open | (token == self._start)) & ~closed
