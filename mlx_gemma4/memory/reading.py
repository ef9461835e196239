"""Bytes that reading a part of a prompt takes for a moment, beside what it leaves.

They are counted from the shapes of what a layer computes. How many of these exist at
once was measured on a CPU and on an NVIDIA GPU; for Metal, where MLX lets go of them
later or earlier than on a CPU, the CPU's numbers are taken.
"""

from enum import Enum

import mlx.core as mx

from ..config import TextConfig
from ..text.masks import BLOCK
from ..text.packed import packed_rows
from ..text.scores import causal_rows
from .held import kept, slot_bytes

AHEAD = 4  # blocks of scores that MLX works at: it starts some before others are done
AHEAD_PACKED = 9  # of float32 scores with packed keys: two blocks, each in four steps
# The same on an NVIDIA GPU, where buffers are let go of when many operations are done.
# Chosen from peaks on an H100; what it leaves out there is in docs/measurements.md.
AHEAD_IN_CUDA = 24
# Of scores in full layers under Metal. The authors of MLX's attention in blocks
# measured that it leaves about this much of them, at 16k and 65k tokens
# (ml-explore/mlx#4518).
SCORES_ON_METAL = 3 * 2**28
COPIES = 3  # of what a layer computes: before a product, behind it, and its sum

DRAWN = 4  # of float32 logits, that a token is drawn from: measured with 1 to 8 answers


class Where(Enum):
    """What computes."""

    CPU = "cpu"
    METAL = "metal"
    CUDA = "cuda"

    @classmethod
    def here(cls) -> "Where":
        if mx.metal.is_available():
            return cls.METAL
        return cls.CPU if mx.default_device() == mx.cpu else cls.CUDA


def reading_bytes(
    config: TextConfig,
    rows: int,
    context: int,
    dtype: mx.Dtype,
    where: Where,
    kv_bits: int | None = None,
) -> int:
    """While `rows` tokens are read that end at position `context`."""
    size, layers = dtype.size, range(config.num_hidden_layers)
    inputs = config.num_hidden_layers * config.hidden_size_per_layer_input
    always = rows * (COPIES * config.hidden_size + 2 * inputs) * size
    parts = [_feed_forward(config, rows) * size]
    own = range(config.first_kv_shared_layer)
    # Of the last of them only one position's queries are ever wanted.
    parts += [
        _attention(config, i, rows, context, dtype, where, kv_bits) for i in own[:-1]
    ]
    parts.append(rows * 2 * inputs * size)
    if layers == own:  # the last position's alone go on behind the last own layer
        parts.append(COPIES * config.vocab_size * size)
    return always + max(parts)


def drawing_bytes(config: TextConfig) -> int:
    """What drawing a token takes, from the logits on."""
    return DRAWN * config.vocab_size * mx.float32.size


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
    where: Where,
    kv_bits: int | None,
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
    packed_for = config.layer_key_value_heads(layer) if kv_bits else None
    scores = _scores(heads, packed_for, rows, context, size, where)
    if where is not Where.METAL and not packed_for:
        scores += context * slot // 2  # keys, as a product takes them
    return found + 2 * rows * slot + scores


def _scores(
    heads: int,
    packed_for: int | None,
    rows: int,
    context: int,
    size: int,
    where: Where,
) -> int:
    """Of a full layer, as many as exist at once.

    packed_for: how many heads its keys have, where they are packed.
    """
    if packed_for:
        size, block = mx.float32.size, packed_rows(heads, packed_for, context)
    elif where is Where.METAL:
        return min(2 * heads * rows * context * size, SCORES_ON_METAL)
    else:
        block = causal_rows(heads, context, size)
    ahead = AHEAD_PACKED if packed_for else AHEAD
    ahead = AHEAD_IN_CUDA if where is Where.CUDA else ahead
    return min(2 * rows, ahead * block) * heads * context * size
