"""From logits to a token: repetition penalty, temperature, top-k, top-p, min-p.

The order is the reference's: the penalty first, then the temperature, and each filter
on what the one before it left.
"""

import secrets
from dataclasses import dataclass

import mlx.core as mx

from .errors import ChatError

GREEDY_BELOW = 1e-5  # temperatures that would divide the logits out of range


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. A temperature of 0 takes the likeliest.

    top_k: keep this many tokens; 0 keeps all. top_p: keep the likeliest tokens that
    together reach this share. min_p: drop tokens below this share of the likeliest.
    repetition_penalty: above 1 makes tokens of prompt and answer less likely.
    seed: None draws one, so that it can be reported.
    """

    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 64
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        whole, real = (int, type(None)), (int, float)
        kinds = {"top_k": whole[:1], "seed": whole}
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if not isinstance(value, kinds.get(name, real)) or value != value:
                raise ChatError(f"{name} is {value!r}; it must be a number.")
        if not isinstance(self.seed, whole):
            raise ChatError(f"seed is {self.seed!r}; it must be a whole number.")
        limits = {
            "temperature": self.temperature >= 0,
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "min_p": 0 <= self.min_p < 1,
            "repetition_penalty": self.repetition_penalty > 0,
            "seed": self.seed is None or 0 <= self.seed < 2**64,
        }
        allowed = {
            "temperature": "0 or more",
            "top_p": "above 0 and at most 1",
            "top_k": "0 (off) or more",
            "min_p": "0 (off) or more and below 1",
            "repetition_penalty": "above 0",
            "seed": "0 or more and below 2**64",
        }
        for name, holds in limits.items():
            if not holds:
                value = getattr(self, name)
                raise ChatError(f"{name} is {value}; it must be {allowed[name]}.")


class Sampler:
    """Draws one token after another; lazy, so that decoding can run ahead."""

    def __init__(self, sampling: Sampling, prompt: list[int], vocab_size: int):
        self.sampling = sampling
        seed = sampling.seed
        self.seed = secrets.randbits(32) if seed is None else seed
        self._key = mx.random.key(self.seed)
        self._seen: mx.array | None = None
        if sampling.repetition_penalty != 1.0:
            self._seen = mx.zeros((1, vocab_size), mx.bool_)
            self._seen[:, mx.array(sorted(set(prompt)))] = True

    def __call__(self, logits: mx.array) -> mx.array:
        """`logits` [1, vocab] -> the drawn token, int `[1, 1]`."""
        logits = logits.astype(mx.float32)
        if self._seen is not None:
            logits = _penalise(logits, self._seen, self.sampling.repetition_penalty)
        if self.sampling.temperature < GREEDY_BELOW:
            token = mx.argmax(logits, axis=-1, keepdims=True)
        else:
            self._key, key = mx.random.split(self._key)
            token = draw(logits, self.sampling, key)
        if self._seen is not None:
            self._seen = mx.put_along_axis(self._seen, token, mx.array(True), axis=-1)
        return token


def draw(logits: mx.array, sampling: Sampling, key: mx.array) -> mx.array:
    """Draw from `logits` [1, vocab] with all filters applied: int `[1, 1]`."""
    logits = logits / sampling.temperature
    vocab = logits.shape[-1]
    k = sampling.top_k if 0 < sampling.top_k < vocab else vocab
    if k == vocab and sampling.top_p == 1 and sampling.min_p == 0:
        return mx.random.categorical(logits, key=key)[:, None]
    best = mx.argpartition(-logits, kth=min(k, vocab - 1), axis=-1)[:, :k]
    order = mx.argsort(-mx.take_along_axis(logits, best, axis=-1), axis=-1)
    best = mx.take_along_axis(best, order, axis=-1)  # [1, k], likeliest first
    kept = filter_sorted(mx.take_along_axis(logits, best, axis=-1), sampling)
    return mx.take_along_axis(best, mx.random.categorical(kept, key=key)[:, None], -1)


def filter_sorted(logits: mx.array, sampling: Sampling) -> mx.array:
    """Apply top-p and min-p to `logits` [1, k] in falling order; -inf = dropped."""
    shares = mx.softmax(logits, axis=-1)
    before = mx.cumsum(shares, axis=-1) - shares
    keep = before < sampling.top_p
    keep = keep & (shares >= sampling.min_p * shares[:, :1])
    keep = keep | (mx.arange(logits.shape[-1]) == 0)  # the likeliest always stays
    return mx.where(keep, logits, -mx.inf)


def _penalise(logits: mx.array, seen: mx.array, penalty: float) -> mx.array:
    weaker = mx.where(logits < 0, logits * penalty, logits / penalty)
    return mx.where(seen, weaker, logits)
