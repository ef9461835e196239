"""From logits to a token: penalties, suppressed tokens, temperature, top-k, top-p,
min-p.

The order is the reference's: the penalties first, then what is never drawn is taken
out, then the temperature, and each filter on what the one before it left. Presence and
frequency count what was drawn, as in OpenAI's API; the repetition penalty also what the
prompt holds.
"""

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import NamedTuple

import mlx.core as mx

from .errors import ChatError

SORTED = 2048  # numbers that MLX sorts in one launch
GREEDY_BELOW = 1e-5  # temperatures that would divide the logits out of range


class Bounds(NamedTuple):
    """What a setting can be: from `low` to `high`, both included, and in words."""

    low: float
    high: float
    told: str
    whole: bool = False


ABOVE_0, BELOW_1 = math.ulp(0.0), math.nextafter(1.0, 0.0)
BOUNDS = {
    "temperature": Bounds(0, math.inf, "0 or more"),
    "top_p": Bounds(ABOVE_0, 1, "above 0 and at most 1"),
    "top_k": Bounds(0, math.inf, "0 (off) or more", whole=True),
    "min_p": Bounds(0, BELOW_1, "0 (off) or more and below 1"),
    "repetition_penalty": Bounds(ABOVE_0, math.inf, "above 0"),
    "presence_penalty": Bounds(-2, 2, "from -2 to 2"),
    "frequency_penalty": Bounds(-2, 2, "from -2 to 2"),
    "seed": Bounds(0, 2**64 - 1, "0 or more and below 2**64", whole=True),
}


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. A temperature of 0 takes the likeliest.

    top_k: keep this many tokens; 0 keeps all. top_p: keep the likeliest tokens that
    together reach this share. min_p: drop tokens below this share of the likeliest.
    repetition_penalty: above 1 makes tokens of prompt and answer less likely.
    presence_penalty: taken from the logits of tokens that the answer has;
    frequency_penalty: each time that it has them.
    seed: None draws one, so that it can be reported.

    Raises ChatError for a value that no token can be drawn with.
    """

    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 64
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, bounds in BOUNDS.items():
            _check(name, getattr(self, name), bounds)

    def but_with(self, **given: float | None) -> "Sampling":
        """The same, but for the fields `given` that are not None."""
        return replace(self, **{k: v for k, v in given.items() if v is not None})


SAMPLING = tuple(field.name for field in fields(Sampling))


def _check(name: str, value: object, bounds: Bounds) -> None:
    if value is None and name == "seed":
        return
    kinds = int if bounds.whole else int | float
    # To Python a bool is a number, and so is NaN.
    if isinstance(value, bool) or not isinstance(value, kinds) or value != value:
        kind = "whole number" if bounds.whole else "number"
        raise ChatError(f"{name} is {value!r}; it must be a {kind}.")
    if not bounds.low <= value <= bounds.high:
        raise ChatError(f"{name} is {value}; it must be {bounds.told}.")


class Sampler:
    """Draws one token after another; lazy, so that decoding can run ahead.

    rows: how many ids the model can read. A head may have more than these; what could
        not be read back is never drawn.
    suppressed: ids that are never drawn.
    said: the answer's ids so far.
    bias: what is added to the logits of some ids.
    limit: given each drawn token, says which takes its place.
    drawn: how many tokens were drawn before; those that follow are as they would have
        been.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: list[int],
        rows: int,
        suppressed: Iterable[int] = (),
        drawn: int = 0,
        bias: Mapping[int, float] | None = None,
        said: Sequence[int] = (),
    ):
        self.sampling, self.rows = sampling, rows
        self.limit: Callable[[mx.array], mx.array] | None = None
        self.last: mx.array | None = None  # that was drawn
        never = set(suppressed)
        self._suppressed = _marked(never, rows) if never else None
        seed = sampling.seed
        self.seed = secrets.randbits(32) if seed is None else seed
        self._key = mx.random.key(self.seed)
        for _ in range(drawn):
            self._key = mx.random.split(self._key)[0]
        if drawn:
            mx.eval(self._key)  # not with the first token: so deep a graph
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
        """`logits` [1, vocab] -> the drawn token, int `[1, 1]`.

        allowed: bool `[1, rows]`, what may be drawn; None is all.
        """
        logits = logits[:, : self.rows].astype(mx.float32)
        if self._seen is not None:
            logits = _penalise(logits, self._seen, self.sampling.repetition_penalty)
        if self._counts is not None:
            present, often = (
                self.sampling.presence_penalty,
                self.sampling.frequency_penalty,
            )
            logits = logits - present * (self._counts > 0) - often * self._counts
        if self._bias is not None:
            logits = logits + self._bias
        if self._suppressed is not None:
            logits = mx.where(self._suppressed, -mx.inf, logits)
        if allowed is not None:
            logits = mx.where(allowed, logits, -mx.inf)
        if self.sampling.temperature < GREEDY_BELOW:
            token = mx.argmax(logits, axis=-1, keepdims=True)
        else:
            self._key, key = mx.random.split(self._key)
            token = self._draw(logits, key=key)
        if self.limit is not None:
            token = self.limit(token)
        self.last = token
        self.note(token)
        return token

    def note(self, tokens: mx.array) -> None:
        """What follows was said: int `[1, n]`."""
        if self._seen is not None:
            self._seen = mx.put_along_axis(self._seen, tokens, mx.array(True), axis=-1)
        if self._counts is not None:
            self._counts = self._counts.at[0, tokens[0]].add(1)


