"""Decoding, with everything between two attentions of a step compiled.

What Python does for each operation of a step can take a host longer than a fast GPU
takes to run it. The calls are those of the model's own layers; `mx.compile` keeps the
graph that they make, for each number of rows from its first use on. The weights are
part of that graph, and so is the choice of kernels.
"""

import operator
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from ..cache import LayerCache, PackedSeen, Seen
from ..kernels import Norm, in_use, without_gradients
from ..model import Gemma4
from ..text.decoder import TextModel

Arrays = Callable[..., list[mx.array]]
# Logits [B, L, vocab], and the hidden states [B, L, hidden] that they are made of.
Found = tuple[mx.array, mx.array]
Step = Callable[[mx.array, Sequence[LayerCache]], Found]
Together = Callable[[mx.array, Sequence[Sequence[LayerCache]]], Found]


def step_of(model: Gemma4) -> Step:
    """What decodes with `model`: its own layers where there is no GPU.

    It is made anew where weights were replaced. What was changed in place is not
    noticed: set `model.step` to None behind it.
    """
    if not mx.metal.is_available():
        return partial(_plain, model)
    if not isinstance(model.step, Steps):
        model.step = Steps()
    kept, kernels = model.step.by_kernels, in_use()
    if not all(step.is_current(model) for step in kept.values()):
        kept.clear()  # what they hold of older weights first
    if kernels not in kept:
        kept[kernels] = DecodingStep(model)
    return kept[kernels]


def together_of(model: Gemma4) -> Together:
    """What decodes a token of each of several answers."""
    step = step_of(model)
    if not isinstance(step, DecodingStep):
        step = DecodingStep(model, lambda f: f)
    return step.together


class Steps:
    """Those of a model, each with the choice of kernels that it was made with."""

    def __init__(self) -> None:
        self.by_kernels: dict[object, DecodingStep] = {}

    def __reduce__(self) -> "tuple[type[Steps], tuple[()]]":
        """A copy of a model makes its own."""
        return Steps, ()


class DecodingStep:
    """What `model` does for one position, or for the few rows of a draft.

    compile: in place of `mx.compile`, for tests.
    """

    def __init__(self, model: Gemma4, compile: Callable[[Any], Any] = mx.compile):
        self._made_of = _made_of(model)
        # Weakly: a model holds its step, and the weights are to go with the model.
        self._model = proxy = cast(Gemma4, weakref.proxy(model))
        text, layers = model.language_model, range(len(model.layers))
        self._dtype, self._last_own = text.norm.weight.dtype, text.last_own_layer
        self._sources = _sources(text)
        self._attentions = [layer.self_attn for layer in text.layers]
        self._compile = compile
        self._begin: Arrays = compile(_before_first(proxy))
        self._behind: list[Arrays] = [compile(_behind(proxy, i)) for i in layers]
        self._rest_for: tuple[list[tuple[int, ...]], Arrays] | None = None

    def is_current(self, model: Gemma4) -> bool:
        """Whether the weights are still those that it was made with."""
        made, now = self._made_of, _made_of(model)
        return len(made) == len(now) and all(map(operator.is_, made, now))

    def __call__(self, tokens: mx.array, cache: Sequence[LayerCache]) -> Found:
        """What is found at `tokens` [B, L], none of them a medium's, which are appended
        to `cache`."""
        text = self._model.language_model
        kinds, sources = text.config.layer_types, text.kv_sources
        offset = cache[0].offset
        position, L = mx.array([offset], mx.int32), tokens.shape[1]
        masks = text.masks(L, offset)
        rotations = text.rotations(position, L, self._dtype)
        seen: dict[int, Seen] = {}
        with without_gradients():
            h, queries, *rest = self._begin(tokens, position, *text.table_rows(tokens))
            inputs, new = rest[: text.per_layer_count], rest[text.per_layer_count :]
            for i, behind in enumerate(self._behind):
                if new:
                    seen[i] = cache[i].append(new)
                turn = rotations[kinds[i]], masks[kinds[i]]
                found = self._attentions[i](queries, seen[sources[i]], *turn)
                if i == self._last_own and self._rest_fits(L, seen):
                    buffers = [seen[j].buffer for j in self._sources]
                    filled = [mx.array([seen[j].end], mx.int32) for j in self._sources]
                    finish = self._rest(buffers)
                    found = finish(h, found, position, inputs[i:], buffers, filled)
                    return found[0], found[1]
                h, queries, *new = behind(h, found, position, *inputs[i : i + 1])
        return h, queries

    def together(
        self, tokens: mx.array, caches: Sequence[Sequence[LayerCache]]
    ) -> Found:
        """The same of `tokens` [B, 1] of as many answers, each behind what caches of
        its own hold: rows differ in attention alone."""
        text = self._model.language_model
        kinds, sources = text.config.layer_types, text.kv_sources
        position = mx.array([cache[0].offset for cache in caches], mx.int32)
        rows = [slice(b, b + 1) for b in range(len(caches))]
        turns = [
            {
                kind: replace(turn, position=position[row], angles=None)
                for kind, turn in text.rotations(position, 1, self._dtype).items()
            }
            for row in rows
        ]
        seen: list[dict[int, Seen]] = [{} for _ in caches]
        each = [*zip(rows, caches, seen, turns, strict=True)]
        with without_gradients():
            h, queries, *rest = self._begin(tokens, position, *text.table_rows(tokens))
            inputs, new = rest[: text.per_layer_count], rest[text.per_layer_count :]
            for i, behind in enumerate(self._behind):
                attention, source, found = self._attentions[i], sources[i], []
                for row, cache, own, turn in each:
                    if new:
                        own[i] = cache[i].append([part[row] for part in new])
                    asked = queries[row], own[source], turn[kinds[i]]
                    found.append(attention(*asked, None))
                both = mx.concatenate(found), position
                h, queries, *new = behind(h, *both, *inputs[i : i + 1])
        return h, queries

    def _rest(self, buffers: Sequence[mx.array]) -> Arrays:
        """What follows the last own keys, for buffers like these alone: they grow, and
        each graph holds megabytes."""
        shapes = [each.shape for each in buffers]
        if self._rest_for is None or self._rest_for[0] != shapes:
            rest = self._compile(_rest_behind(self._model, self._last_own))
            self._rest_for = shapes, rest
        return self._rest_for[1]

    def _rest_fits(self, rows: int, seen: dict[int, Seen]) -> bool:
        """Whether layers with shared keys can all read the buffers of these."""
        sources = self._model.language_model.kv_sources
        if any(isinstance(seen[i], PackedSeen) for i in self._sources):
            return False
        return bool(self._sources) and all(
            attention.reads_slots(rows, seen[source].buffer, self._dtype)
            for attention, source in zip(self._attentions, sources, strict=True)
            if not attention.has_own_kv
        )


