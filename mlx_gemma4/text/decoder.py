"""The stack of decoder layers.

What differs between models (experts, per-layer inputs, shared keys and values) is
chosen when a layer is built; the forward pass has no conditions on the configuration.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..cache import LayerCache
from ..config import FULL, SLIDING, TextConfig
from ..kernels import Norm, add_norms
from ..layers import RMSNorm, geglu
from ..rope import RoPE, Turn
from .attention import Attention, KeysValues
from .masks import Mask, causal_mask, picture_mask, window_mask
from .moe import Experts, Router
from .per_layer import (
    FeedForward,
    finish,
    finish_with_per_layer_input,
    no_per_layer_inputs,
    per_layer_inputs,
)


class MLP(nn.Module):
    """GeGLU feed-forward network; twice as wide in KV-shared layers where asked."""

    def __init__(self, config: TextConfig, layer: int):
        super().__init__()
        shared = layer >= config.first_kv_shared_layer
        double = config.use_double_wide_mlp and shared
        width = config.intermediate_size * (2 if double else 1)
        self.gate_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(geglu(self.gate_proj(x), self.up_proj(x)))


def _norms_of_dense(layer: "DecoderLayer") -> list[Norm]:
    return [Norm(layer.pre_feedforward_layernorm.weight)]


def _norms_of_dense_and_experts(layer: "DecoderLayer") -> list[Norm]:
    experts = Norm(layer.pre_feedforward_layernorm_2.weight)
    return [*_norms_of_dense(layer), experts, layer.router.norm]


def _dense(layer: "DecoderLayer", x: mx.array) -> FeedForward:
    return [layer.mlp(x)], [layer.post_feedforward_layernorm.weight]


def _dense_and_experts(
    layer: "DecoderLayer", x: mx.array, for_experts: mx.array, for_router: mx.array
) -> FeedForward:
    tokens = for_experts.reshape(-1, x.shape[-1])  # [T, hidden]
    chosen = layer.router.choose(for_router.reshape(tokens.shape))
    sparse = layer.experts(tokens, *chosen).reshape(x.shape)
    norms = (
        layer.post_feedforward_layernorm_1,
        layer.post_feedforward_layernorm_2,
        layer.post_feedforward_layernorm,
    )
    return [layer.mlp(x), sparse], [norm.weight for norm in norms]


class DecoderLayer(nn.Module):
    """Attention, feed-forward and per-layer input, each with its own residual."""

    def __init__(self, config: TextConfig, layer: int):
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config, layer)
        self.input_layernorm = RMSNorm(hidden, eps)
        self.post_attention_layernorm = RMSNorm(hidden, eps)
        self.pre_feedforward_layernorm = RMSNorm(hidden, eps)
        self.post_feedforward_layernorm = RMSNorm(hidden, eps)
        self.layer_scalar = mx.ones((1,))
        self.eps = eps
        self._norms, self._feed_forward = _norms_of_dense, _dense
        self._finish = finish
        if config.enable_moe_block:
            self.router = Router(config)
            self.experts = Experts(config)
            self.post_feedforward_layernorm_1 = RMSNorm(hidden, eps)
            self.post_feedforward_layernorm_2 = RMSNorm(hidden, eps)
            self.pre_feedforward_layernorm_2 = RMSNorm(hidden, eps)
            self._norms = _norms_of_dense_and_experts
            self._feed_forward = _dense_and_experts
        if size := config.hidden_size_per_layer_input:
            self.per_layer_input_gate = nn.Linear(hidden, size, bias=False)
            self.per_layer_projection = nn.Linear(size, hidden, bias=False)
            self.post_per_layer_input_norm = RMSNorm(hidden, eps)
            self._finish = finish_with_per_layer_input

    def __call__(
        self,
        h: mx.array,
        attended: mx.array,
        per_layer_input: mx.array | None,
        following: Sequence[Norm] = (),
    ) -> tuple[mx.array, list[mx.array]]:
        """The layer behind its attention: all arguments and results [B, L, …].

        Also returns the result's norms that are asked for: what comes next, the norm
        of another layer or of the model, is often computed with the sum before it.
        """
        after = [self.post_attention_layernorm.weight]
        h, normed = add_norms(h, [attended], after, self.eps, norms=self._norms(self))
        feed_forward = self._feed_forward(self, *normed)
        return self._finish(self, h, feed_forward, per_layer_input, following)


class TextModel(nn.Module):
    """Embeddings, layers and final norm; parameters named as on the Hub."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        hidden, count = config.hidden_size, config.num_hidden_layers
        self.embed_tokens = nn.Embedding(config.vocab_size, hidden)
        self.layers = [DecoderLayer(config, layer) for layer in range(count)]
        self.norm = RMSNorm(hidden, config.rms_norm_eps)
        self.kv_sources = [config.kv_source(layer) for layer in range(count)]
        self._ropes = {
            kind: RoPE(config.layer_head_dim(layer), config.rope_parameters[kind])
            for layer, kind in enumerate(config.layer_types)
        }
        self.last_own_layer = config.first_kv_shared_layer - 1
        self.per_layer_size = size = config.hidden_size_per_layer_input
        self._per_layer_inputs = no_per_layer_inputs
        if size:
            rows = config.vocab_size_per_layer_input
            self.embed_tokens_per_layer = nn.Embedding(rows, count * size)
            self.per_layer_model_projection = nn.Linear(
                hidden, count * size, bias=False
            )
            self.per_layer_projection_norm = RMSNorm(size, config.rms_norm_eps)
            self._per_layer_inputs = per_layer_inputs

    def embed(self, tokens: mx.array) -> mx.array:
        """Embeddings of `tokens` [B, L], scaled as the first layer expects them."""
        return self.embed_tokens(tokens) * self.config.hidden_size**0.5

    def __call__(
        self,
        tokens: mx.array,
        cache: Sequence[LayerCache] | None = None,
        embeddings: mx.array | None = None,
        blocks: mx.array | None = None,
        last_only: bool = False,
    ) -> mx.array:
        """Hidden states after the final norm.

        tokens: ids [B, L], pad at the places of media.
        cache: of the layers with own keys and values; they are appended to it.
        embeddings: [B, L, hidden] in place of the embedded tokens.
        blocks: numbers of pictures [B, L] (see `masks.vision_blocks`) or None.
        last_only: return [B, 1, hidden]; what only serves earlier positions is not
            computed.
        """
        h = self.embed(tokens) if embeddings is None else embeddings
        inputs = self._per_layer_inputs(self, tokens, h)
        offset = cache[0].offset if cache else 0
        masks = self._masks(tokens.shape[1], offset, cache is not None, blocks)
        turns = self.rotations(offset, tokens.shape[1], h.dtype)
        kv: dict[int, KeysValues] = {}
        norms = [*(layer.input_layernorm for layer in self.layers[1:]), self.norm]
        x = self.layers[0].input_layernorm(h)
        for i, layer in enumerate(self.layers):
            attention = layer.self_attn
            kind = self.config.layer_types[i]
            if attention.has_own_kv:
                own = cache[i] if cache else None
                kv[i] = attention.keys_values(x, turns[kind], own)
            if last_only and i == self.last_own_layer and h.shape[1] > 1:
                turns = self.rotations(offset + h.shape[1] - 1, 1, h.dtype)
                h, x, inputs = h[:, -1:], x[:, -1:], [_last(y) for y in inputs]
                kv, masks = self._seen_by_last(kv), {SLIDING: None, FULL: None}
            attended = attention(x, turns[kind], kv[self.kv_sources[i]], masks[kind])
            h, (x,) = layer(h, attended, inputs[i], [Norm(norms[i].weight)])
        return x

    def rotations(self, offset: int, length: int, dtype: mx.Dtype) -> dict[str, Turn]:
        """Of each kind of layer, for `length` positions from `offset` on."""
        return {k: rope.at(offset, length, dtype) for k, rope in self._ropes.items()}

    def _masks(
        self, L: int, offset: int, cached: bool, blocks: mx.array | None
    ) -> dict[str, Mask]:
        window = self.config.sliding_window
        # A sliding cache hands out the window of the first query and what follows.
        keys = min(offset, window - 1) + L if cached else L
        full = causal_mask(L, offset + L)
        if blocks is not None and L > 1:
            return {FULL: full, SLIDING: picture_mask(blocks, keys, window)}
        return {FULL: full, SLIDING: window_mask(L, keys, window)}

    def _seen_by_last(self, kv: dict[int, KeysValues]) -> dict[int, KeysValues]:
        window = self.config.sliding_window
        return {
            i: (keys[:, :, -window:], values[:, :, -window:])
            if self.config.is_sliding(i)
            else (keys, values)
            for i, (keys, values) in kv.items()
        }


def _last(x: mx.array | None) -> mx.array | None:
    return None if x is None else x[:, -1:]