@lru_cache(maxsize=16)
def drawing_with(sampling: Sampling) -> Callable[..., mx.array]:
    """`draw` with these settings, as few launches as can be where there is a GPU."""
    drawing = partial(draw, sampling=sampling)
    return mx.compile(drawing) if mx.metal.is_available() else drawing


def draw(logits: mx.array, sampling: Sampling, key: mx.array) -> mx.array:
    """Draw from `logits` [1, vocab] with all filters applied: int `[1, 1]`."""
    vocab = logits.shape[-1]
    k = sampling.top_k if 0 < sampling.top_k < vocab else vocab
    if k == vocab and sampling.top_p == 1 and sampling.min_p == 0:
        return mx.random.categorical(logits / sampling.temperature, key=key)[:, None]
    best = likeliest(logits, k)
    logits = mx.take_along_axis(logits, best, axis=-1) / sampling.temperature
    kept = filter_sorted(logits, sampling)
    return mx.take_along_axis(best, mx.random.categorical(kept, key=key)[:, None], -1)


def likeliest(logits: mx.array, k: int) -> mx.array:
    """Where the `k` largest of `logits` [rows, n] are, in falling order: [rows, k].

    The `k` largest lie in the `k` blocks whose largest are the largest, so that nothing
    long has to be sorted, which takes many launches.
    """
    size = logits.shape[-1]
    width = size // max(SORTED, 4 * k)
    if width < 2:
        return mx.argsort(-logits, axis=-1)[:, :k]
    count = size // width
    blocks = logits[:, : count * width].reshape(-1, count, width).max(axis=-1)
    blocks = mx.argpartition(blocks, kth=-k, axis=-1)[:, -k:]
    within = mx.arange(width, dtype=blocks.dtype)
    some = (blocks[..., None] * width + within).reshape(-1, k * width)
    if rest := size - count * width:  # shorter than a block
        behind = mx.arange(size - rest, size, dtype=some.dtype)
        behind = mx.broadcast_to(behind, (len(some), rest))
        some = mx.concatenate([some, behind], axis=-1)
    best = likeliest(mx.take_along_axis(logits, some, axis=-1), k)
    return mx.take_along_axis(some, best, axis=-1)


def filter_sorted(logits: mx.array, sampling: Sampling) -> mx.array:
    """Apply top-p and min-p to `logits` [1, k] in falling order; -inf = dropped.

    The likeliest meets both, and stays.
    """
    shares = mx.softmax(logits, axis=-1)
    before = mx.cumsum(shares, axis=-1) - shares
    keep = before < sampling.top_p
    keep = keep & (shares >= sampling.min_p * shares[:, :1])
    return mx.where(keep, logits, -mx.inf)


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


def _penalise(logits: mx.array, seen: mx.array, penalty: float) -> mx.array:
    weaker = mx.where(logits < 0, logits * penalty, logits / penalty)
    return mx.where(seen, weaker, logits)
