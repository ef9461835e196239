"""Per-layer inputs (PLE): a small extra embedding of each token for every layer.

Its token part comes from a table of its own, its context part from the token embedding;
each layer gates its slice by the hidden state and adds it to the residual.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from ..kernels import Norm, add_norms, gated

if TYPE_CHECKING:
    from .decoder import DecoderLayer, TextModel

# What a feed-forward network gives, as `add_norms` takes it: parts and weights.
FeedForward = tuple[list[mx.array], list[mx.array]]


def per_layer_inputs(
    model: "TextModel", tokens: mx.array, embeddings: mx.array
) -> list[mx.array | None]:
    """The input of each layer, `[B, L, hidden_size_per_layer_input]`.

    `tokens` [B, L] are ids with pad at the places of media, `embeddings` [B, L, hidden]
    what the first layer gets, media included.
    """
    layers, width = model.config.num_hidden_layers, model.per_layer_size
    shape = (*tokens.shape, layers, width)
    table = model.embed_tokens_per_layer(tokens) * width**0.5
    context = model.per_layer_model_projection(embeddings)
    context = context * model.config.hidden_size**-0.5
    context = model.per_layer_projection_norm(context.reshape(shape))
    combined = (context + table.reshape(shape)) * 2**-0.5
    return [combined[:, :, layer] for layer in range(layers)]


def no_per_layer_inputs(
    model: "TextModel", tokens: mx.array, embeddings: mx.array
) -> list[mx.array | None]:
    return [None] * model.config.num_hidden_layers


def finish(
    layer: "DecoderLayer",
    h: mx.array,
    feed_forward: FeedForward,
    per_layer_input: mx.array | None,
    following: Sequence[Norm],
) -> tuple[mx.array, list[mx.array]]:
    """The end of a layer without per-layer input: `h` [B, L, hidden] with what its
    feed-forward network gave, and the norms `following` it."""
    return add_norms(h, *feed_forward, layer.eps, layer.layer_scalar, following)


def finish_with_per_layer_input(
    layer: "DecoderLayer",
    h: mx.array,
    feed_forward: FeedForward,
    per_layer_input: mx.array | None,
    following: Sequence[Norm],
) -> tuple[mx.array, list[mx.array]]:
    """The same with the gated and projected input of this layer."""
    assert per_layer_input is not None
    h, _ = add_norms(h, *feed_forward, layer.eps)
    x = gated(layer.per_layer_input_gate, h, per_layer_input)
    projected = layer.per_layer_projection(x)
    weights = [layer.post_per_layer_input_norm.weight]
    scalar = layer.layer_scalar
    return add_norms(h, [projected], weights, layer.eps, scalar, following)
