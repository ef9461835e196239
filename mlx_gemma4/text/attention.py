"""Attention of one layer: sliding or full, with own or shared keys and values.

Letters: B batch, L queries, S keys, H heads, D head dimension.

- Queries and keys are normalised per head with a weight, values without one; the score
  scale is 1.
- Where `attention_k_eq_v` holds, full layers have no v_proj: the values are the raw
  output of k_proj, while the keys go on through their norm and rotation.
- KV-shared layers only have queries; they read what an earlier layer of their kind
  projected.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..cache import KeysValues, NewKeysValues
from ..config import TextConfig
from ..kernels import dense, project, rotate_keys, rotate_queries
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

    def queries_keys_values(
        self, x: mx.array, rotation: Rotation
    ) -> tuple[mx.array, NewKeysValues]:
        """The rotated queries [B, H, L, D] of `x` [B, L, hidden]; and its keys and
        values, as a cache takes them, where the layer has its own."""
        if not self.has_own_kv:
            return self.queries(x, rotation), ()
        queries, *kv = project([self.q_proj, *self._kv_maps()], x)
        queries = self._rotated(queries, rotation)
        return queries, self._rotated_keys(kv, rotation)

    def queries(self, x: mx.array, rotation: Rotation) -> mx.array:
        """Only the queries."""
        return self._rotated(dense(self.q_proj, x), rotation)

    def keys_values(self, x: mx.array, rotation: Rotation) -> NewKeysValues:
        """Only the keys and values."""
        return self._rotated_keys(project(self._kv_maps(), x), rotation)

    def __call__(self, queries: mx.array, kv: KeysValues, mask: Mask) -> mx.array:
        """What `queries` find in `kv`, both [B, H_kv, S, D]: all that the layer may
        see. Returns [B, L, H * D], for `o_proj`."""
        out = attend(queries, *kv, mask)
        B, H, L, D = out.shape
        return out.transpose(0, 2, 1, 3).reshape(B, L, H * D)

    def _kv_maps(self) -> list[nn.Module]:
        return [self.k_proj] if self.keys_are_values else [self.k_proj, self.v_proj]

    def _rotated(self, queries: mx.array, rotation: Rotation) -> mx.array:
        queries = queries.reshape(*queries.shape[:2], self.heads, self.head_dim)
        return rotate_queries(queries, self.q_norm.weight, self.eps, rotation)

    def _rotated_keys(
        self, raw: Sequence[mx.array], rotation: Rotation
    ) -> NewKeysValues:
        shape = *raw[0].shape[:2], self.kv_heads, self.head_dim
        keys, values = raw[0].reshape(shape), raw[-1].reshape(shape)
        return rotate_keys(keys, values, self.k_norm.weight, self.eps, rotation)
