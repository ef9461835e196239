"""Draws an answer's tokens: penalties, suppressed tokens, filters, limits.

The order is the reference's: the penalties first, then what is never drawn is taken
out, then the temperature and the filters. Presence and frequency count what was drawn,
as in OpenAI's API; the repetition penalty also what the prompt holds.
"""

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import mlx.core as mx

from ..errors import ChatError
from .drawing import Noise, drawing_with
from .settings import Sampling

GREEDY_BELOW = 1e-5  # temperatures that would divide the logits out of range


class Limit(Protocol):
    """What may put another token in the place of one that was drawn."""

    def limited(self, tokens: mx.array, number: int, drafts: mx.array) -> mx.array:
        """What stands in place of `tokens` [n, 1], that are drawn as number `number` of
        the answer, each behind those of `drafts` [1, n - 1] before it."""
        ...

    def follow(self, token: mx.array) -> None:
        """Goes on behind a token, int `[1, 1]`."""
        ...


class Sampler:
    """Draws one token after another, or several at once behind drafts; lazy, so that
    decoding can run ahead.

    Each token of an answer is drawn with noise of its own, that follows from the seed
    and its number in the answer: it is the same however many are drawn at once.

    rows: how many ids the model can read. A head may have more than these; what could
        not be read back is never drawn.
    suppressed: ids that are never drawn.
    bias: what is added to the logits of some ids.
    said: the answer's ids so far.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: list[int],
        rows: int,
        suppressed: Iterable[int] = (),
        bias: Mapping[int, float] | None = None,
        said: Sequence[int] = (),
    ):
        self.sampling, self.rows = sampling, rows
        self.limit: Limit | None = None
        self.count = 0  # of the answer's tokens
        self.last: mx.array | None = None  # of them
        # The number of one that is to be drawn anew where drafts drew it: what it is
        # held to has changed.
        self.redrawn: int | None = None
        never = set(suppressed)
        self._suppressed = _marked(never, rows) if never else None
        seed = sampling.seed
        self.seed = secrets.randbits(32) if seed is None else seed
        self._noise = Noise(self.seed, _kept(sampling, rows))
        self._draw = drawing_with(replace(sampling, seed=None))
        self._bias = _added(bias, rows) if bias else None
        self._seen: mx.array | None = None
        if sampling.repetition_penalty != 1.0:
            self._seen = _marked(prompt, rows)
        self._counts: mx.array | None = None
        if sampling.presence_penalty or sampling.frequency_penalty:
            self._counts = mx.zeros((1, rows))
        if said:
            self.note(mx.array([said]))

    def __call__(self, logits: mx.array, allowed: mx.array | None = None) -> mx.array:
        """`logits` [1, vocab] -> the drawn token, int `[1, 1]`; goes on behind it.

        allowed: bool `[1, rows]`, what may be drawn; None is all.
        """
        token = self.draw(logits, None, allowed)
        self.note(token)
        return token

    def draw(
        self,
        logits: mx.array,
        drafts: mx.array | None,
        allowed: mx.array | None = None,
    ) -> mx.array:
        """Tokens `[n, 1]` for `logits` [n, vocab], each as it would be drawn behind
        those of `drafts` [1, n - 1] before it. Nothing is gone on behind.

        allowed: bool `[n, rows]`, what may be drawn; None is all.
        """
        count = len(logits)
        logits = self._penalised(logits[:, : self.rows].astype(mx.float32), drafts)
        if self._bias is not None:
            logits = logits + self._bias
        if self._suppressed is not None:
            logits = mx.where(self._suppressed, -mx.inf, logits)
        if allowed is not None:
            logits = mx.where(allowed, logits, -mx.inf)
        if self.sampling.temperature < GREEDY_BELOW:
            tokens = mx.argmax(logits, axis=-1, keepdims=True)
        else:
            tokens = self._draw(logits, self._noise.rows(self.count, count))
        if self.limit is not None:
            before = mx.zeros((1, 0), mx.int32) if drafts is None else drafts
            tokens = self.limit.limited(tokens, self.count, before)
        return tokens

    def _penalised(self, logits: mx.array, drafts: mx.array | None) -> mx.array:
        """For what the answer says, and the prompt, up to each of them."""
        seen, counts = self._seen, self._counts
        if len(logits) > 1 and (seen is not None or counts is not None):
            assert drafts is not None
            said = _said_before(drafts, self.rows)
            seen = None if seen is None else seen | (said > 0)
            counts = None if counts is None else counts + said
        if seen is not None:
            logits = _weaker(logits, seen, self.sampling.repetition_penalty)
        if counts is not None:
            present = self.sampling.presence_penalty * (counts > 0)
            logits = logits - present - self.sampling.frequency_penalty * counts
        return logits

    def note(self, tokens: mx.array) -> None:
        """What follows was said: int `[1, n]`."""
        if self._seen is not None:
            self._seen = mx.put_along_axis(self._seen, tokens, mx.array(True), axis=-1)
        if self._counts is not None:
            self._counts = self._counts.at[0, tokens[0]].add(1)
        if self.limit is not None:
            for i in range(tokens.shape[1]):
                self.limit.follow(tokens[:, i : i + 1])
        self.count += tokens.shape[1]
        self.last = tokens[:, -1:]


def _kept(sampling: Sampling, rows: int) -> int:
    """How many of so many ids top-k keeps."""
    return sampling.top_k if 0 < sampling.top_k < rows else rows


def _marked(tokens: Iterable[int], rows: int) -> mx.array:
    """Bool `[1, rows]`, true for those of `tokens` that have a row."""
    marks = mx.zeros((1, rows), mx.bool_)
    if found := sorted(token for token in set(tokens) if token < rows):
        marks[:, mx.array(found, mx.int32)] = True
    return marks


def _added(bias: Mapping[int, float], rows: int) -> mx.array:
    """float32 `[1, rows]` of a bias by id. Raises ChatError."""
    for token, value in bias.items():
        if type(token) is not int or not 0 <= token < rows:
            raise ChatError(f"logit_bias names {token!r}, which is no id of the model.")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ChatError(f"logit_bias of {token} is {value!r}, which is no number.")
    ids = mx.array(list(bias), mx.int32)
    return mx.zeros((1, rows)).at[0, ids].add(mx.array(list(bias.values()), mx.float32))


def _said_before(drafts: mx.array, rows: int) -> mx.array:
    """How often each id stands among `drafts` [1, n - 1] before each of the n tokens:
    float32 `[n, rows]`."""
    each = (drafts[0, :, None] == mx.arange(rows)).astype(mx.float32)
    return mx.pad(mx.cumsum(each, axis=0), [(1, 0), (0, 0)])


def _weaker(logits: mx.array, seen: mx.array, penalty: float) -> mx.array:
    weaker = mx.where(logits < 0, logits * penalty, logits / penalty)
    return mx.where(seen, weaker, logits)
