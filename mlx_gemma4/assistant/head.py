"""The centroid head: scores of the tokens that are likely to be the best alone."""

import mlx.core as mx
import mlx.nn as nn

from ..config import AssistantConfig
from ..errors import CheckpointError
from ..kernels import dense


class CentroidHead(nn.Module):
    """The vocabulary in equal parts, each with a centroid; the tokens of the parts
    whose centroids score best are scored, and no others.

    As `Gemma4AssistantMaskedEmbedder` of transformers 5.24.
    """

    def __init__(self, config: AssistantConfig):
        super().__init__()
        hidden, size = config.text_config.hidden_size, config.text_config.vocab_size
        self.parts = config.num_centroids or 1
        self.best = config.centroid_intermediate_top_k or 1
        self.centroids = nn.Linear(hidden, self.parts, bias=False)
        self.token_ordering = mx.arange(size, dtype=mx.int32)  # ids, part after part

    def check(self) -> None:
        """Raises CheckpointError where a token is in no part, or in two."""
        ordered = mx.sort(self.token_ordering)
        if not mx.array_equal(ordered, mx.arange(ordered.size)).item():
            raise CheckpointError(
                "masked_embedding.token_ordering does not name each token once: the "
                "drafter is damaged. Download it again, or convert it anew."
            )

    def scores(self, h: mx.array, table: nn.Module) -> tuple[mx.array, mx.array]:
        """The ids of the chosen tokens and their scores, both [B, L, chosen].

        h: [B, L, hidden]. table: of embeddings, whose rows score the tokens.
        """
        of_parts = dense(self.centroids, h)
        order = mx.argpartition(-of_parts, self.best - 1, axis=-1)
        parts = self.token_ordering.reshape(self.parts, -1)
        ids = parts[order[..., : self.best]].reshape(*h.shape[:2], -1)
        return ids, (table(ids) @ h[..., None])[..., 0]

    def logits(self, h: mx.array, table: nn.Module) -> mx.array:
        """Of all tokens [B, L, vocab]; those that were not scored lie below the rest,
        by 1."""
        ids, scores = self.scores(h, table)
        shape = *h.shape[:2], self.token_ordering.size
        below = mx.broadcast_to(scores.min() - 1, shape)
        return mx.put_along_axis(below, ids, scores, axis=-1)

    def argmax(self, h: mx.array, table: nn.Module) -> mx.array:
        """The token that scores best, [B, L]."""
        ids, scores = self.scores(h, table)
        first = scores.argmax(axis=-1, keepdims=True)
        return mx.take_along_axis(ids, first, axis=-1)[..., 0]
