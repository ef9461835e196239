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

from ..cache import NewKeysValues, Seen
from ..config import TextConfig
from ..kernels import (
    EVERYTHING,
    attention_in_slots,
    dense,
    project,
    rotate_heads,
    rotate_keys,
    rotate_queries,
    slots_fit,
    takes_raw,
)
from ..layers import RMSNorm
from ..rope import Rotation
from .masks import Band, Mask
from .scores import attend, attend_raw


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values, named as on the Hub."""

    def __init__(self, config: TextConfig, layer: int):
        super().__init__()
        hidden, bias = config.hidden_size, config.attention_bias
        self.eps = config.rms_norm_eps
        sliding = config.is_sliding(layer)
        self.window = config.sliding_window if sliding else EVERYTHING
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
        self.keys_are_values = config.attention_k_eq_v and not sliding
        if not self.keys_are_values:
            self.v_proj = nn.Linear(hidden, kv_width, bias=bias)

    def queries_keys_values(
        self, x: mx.array, rotation: Rotation, mask: Mask
    ) -> tuple[mx.array, NewKeysValues]:
        """The queries of `x` [B, L, hidden], as attention under `mask` takes them; and
        its keys and values, as a cache takes them, where the layer has its own."""
        if not self.has_own_kv:
            return self.queries(x, rotation, mask), ()
        queries, *kv = project([self.q_proj, *self._kv_maps()], x)
        if isinstance(mask, Band) and mask.rotation:
            return self._turned(queries, rotation, mask), self._cached(kv, rotation)
        weights = self.q_norm.weight, self.k_norm.weight
        raw = self._raw(queries, self.heads), *self._raw_keys_values(kv)
        return rotate_heads(*raw, *weights, self.eps, rotation)

    def queries(self, x: mx.array, rotation: Rotation, mask: Mask) -> mx.array:
        """Only the queries."""
        return self._turned(dense(self.q_proj, x), rotation, mask)

    def keys_values(self, x: mx.array, rotation: Rotation) -> NewKeysValues:
        """Only the keys and values."""
        return self._cached(project(self._kv_maps(), x), rotation)

    def __call__(
        self, queries: mx.array, seen: Seen, rotation: Rotation, mask: Mask
    ) -> mx.array:
        """What `queries` find: [B, L, H * D], for `o_proj`.

        rotation: of the queries, should they still be as they were projected.
        """
        if self.has_own_kv:
            return attend(queries, seen, mask)
        rows = queries.size // (len(queries) * self.heads * self.head_dim)
        if not self.leaves_raw(rows, queries.dtype):
            return attend(queries, seen, mask)
        weight = self.q_norm.weight
        return attend_raw(queries, weight, self.eps, rotation, seen, mask)

    def in_slots(
        self, queries: mx.array, buffer: mx.array, filled: mx.array, rotation: Rotation
    ) -> mx.array:
        """The same in a cache's whole buffer, where `reads_slots` says so; how many of
        its slots are `filled`, int32 [1], may change in a compiled step."""
        turn = self.q_norm.weight, self.eps, rotation
        return attention_in_slots(queries, *turn, buffer, filled, self.window)

    def reads_slots(self, rows: int, buffer: mx.array, dtype: mx.Dtype) -> bool:
        """Where all is of one type: trained layers may be wider than others."""
        fit = slots_fit(self.head_dim, rows, buffer.shape[2], self.window)
        alike = buffer.dtype == self.q_norm.weight.dtype == dtype
        return fit and alike and self.leaves_raw(rows, dtype)

    def leaves_raw(self, rows: int, dtype: mx.Dtype) -> bool:
        """Whether attention norms and rotates the queries. Own keys are turned together
        with them, in a launch that is needed anyway."""
        if self.has_own_kv:
            return False
        return takes_raw(rows, self.heads, self.kv_heads, self.head_dim, dtype)

    def _turned(self, queries: mx.array, rotation: Rotation, mask: Mask) -> mx.array:
        if isinstance(mask, Band) and mask.rotation:
            queries = mask.cut(queries, self.heads, self.head_dim)
            rotation = mask.rotation
        else:
            queries = self._raw(queries, self.heads)
            if self.leaves_raw(queries.shape[1], queries.dtype):
                return queries
        return rotate_queries(queries, self.q_norm.weight, self.eps, rotation)

    def _cached(self, raw: Sequence[mx.array], rotation: Rotation) -> NewKeysValues:
        keys, values = self._raw_keys_values(raw)
        return rotate_keys(keys, values, self.k_norm.weight, self.eps, rotation)

    def _kv_maps(self) -> list[nn.Module]:
        return [self.k_proj] if self.keys_are_values else [self.k_proj, self.v_proj]

    def _raw(self, x: mx.array, heads: int) -> mx.array:
        return x.reshape(*x.shape[:2], heads, self.head_dim)

    def _raw_keys_values(self, raw: Sequence[mx.array]) -> tuple[mx.array, mx.array]:
        return self._raw(raw[0], self.kv_heads), self._raw(raw[-1], self.kv_heads)
