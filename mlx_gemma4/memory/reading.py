"""Bytes that reading a part of a prompt takes for a moment, beside what it leaves.

They are counted from the shapes of what a layer computes. How many of these exist at
once was measured on a CPU; on a GPU, where MLX lets go of them later or earlier, the
same numbers are taken.
"""

import mlx.core as mx

from ..config import TextConfig
from ..text.masks import BLOCK
from ..text.scores import causal_rows
from .held import kept, slot_bytes

AHEAD = 4  # blocks of scores that MLX works at: it starts some before others are done
# Of scores in full layers on a GPU. The authors of MLX's attention in blocks measured
# that it leaves about this much of them, at 16k and 65k tokens (ml-explore/mlx#4518).
SCORES_ON_GPU = 3 * 2**28
COPIES = 3  # of what a layer computes: before a product, behind it, and its sum


def reading_bytes(
    config: TextConfig, rows: int, context: int, dtype: mx.Dtype, on_gpu: bool
) -> int:
    """While `rows` tokens are read that end at position `context`."""
    size, layers = dtype.size, range(config.num_hidden_layers)
    inputs = config.num_hidden_layers * config.hidden_size_per_layer_input
    always = rows * (COPIES * config.hidden_size + 2 * inputs) * size
    parts = [_feed_forward(config, rows) * size]
    own = range(config.first_kv_shared_layer)
    parts += [_attention(config, i, rows, context, dtype, on_gpu) for i in own]
    parts.append(rows * 2 * inputs * size)
    if layers == own:  # the last position's alone go on behind the last own layer
        parts.append(COPIES * config.vocab_size * size)
    return always + max(parts)


def _feed_forward(config: TextConfig, rows: int) -> int:
    """Numbers that an MLP and, beside it, the experts make of `rows` tokens."""
    dense = COPIES * config.intermediate_size
    if not config.enable_moe_block:
        return rows * dense
    assert config.top_k_experts and config.moe_intermediate_size
    each = COPIES * config.moe_intermediate_size + 2 * config.hidden_size
    return rows * (dense + config.top_k_experts * each)


def _attention(
    config: TextConfig,
    layer: int,
    rows: int,
    context: int,
    dtype: mx.Dtype,
    on_gpu: bool,
) -> int:
    """Queries, what they find, new keys and values, and the scores between."""
    heads, size = config.num_attention_heads, dtype.size
    slot = slot_bytes(config, layer, dtype)
    found = COPIES * rows * heads * config.layer_head_dim(layer) * size
    if config.is_sliding(layer):
        whole = min(context, kept(config) + rows)
        reach = min(context, config.sliding_window - 1 + BLOCK)
        scores = heads * rows * reach * size
        return found + 2 * whole * slot + 2 * scores
    scores = heads * rows * context * size
    if on_gpu:
        scores = min(2 * scores, SCORES_ON_GPU)
    else:
        block = causal_rows(heads, context, size)
        scores = min(rows, AHEAD * block) * heads * context * size
    return found + 2 * rows * slot + scores
