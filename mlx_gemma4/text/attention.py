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
from ..kernels import (
    dense,
    project,
    rotate_heads,
    rotate_keys,
    rotate_queries,
    takes_raw,
)
from ..layers import RMSNorm
from ..rope import Rotation
from .masks import Mask, attend, attend_raw


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
        weights = self.q_norm.weight, self.k_norm.weight
        raw = self._raw(queries, self.heads), *self._raw_keys_values(kv)
        return rotate_heads(*raw, *weights, self.eps, rotation)

    def queries(self, x: mx.array, rotation: Rotation) -> mx.array:
        """Only the queries; as they were projected, [B, L, H, D], where that is left to
        attention."""
        raw = self._raw(dense(self.q_proj, x), self.heads)
        if self._leaves_raw(x.shape[1], raw.dtype):
            return raw
        return rotate_queries(raw, self.q_norm.weight, self.eps, rotation)

    def keys_values(self, x: mx.array, rotation: Rotation) -> NewKeysValues:
        """Only the keys and values."""
        raw = self._raw_keys_values(project(self._kv_maps(), x))
        return rotate_keys(*raw, self.k_norm.weight, self.eps, rotation)

    def __call__(
        self,
        queries: mx.array,
        kv: KeysValues,
        mask: Mask,
        rotation: Rotation | None = None,
    ) -> mx.array:
        """What `queries` find in `kv`, both [B, H_kv, S, D]: all that the layer may
        see. Returns [B, L, H * D], for `o_proj`.

        rotation: of the queries, should they still be as they were projected.
        """
        B, width = queries.shape[0], self.heads * self.head_dim
        L = queries.size // (B * width)
        if rotation is not None and self._leaves_raw(L, queries.dtype):
            weight = self.q_norm.weight
            return attend_raw(queries, weight, self.eps, rotation, *kv, mask)
        out = attend(queries, *kv, mask)
        return out.transpose(0, 2, 1, 3).reshape(B, L, width)

    def _leaves_raw(self, rows: int, dtype: mx.Dtype) -> bool:
        """Whether attention turns the queries; own keys are turned together with them,
        in a launch that is needed anyway."""
        if self.has_own_kv:
            return False
        return takes_raw(rows, self.heads, self.kv_heads, self.head_dim, dtype)

    def _kv_maps(self) -> list[nn.Module]:
        return [self.k_proj] if self.keys_are_values else [self.k_proj, self.v_proj]

    def _raw(self, x: mx.array, heads: int) -> mx.array:
        return x.reshape(*x.shape[:2], heads, self.head_dim)

    def _raw_keys_values(self, raw: Sequence[mx.array]) -> KeysValues:
        return self._raw(raw[0], self.kv_heads), self._raw(raw[-1], self.kv_heads)
