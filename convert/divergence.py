"""How two models' predictions differ, from logits in slices of the vocabulary.

All logits of a text at once would take a megabyte per token and model.
"""

import mlx.core as mx
import numpy as np

from .check import Fidelity, Rows, summary

NEVER = -float("inf")


class Predictions:
    """What a model says of the next tokens, so far.

    following: the tokens that come, [T].
    """

    def __init__(self, following: mx.array) -> None:
        self.following = following
        count = len(following)
        self.total = mx.full((count,), NEVER)  # logarithm of the sum of exponentials
        self.top = mx.full((count,), NEVER)
        self.best = mx.zeros((count,), mx.int32)
        self.own = mx.zeros((count,))  # logits of what does follow

    def add(self, first: int, logits: mx.array) -> None:
        """logits: [T, n] of the tokens `first` … first + n."""
        top = logits.max(-1)
        best = first + mx.argmax(logits, -1).astype(mx.int32)
        self.best = mx.where(top > self.top, best, self.best)
        self.top = mx.maximum(self.top, top)
        self.total = mx.logaddexp(self.total, mx.logsumexp(logits, -1))
        at = self.following - first
        inside = (at >= 0) & (at < logits.shape[-1])
        index = mx.where(inside, at, 0)[:, None]
        found = mx.take_along_axis(logits, index, -1)[:, 0]
        self.own = mx.where(inside, found, self.own)


class Divergence:
    """Of a model's predictions from those of its source."""

    def __init__(self, following: mx.array) -> None:
        self.predictions = Predictions(following)
        # The source's mean of the difference of the logits.
        self.mean = mx.zeros((len(following),))

    def add(
        self, first: int, wanted: mx.array, logits: mx.array, before: mx.array
    ) -> None:
        """wanted: the source's logits. before: its `total` without them."""
        total = mx.logaddexp(before, mx.logsumexp(wanted, -1))
        share = mx.exp(wanted - total[:, None])
        difference = (share * (wanted - logits)).sum(-1)
        self.mean = self.mean * mx.exp(before - total) + difference
        self.predictions.add(first, logits)
        mx.eval(self.mean, vars(self.predictions))

    def fidelity(self, source: Predictions) -> Fidelity:
        """source: with all of its logits. Raises CheckpointError for NaN."""
        ours = self.predictions
        divergence = self.mean - source.total + ours.total
        return summary(
            Rows(
                np.maximum(np.array(divergence), 0).tolist(),
                np.array(ours.total - ours.own).tolist(),
                np.array(source.total - source.own).tolist(),
                int(np.array(ours.best == source.best).sum()),
            )
        )
