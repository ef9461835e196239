"""Attention of one layer: sliding or full, with own or shared keys and values.

Letters: B batch, L queries, S keys, H heads, D head dimension.

- Queries and keys are normalised per head with a weight, values without one; the score
  scale is 1.
- Where `attention_k_eq_v` holds, full layers have no v_proj: the values are the raw
  output of k_proj, while the keys go on through their norm and rotation.
- KV-shared layers only have queries; they read what an earlier layer of their kind
  projected.
"""

import mlx.core as mx
import mlx.nn as nn

from ..cache import KeysValues
from ..config import TextConfig
from ..kernels import rotate_keys, rotate_queries
from ..layers import RMSNorm
from ..rope import Rotation
from .masks import Mask, attend


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
        self.keys_are_values = config.attention_k_eq_v and not config.is_sliding(layer)
        if not self.keys_are_values:
            self.v_proj = nn.Linear(hidden, kv_width, bias=bias)

    def keys_values(self, x: mx.array, rotation: Rotation) -> KeysValues:
        """Rotated keys, and values, of `x` [B, L, hidden]: both [B, H_kv, L, D]."""
        shape = *x.shape[:2], self.kv_heads, self.head_dim
        keys = self.k_proj(x)
        values = keys if self.keys_are_values else self.v_proj(x)
        keys, values = keys.reshape(shape), values.reshape(shape)
        return rotate_keys(keys, values, self.k_norm.weight, self.eps, rotation)

    def __call__(
        self, x: mx.array, rotation: Rotation, kv: KeysValues, mask: Mask
    ) -> mx.array:
        """Attend from `x` [B, L, hidden], its queries rotated, to `kv`, both
        [B, H_kv, S, D]: all that the layer may see."""
        queries = self.q_proj(x).reshape(*x.shape[:2], self.heads, self.head_dim)
        queries = rotate_queries(queries, self.q_norm.weight, self.eps, rotation)
        out = attend(queries, *kv, mask)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1))
