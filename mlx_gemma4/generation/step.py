"""A step of decoding, with everything between two attentions compiled.

What Python does for each operation of a step takes a host longer than a fast GPU takes
to run it. The calls are those of the model's own layers; `mx.compile` keeps the graph
that they make, for each number of rows from its first use on. The weights are part of
that graph, and so is the choice of kernels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..cache import KeysValues, LayerCache
from ..kernels import Norm, in_use, without_gradients
from ..model import Gemma4

Arrays = Callable[..., list[mx.array]]


class DecodingStep:
    """What `model` does for one position, or for the few rows of a draft.

    compile: in place of `mx.compile`, for tests.
    """

    def __init__(self, model: Gemma4, compile: Callable[[Any], Any] = mx.compile):
        self._model, self._text = model, model.language_model
        self._made_of = _state(model)
        self._begin: Arrays = compile(self._before_first)
        layers = range(len(self._text.layers))
        self._behind: list[Arrays] = [compile(self._behind_of(i)) for i in layers]

    @property
    def is_current(self) -> bool:
        """Whether weights and kernels are still those that it was made with."""
        made, now = self._made_of, _state(self._model)
        return len(made) == len(now) and all(map(lambda a, b: a is b, made, now))

    def __call__(self, tokens: mx.array, cache: Sequence[LayerCache]) -> mx.array:
        """Logits [B, L, vocab] of `tokens` [B, L], none of them a medium's, which are
        appended to `cache`."""
        text = self._text
        offset, kinds = cache[0].offset, text.config.layer_types
        masks = text.masks(tokens.shape[1], offset)
        position = mx.array([offset], mx.int32)
        with without_gradients():
            h, queries, *rest = self._begin(tokens, position)
            rotations = text.rotations(position, tokens.shape[1], h.dtype)
            inputs, new = rest[: text.per_layer_count], rest[text.per_layer_count :]
            kv: dict[int, KeysValues] = {}
            for i, behind in enumerate(self._behind):
                if new:
                    kv[i] = cache[i].append(new)
                attention, kind = text.layers[i].self_attn, kinds[i]
                seen = kv[text.kv_sources[i]]
                found = attention(queries, seen, masks[kind], rotations[kind])
                h, *heads = behind(h, found, position, *inputs[i : i + 1])
                queries, new = (heads[0], heads[1:]) if heads else (h, ())
        return h

    def _before_first(self, tokens: mx.array, position: mx.array) -> list[mx.array]:
        """The first layer's input, queries, each layer's own input, keys and values."""
        text = self._text
        tokens = self._model.text_tokens(tokens)
        h = text.embed(tokens)
        inputs = [x for x in text.per_layer_inputs(tokens, h) if x is not None]
        queries, *new = self._heads(0, text.layers[0].input_layernorm(h), position)
        return [h, queries, *inputs, *new]

    def _behind_of(self, i: int) -> Arrays:
        """Of layer `i` what follows its attention, up to the next one's."""
        text, last = self._text, len(self._text.layers) - 1
        norms = [Norm(text.norms[i].weight)]

        def behind(
            h: mx.array, found: mx.array, position: mx.array, *own: mx.array
        ) -> list[mx.array]:
            h, (x,) = text.layers[i](h, found, own[0] if own else None, norms)
            if i == last:
                return [self._model.logits(x)]
            return [h, *self._heads(i + 1, x, position)]

        return behind

    def _heads(self, i: int, x: mx.array, position: mx.array) -> list[mx.array]:
        text = self._text
        rotations = text.rotations(position, x.shape[1], x.dtype)
        rotation = rotations[text.config.layer_types[i]]
        queries, new = text.layers[i].self_attn.queries_keys_values(x, rotation)
        return [queries, *new]


def _state(model: Gemma4) -> list[Any]:
    parts = model.language_model, model.get("lm_head", {})
    return [in_use(), *(array for _, array in tree_flatten(parts))]
