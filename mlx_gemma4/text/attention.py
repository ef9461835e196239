"""Attention of one layer: sliding or full, with own or shared keys and values.

Letters: B batch, L queries, S keys, H heads, D head dimension.

- Queries and keys are normalised per head with a weight, values without one; the score
  scale is 1.
- Where `attention_k_eq_v` holds, full layers have no v_proj: the values are the raw
  output of k_proj, while the keys go on through their norm and rotation.
- KV-shared layers only have queries; they read what an earlier layer of their kind
  projected.
"""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..cache import LayerCache
from ..config import TextConfig
from ..kernels import turn_keys, turn_queries
from ..layers import RMSNorm
from ..rope import Turn
from .masks import Mask, attend

KeysValues = tuple[mx.array, mx.array]


def _own_values(attention: "Attention", x: mx.array, keys: mx.array) -> mx.array:
    return attention.v_proj(x)


def _keys_as_values(attention: "Attention", x: mx.array, keys: mx.array) -> mx.array:
    return keys


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values, named as on the Hub."""

    def __init__(self, config: TextConfig, layer: int):
        super().__init__()
        hidden, bias = config.hidden_size, config.attention_bias
        self.eps = config.rms_norm_eps
        self.head_dim = config.layer_head_dim(layer)
        self.heads = config.num_attention_heads
        self.kv_heads = config.layer_key_value_heads(layer)
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(hidden, width, bias=bias)
        self.q_norm = RMSNorm(self.head_dim, self.eps)
        self.o_proj = nn.Linear(width, hidden, bias=bias)
        self.has_own_kv = layer < config.first_kv_shared_layer
        if not self.has_own_kv:
            return
        self.k_proj = nn.Linear(hidden, kv_width, bias=bias)
        self.k_norm = RMSNorm(self.head_dim, self.eps)
        self._values: Callable[[Attention, mx.array, mx.array], mx.array]
        self._values = _keys_as_values
        if config.is_sliding(layer) or not config.attention_k_eq_v:
            self.v_proj = nn.Linear(hidden, kv_width, bias=bias)
            self._values = _own_values

    def keys_values(
        self, x: mx.array, turn: Turn, cache: LayerCache | None
    ) -> KeysValues:
        """Project `x` [B, L, hidden], rotate the keys, and append both to `cache`.

        Returns keys and values [B, H_kv, S, D] of everything the layer may attend to.
        """
        B, L, _ = x.shape
        raw = self.k_proj(x)
        values = self._values(self, x, raw).reshape(B, L, self.kv_heads, self.head_dim)
        keys = raw.reshape(B, L, self.kv_heads, self.head_dim)
        weight = self.k_norm.weight
        keys, values = turn_keys(keys, values, weight, self.eps, turn)
        if cache is None:
            return keys, values
        return cache.update_and_fetch(keys, values)

    def __call__(self, x: mx.array, turn: Turn, kv: KeysValues, mask: Mask) -> mx.array:
        """Attend from `x` [B, L, hidden], its queries rotated, to `kv`."""
        B, L, _ = x.shape
        queries = self.q_proj(x).reshape(B, L, self.heads, self.head_dim)
        queries = turn_queries(queries, self.q_norm.weight, self.eps, turn)
        out = attend(queries, *kv, mask)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(B, L, -1))
