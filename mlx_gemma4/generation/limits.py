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
UNLIMITED = 2**30  # tokens of a thought
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
        self.closes_at: int | None = None  # number of the token that ends it by force
        self._start, self._end = marks[CHANNEL], marks[CHANNEL_END]
        self._call = marks.get(CALL, self._end)
        header = 0 if inside else len(tokenizer.encode(HEADER))
        self._open, self._count = mx.array([[inside]]), mx.array([[-header]])
        for token in begun:
            self.follow(mx.array([[token]]))

    def limited(
        self, tokens: mx.array, number: int = 0, drafts: mx.array | None = None
    ) -> mx.array:
        """Drawn `tokens` [n, 1], the first as number `number` of the answer, each
        behind those of `drafts` [1, n - 1] before it; or the mark that has to be in
        place of one."""
        opened, count, spent = self._open, self._count, []
        for i in range(len(tokens)):
            closes = self.closes_at is not None and number + i >= self.closes_at
            spent.append(opened if closes else opened & (count >= self.most))
            if i + 1 < len(tokens):
                assert drafts is not None
                opened, count = self._behind(opened, count, drafts[:, i : i + 1])
        end = mx.array(self._end, tokens.dtype)
        return mx.where(mx.concatenate(spent), end, tokens)

    def follow(self, token: mx.array) -> None:
        """Goes on behind a token, int `[1, 1]`."""
        self._open, self._count = self._behind(self._open, self._count, token)

    def _behind(
        self, opened: mx.array, count: mx.array, token: mx.array
    ) -> tuple[mx.array, mx.array]:
        closed = (token == self._end) | (token == self._call)
        return (opened | (token == self._start)) & ~closed, count + opened


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


def close_thought(sampler: Sampler, tokenizer: Tokenizer, number: int) -> None:
    """The thought under way ends with token `number` of the answer, or before it.

    What follows it may have been drawn: one token where decoding runs ahead.
    """
    if not isinstance(sampler.limit, ThoughtLimit):
        sampler.limit = ThoughtLimit(tokenizer, UNLIMITED, inside=True)
        if sampler.last is not None and sampler.count == number:
            sampler.limit.follow(sampler.last)
    sampler.limit.closes_at = sampler.redrawn = number
