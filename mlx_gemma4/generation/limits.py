"""What ends a thought or an answer that the model does not end: a limit, a loop."""

from collections import deque
from collections.abc import Sequence

import mlx.core as mx

from ..chat.splitter import CALL, CHANNEL, CHANNEL_END, HEADER
from ..chat.tokenizer import Tokenizer
from ..errors import ChatError
from ..sampling import Sampler

# Of an answer while it comes, in tokens: the longest cycle, how often it comes and how
# much it fills before it is a loop.
LONGEST, REPEATED, FILLED = 50, 4, 200
# The same for what may well be meant: zeros, rules, tables, code, base64.
MEANT = 4000
DATA = tuple("|[{<")  # what tables, JSON and HTML begin with


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


class LoopWatch:
    """Notices, token by token, that an answer goes round in a cycle of words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.forget()

    def forget(self) -> None:
        """Begins anew, as with another part of the answer."""
        self._tokens: list[int] = []
        self._last = deque([-1] * LONGEST, LONGEST)  # tokens, the newest first
        self._equal = [0] * LONGEST  # in a row, by length of the cycle

    def add(self, token: int) -> bool:
        """Whether the answer is in a loop with this token."""
        pairs = zip(self._last, self._equal, strict=True)
        self._equal = [count + 1 if last == token else 0 for last, count in pairs]
        self._last.appendleft(token)
        self._tokens.append(token)
        cycles = enumerate(self._equal, start=1)
        often = REPEATED - 1
        repeated = (n + count for n, count in cycles if count >= often * n)
        filled = max(repeated, default=0)
        if filled < FILLED:
            return False
        return filled >= MEANT or (filled - FILLED) % LONGEST == 0 and self._speaks()

    def _speaks(self) -> bool:
        """Whether what repeats is words, and not code, a table or the like."""
        text = self.tokenizer.decode(self._tokens).strip()
        line = text[text.rfind("\n") + 1 :].lstrip()
        if text.count("```") % 2 or text[:1] in DATA or line[:1] in DATA:
            return False
        end = self.tokenizer.decode(self._tokens[-FILLED:])
        signs = [sign for sign in end if not sign.isspace()]
        letters = sum(map(str.isalpha, signs))
        return 2 * letters > len(signs) and len(end.split()) > FILLED / LONGEST


def close_thought(sampler: Sampler, tokenizer: Tokenizer) -> None:
    """The thought under way ends with the next token that is drawn, unless it did with
    the one that is being computed."""
    if not isinstance(sampler.limit, ThoughtLimit):
        sampler.limit = ThoughtLimit(tokenizer, 0, inside=True)
        if sampler.last is not None:
            sampler.limit.follow(sampler.last)
    sampler.limit.close()
