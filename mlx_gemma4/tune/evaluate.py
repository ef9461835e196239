"""What a model makes of examples: loss, perplexity, right tokens and right answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..model import Gemma4
from .batches import batch_hidden, batch_of
from .examples import Encoder, Example
from .losses import score


@dataclass(frozen=True)
class Report:
    """Over learned tokens. loss: mean, in nats. exact: examples of which the likeliest
    token is the right one everywhere, which is what greedy decoding would answer."""

    examples: int
    tokens: int
    loss: float
    accuracy: float
    exact: float

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: a loss that is no number is None."""
        known = math.isfinite(self.loss)
        return {
            "examples": self.examples,
            "tokens": self.tokens,
            "loss": round(self.loss, 6) if known else None,
            "perplexity": round(self.perplexity, 4) if known else None,
            "token_accuracy": round(self.accuracy, 6),
            "exact_match": round(self.exact, 6),
        }


def evaluate(model: Gemma4, encoder: Encoder, examples: Sequence[Example]) -> Report:
    """Score examples one by one, the answers given (teacher forcing)."""
    loss, tokens, right, exact = 0.0, 0, 0, 0
    for example in examples:
        batch = batch_of([example], encoder)
        h = batch_hidden(model, batch, checkpoint=False)
        mx.eval(h)
        summed, hits = score(model, h, batch.targets)
        loss += summed
        tokens += len(hits)
        right += sum(hits)
        exact += all(hits)
    count = max(1, tokens)
    rows = max(1, len(examples))
    return Report(len(examples), tokens, loss / count, right / count, exact / rows)
