"""The stack of decoder layers.

Models differ in experts, per-layer inputs and shared keys and values: a layer has the
modules of what it does, and nothing else.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..cache import LayerCache, Seen
from ..config import FULL, SLIDING, TextConfig
from ..kernels import Norm, add_norms, dense, gated, gated_pair
from ..layers import RMSNorm
from ..rope import Rotation, rope_periods, rotation_at
from .attention import Attention
from .masks import Band, Mask, causal_mask, picture_mask, window_mask
from .moe import Experts, Router
from .table import RowTable


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
        return dense(self.down_proj, gated_pair(self.gate_proj, self.up_proj, x))


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
        self.has_experts = config.enable_moe_block
        if self.has_experts:
            self.router = Router(config)
            self.experts = Experts(config)
            self.post_feedforward_layernorm_1 = RMSNorm(hidden, eps)
            self.post_feedforward_layernorm_2 = RMSNorm(hidden, eps)
            self.pre_feedforward_layernorm_2 = RMSNorm(hidden, eps)
        size = config.hidden_size_per_layer_input
        self.has_per_layer_input = size > 0
        if self.has_per_layer_input:
            self.per_layer_input_gate = nn.Linear(hidden, size, bias=False)
            self.per_layer_projection = nn.Linear(size, hidden, bias=False)
            self.post_per_layer_input_norm = RMSNorm(hidden, eps)

    def __call__(
        self,
        h: mx.array,
        found: mx.array,
        per_layer_input: mx.array | None,
        following: Sequence[Norm] = (),
    ) -> tuple[mx.array, list[mx.array]]:
        """The layer behind its attention, which has `found` what goes to o_proj; all
        arguments and results are [B, L, …].

        Each part is normed and added to `h`. Also returns the result's norms that are
        asked for: a kernel computes what comes next, the norm of another part, layer or
        of the model, with the sum before it.
        """
        attended = dense(self.self_attn.o_proj, found)
        norms = [Norm(self.pre_feedforward_layernorm.weight)]
        if self.has_experts:
            norms += [Norm(self.pre_feedforward_layernorm_2.weight), self.router.norm]
        after = [self.post_attention_layernorm.weight]
        h, (x, *for_experts) = add_norms(h, [attended], after, self.eps, norms=norms)
        parts, after = [self.mlp(x)], [self.post_feedforward_layernorm.weight]
        if self.has_experts:
            parts.append(self._choose_and_run_experts(*for_experts))
            each = self.post_feedforward_layernorm_1, self.post_feedforward_layernorm_2
            after = [*(norm.weight for norm in each), *after]
        if self.has_per_layer_input:
            assert per_layer_input is not None
            h, _ = add_norms(h, parts, after, self.eps)
            x = gated(self.per_layer_input_gate, h, per_layer_input)
            parts = [dense(self.per_layer_projection, x)]
            after = [self.post_per_layer_input_norm.weight]
        return add_norms(h, parts, after, self.eps, self.layer_scalar, following)

    def _choose_and_run_experts(self, x: mx.array, for_router: mx.array) -> mx.array:
        tokens = x.reshape(-1, x.shape[-1])  # [T, hidden]
        chosen = self.router.choose(for_router.reshape(tokens.shape))
        return self.experts(tokens, *chosen).reshape(x.shape)


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
        self._periods = {
            kind: rope_periods(
                config.layer_head_dim(layer), config.rope_parameters[kind]
            )
            for layer, kind in enumerate(config.layer_types)
        }
        self.last_own_layer = config.first_kv_shared_layer - 1
        self.per_layer_size = size = config.hidden_size_per_layer_input
        if size:
            rows = config.vocab_size_per_layer_input
            self.embed_tokens_per_layer = nn.Embedding(rows, count * size)
            self.per_layer_model_projection = nn.Linear(
                hidden, count * size, bias=False
            )
            self.per_layer_projection_norm = RMSNorm(size, config.rms_norm_eps)

    @property
    def norms(self) -> list[RMSNorm]:
        """Behind each layer: the next one's first, and the model's last."""
        return [*(layer.input_layernorm for layer in self.layers[1:]), self.norm]

    @property
    def per_layer_count(self) -> int:
        """How many layers get an input of their own: all or none."""
        return len(self.layers) if self.per_layer_size else 0

    def embed(self, tokens: mx.array) -> mx.array:
        """Embeddings of `tokens` [B, L], scaled as the first layer expects them."""
        return self.embed_tokens(tokens) * self.config.hidden_size**0.5

    @property
    def table(self) -> RowTable | None:
        """The table of per-layer embeddings, if it stays on disk."""
        table = getattr(self, "embed_tokens_per_layer", None)
        return table if isinstance(table, RowTable) else None

    def table_rows(self, tokens: mx.array) -> list[mx.array]:
        """The rows of `tokens` [B, L] in a table on disk, for `per_layer_inputs` where
        ids cannot be looked at, as in a compiled function; else none."""
        return [] if self.table is None else [self.table(tokens)]

    def per_layer_inputs(
        self, tokens: mx.array, embeddings: mx.array, rows: Sequence[mx.array] = ()
    ) -> Sequence[mx.array | None]:
        """For each layer a small extra embedding of every token (PLE), `[B, L,
        hidden_size_per_layer_input]`, or None.

        Its token part comes from a table of its own by `tokens` [B, L], with pad at the
        places of media, its context part from `embeddings` [B, L, hidden], what the
        first layer gets, media included.

        rows: what `table_rows` gave, if it was asked.
        """
        count, size = self.config.num_hidden_layers, self.per_layer_size
        if not size:
            return [None] * count
        shape = (*tokens.shape, count, size)
        (found,) = rows or [self.embed_tokens_per_layer(tokens)]
        table = found * size**0.5
        context = dense(self.per_layer_model_projection, embeddings)
        context = context * self.config.hidden_size**-0.5
        context = self.per_layer_projection_norm(context.reshape(shape))
        combined = (context + table.reshape(shape)) * 2**-0.5
        return list(mx.split(combined.reshape(*tokens.shape, -1), count, axis=-1))

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
        inputs = self.per_layer_inputs(tokens, h)
        L, offset = tokens.shape[1], cache[0].offset if cache else 0
        masks = self.masks(L, offset, blocks)
        position = mx.array([offset], mx.int32)
        rotations = self.rotations(position, L, h.dtype)
        if isinstance(band := masks[SLIDING], Band) and band.blocks > 1:
            masks[SLIDING] = band.rotating(rotations[SLIDING], len(tokens))
        seen: dict[int, Seen] = {}
        norms = self.norms
        x = self.layers[0].input_layernorm(h)
        for i, layer in enumerate(self.layers):
            attention, kind = layer.self_attn, self.config.layer_types[i]
            if last_only and i == self.last_own_layer and L > 1:
                new = attention.keys_values(x, rotations[kind])
                seen[i] = cache[i].append(new) if cache else Seen.all_of(new)
                rotations = self.rotations(position + L - 1, 1, h.dtype)
                h, x, inputs = h[:, -1:], x[:, -1:], [_last(y) for y in inputs]
                seen, masks = self._seen_by_last(seen), {SLIDING: None, FULL: None}
                queries = attention.queries(x, rotations[kind], masks[kind])
            else:
                queries, new = attention.queries_keys_values(
                    x, rotations[kind], masks[kind]
                )
                if new:
                    seen[i] = cache[i].append(new) if cache else Seen.all_of(new)
            source = seen[self.kv_sources[i]]
            found = attention(queries, source, rotations[kind], masks[kind])
            h, (x,) = layer(h, found, inputs[i], [Norm(norms[i].weight)])
        return x

    def rotations(
        self, position: mx.array, length: int, dtype: mx.Dtype
    ) -> dict[str, Rotation]:
        """Of each kind of layer, for `length` positions from `position` [1] on."""
        return {
            kind: rotation_at(periods, position, length, dtype)
            for kind, periods in self._periods.items()
        }

    def masks(
        self,
        length: int,
        offset: int = 0,
        blocks: mx.array | None = None,
        gradients: bool = False,
    ) -> dict[str, Mask]:
        """Of each kind of layer, for `length` positions from `offset` on.

        blocks: numbers of pictures [B, L] (see `masks.vision_blocks`) or None.
        gradients: what is attended to will be differentiated.
        """
        window = self.config.sliding_window
        # A sliding cache hands out the window of the first query and what follows.
        keys = min(offset, window - 1) + length
        if blocks is not None and length > 1:
            sliding = picture_mask(blocks, keys, window, gradients)
        else:
            sliding = window_mask(length, keys, window, gradients)
        return {FULL: causal_mask(length), SLIDING: sliding}

    def _seen_by_last(self, seen: dict[int, Seen]) -> dict[int, Seen]:
        window = self.config.sliding_window
        return {
            i: each.last(window) if self.config.is_sliding(i) else each
            for i, each in seen.items()
        }


def _last(x: mx.array | None) -> mx.array | None:
    return None if x is None else x[:, -1:]