def _plain(model: Gemma4, tokens: mx.array, cache: Sequence[LayerCache]) -> Found:
    hidden = model.hidden(tokens, cache)
    return model.logits(hidden), hidden


def _made_of(model: Gemma4) -> list[Any]:
    parts = model.language_model, model.get("lm_head", {})
    return [array for _, array in tree_flatten(parts)]


def _before_first(model: Gemma4) -> Arrays:
    """The first layer's input and queries, then each layer's own input, then the first
    layer's keys and values."""

    def begin(tokens: mx.array, position: mx.array, *rows: mx.array) -> list[mx.array]:
        text, tokens = model.language_model, model.text_tokens(tokens)
        h = text.embed(tokens)
        inputs = [x for x in text.per_layer_inputs(tokens, h, rows) if x is not None]
        x = text.layers[0].input_layernorm(h)
        queries, *new = _heads(text, 0, x, position)
        return [h, queries, *inputs, *new]

    return begin


def _behind(model: Gemma4, i: int) -> Arrays:
    """What follows the attention of layer `i`, up to that of the next layer."""

    def behind(
        h: mx.array, found: mx.array, position: mx.array, *own: mx.array
    ) -> list[mx.array]:
        text = model.language_model
        norm = Norm(text.norms[i].weight)
        h, (x,) = text.layers[i](h, found, own[0] if own else None, [norm])
        if i == len(text.layers) - 1:
            return [model.logits(x), x]
        return [h, *_heads(text, i + 1, x, position)]

    return behind


def _sources(text: TextModel) -> list[int]:
    """The layers whose keys and values others share."""
    return sorted(set(text.kv_sources[text.last_own_layer + 1 :]))


def _rest_behind(model: Gemma4, last_own: int) -> Arrays:
    """What follows the attention of the last layer with keys of its own, to the end.

    buffers, filled: of the caches of `_sources`, and how many slots of each count.
    """

    def rest(
        h: mx.array,
        found: mx.array,
        position: mx.array,
        inputs: list[mx.array],
        buffers: list[mx.array],
        filled: list[mx.array],
    ) -> list[mx.array]:
        text = model.language_model
        rotations = text.rotations(position, h.shape[1], h.dtype)
        slots = dict(
            zip(_sources(text), zip(buffers, filled, strict=True), strict=True)
        )
        x = h
        for i in range(last_own, len(text.layers)):
            layer, rotation = text.layers[i], rotations[text.config.layer_types[i]]
            if i > last_own:
                queries = layer.self_attn.queries(x, rotation, None)
                source = slots[text.kv_sources[i]]
                found = layer.self_attn.in_slots(queries, *source, rotation)
            own = inputs[i - last_own] if inputs else None
            h, (x,) = layer(h, found, own, [Norm(text.norms[i].weight)])
        return [model.logits(x), x]

    return rest


def _heads(text: TextModel, i: int, x: mx.array, position: mx.array) -> list[mx.array]:
    kind = text.config.layer_types[i]
    rotation = text.rotations(position, x.shape[1], x.dtype)[kind]
    queries, new = text.layers[i].self_attn.queries_keys_values(x, rotation, None)
    return [queries, *new]
