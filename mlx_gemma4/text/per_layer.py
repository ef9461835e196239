"""Per-layer inputs (PLE): a small extra embedding of each token for every layer.

Its token part comes from a table of its own, its context part from the token embedding;
each layer gates its slice by the hidden state and adds it to the residual.
"""

from typing import TYPE_CHECKING

import mlx.core as mx

from ..layers import geglu

if TYPE_CHECKING:
    from .decoder import DecoderLayer, TextModel


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


def add_per_layer_input(
    layer: "DecoderLayer", h: mx.array, per_layer_input: mx.array | None
) -> mx.array:
    """`h` [B, L, hidden] plus the gated and projected input of this layer."""
    assert per_layer_input is not None
    gated = geglu(layer.per_layer_input_gate(h), per_layer_input)
    return h + layer.post_per_layer_input_norm(layer.per_layer_projection(gated))


def add_nothing(
    layer: "DecoderLayer", h: mx.array, per_layer_input: mx.array | None
) -> mx.array:
    return h
