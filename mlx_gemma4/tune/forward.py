"""The forward pass of training: hidden states, layer by layer, without a cache.

With checkpointing only the residual between layers and the keys and values that later
layers share are kept; all else of a layer is computed again for its gradient.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from ..cache import Seen
from ..media import Media
from ..model import Gemma4
from ..rope import Rotation
from ..text.decoder import DecoderLayer
from ..text.masks import Mask

# Hidden states, keys and values of layers that share them, input of the layer.
Step = Callable[[list[mx.array]], list[mx.array]]


def hidden_states(
    model: Gemma4, tokens: mx.array, media: Media | None = None, checkpoint: bool = True
) -> mx.array:
    """Hidden states [B, L, hidden] of `tokens` [B, L] after the final norm.

    Rows may be padded at their end: what stands there is seen by no earlier position.
    checkpoint: compute layers twice, and keep little in between.
    """
    text, plain, blocks = model.language_model, model.text_tokens(tokens), None
    h, length = text.embed(plain), tokens.shape[1]
    if media is not None:
        h, blocks = model.embed(tokens, media), model.vision_blocks(tokens)
    inputs = text.per_layer_inputs(plain, h)
    masks = text.masks(length, blocks=blocks, gradients=True)
    rotations = text.rotations(mx.zeros(1, mx.int32), length, h.dtype)
    kv: dict[int, list[mx.array]] = {}
    for i, layer in enumerate(text.layers):
        kind, source = text.config.layer_types[i], text.kv_sources[i]
        shared = [] if layer.self_attn.has_own_kv else kv[source]
        step = _step(layer, rotations[kind], masks[kind], len(shared))
        own = [] if (given := inputs[i]) is None else [given]
        h, *made = _run(layer, step, [h, *shared, *own], checkpoint)
        if made:
            kv[i] = made
    return text.norm(h)


def _step(layer: DecoderLayer, rotation: Rotation, mask: Mask, shared: int) -> Step:
    """One layer as a function of arrays, as `mx.checkpoint` needs it.

    shared: how many of these are keys and values of an earlier layer.
    """

    def step(arrays: list[mx.array]) -> list[mx.array]:
        h, *rest = arrays
        attention, x = layer.self_attn, layer.input_layernorm(h)
        kv, rest = rest[:shared], rest[shared:]
        made = [] if shared else list(attention.keys_values(x, rotation))
        queries, seen = attention.queries(x, rotation, mask), Seen.all_of(kv or made)
        found = attention(queries, seen, rotation, mask)
        h, _ = layer(h, found, rest[0] if rest else None)
        return [h, *made]

    return step


def _run(
    layer: DecoderLayer, step: Step, arrays: list[mx.array], checkpoint: bool
) -> list[mx.array]:
    if not checkpoint:
        return step(arrays)
    learned: dict[str, mx.array] = dict(tree_flatten(layer.trainable_parameters()))

    # What is learned has to be an argument: a checkpoint sees no other gradients.
    def again(learned: dict[str, mx.array], arrays: list[mx.array]) -> Any:
        if learned:
            layer.update(tree_unflatten(list(learned.items())))
        return step(arrays)

    return mx.checkpoint(again)(learned, arrays)
