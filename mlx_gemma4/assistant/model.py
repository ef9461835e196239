"""The drafter as one module: a token and a hidden state to the next of both.

Its layers are those of the text decoder without keys and values of their own: they read
what the model that it drafts for has in its caches, and nothing is appended to those.
Parameter names are the Hub's, with `language_model` for its leading `model`.
"""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn

from ..cache import Seen
from ..config import AssistantConfig, TextConfig
from ..kernels import Norm, dense
from ..layers import RMSNorm
from ..rope import Rotation, rope_periods, rotation_at
from ..text.decoder import DecoderLayer
from .head import CentroidHead


class Layers(nn.Module):
    """The layers between the two projections; the table is only their head."""

    def __init__(self, config: TextConfig):
        super().__init__()
        hidden, count = config.hidden_size, config.num_hidden_layers
        self.embed_tokens = nn.Embedding(config.vocab_size, hidden)
        self.layers = [DecoderLayer(config, layer) for layer in range(count)]
        self.norm = RMSNorm(hidden, config.rms_norm_eps)
        self.kinds = config.layer_types
        self._periods = {
            kind: rope_periods(
                config.layer_head_dim(layer), config.rope_parameters[kind]
            )
            for layer, kind in enumerate(config.layer_types)
        }

    def rotations(self, position: mx.array, dtype: mx.Dtype) -> dict[str, Rotation]:
        """Of each kind of layer, at `position` int32 [1]."""
        return {
            kind: rotation_at(periods, position, 1, dtype)
            for kind, periods in self._periods.items()
        }

    def __call__(
        self,
        h: mx.array,
        seen: Mapping[str, Seen],
        rotations: Mapping[str, Rotation],
    ) -> mx.array:
        """Hidden states after the final norm, [B, 1, hidden] as `h` is."""
        norms = [*(layer.input_layernorm for layer in self.layers[1:]), self.norm]
        x = self.layers[0].input_layernorm(h)
        for layer, kind, norm in zip(self.layers, self.kinds, norms, strict=True):
            attention, rotation = layer.self_attn, rotations[kind]
            queries = attention.queries(x, rotation, None)
            found = attention(queries, seen[kind], rotation, None)
            h, (x,) = layer(h, found, None, [Norm(norm.weight)])
        return x


class Assistant(nn.Module):
    """A drafter built from `config`, with untrained weights."""

    def __init__(self, config: AssistantConfig):
        super().__init__()
        self.config = config
        text, backbone = config.text_config, config.backbone_hidden_size
        self.pre_projection = nn.Linear(2 * backbone, text.hidden_size, bias=False)
        self.language_model = Layers(text)
        self.post_projection = nn.Linear(text.hidden_size, backbone, bias=False)
        if config.use_ordered_embeddings:
            self.masked_embedding = CentroidHead(config)

    def __call__(
        self,
        embedding: mx.array,
        state: mx.array,
        seen: Mapping[str, Seen],
        position: mx.array,
    ) -> tuple[mx.array, mx.array]:
        """Logits [B, 1, vocab] of the next token, and the state for the one after it,
        [B, 1, backbone].

        embedding: of the last token, scaled as the model's first layer gets it.
        state: the model's hidden state after its last norm where that token was drawn,
            or what this returned. Both are [B, 1, backbone].
        seen: of each kind of layer, the keys and values of the model's last layer of
            that kind which has its own (`Drafter.seen`).
        position: of the last token, int32 [1]; the same for all drafts of a round.
        """
        rotations = self.rotations(position, embedding.dtype)
        h = self.hidden(embedding, state, seen, rotations)
        return self.logits(h), self.next_state(h)

    def rotations(self, position: mx.array, dtype: mx.Dtype) -> dict[str, Rotation]:
        """Of queries at `position`, for all drafts of a round."""
        return self.language_model.rotations(position, dtype)

    def hidden(
        self,
        embedding: mx.array,
        state: mx.array,
        seen: Mapping[str, Seen],
        rotations: Mapping[str, Rotation],
    ) -> mx.array:
        """What both are made of, [B, 1, hidden]; arguments as above."""
        both = mx.concatenate([embedding, state], axis=-1)
        return self.language_model(dense(self.pre_projection, both), seen, rotations)

    def next_state(self, h: mx.array) -> mx.array:
        return dense(self.post_projection, h)

    def logits(self, h: mx.array) -> mx.array:
        table = self.language_model.embed_tokens
        if "masked_embedding" in self:
            return self.masked_embedding.logits(h, table)
        return dense(table, h)

    def argmax(self, h: mx.array) -> mx.array:
        """The likeliest token, [B, 1], with less work than by all logits."""
        if "masked_embedding" in self:
            return self.masked_embedding.argmax(h, self.language_model.embed_tokens)
        return self.logits(h).argmax(axis=-1)
