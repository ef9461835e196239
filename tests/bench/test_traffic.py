"""Bytes per decoded token, against numbers worked out by hand."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
import tiny

from mlx_gemma4.bench.traffic import (
    cache_bytes,
    decode_bytes,
    held_bytes,
    measure_bandwidth,
    weight_bytes,
)

# A model of two layers, all sizes different.
SIZES: dict[str, Any] = {
    "layer_types": ["sliding_attention", "full_attention"],
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "vocab_size": 96,
}
# Weights of its layers. Sliding: q and o 32 * 64, k and v 32 * 32, norms of 16 each.
# Full: q and o 32 * 128, k and v 32 * 64, norms of 32 each. Both: an MLP of
# 3 * 32 * 48, four norms of 32 and a scalar.
SLIDING = 2 * 2048 + 2 * 1024 + 2 * 16
FULL = 2 * 4096 + 2 * 2048 + 2 * 32
BOTH = 4608 + 4 * 32 + 1
LAYERS = SLIDING + FULL + 2 * BOTH
NORM, ROW, HEAD = 32, 32, 96 * 32


def test_a_tied_head_is_read_whole_and_one_row_more() -> None:
    model = tiny.build("untied", **SIZES, tie_word_embeddings=True)
    assert weight_bytes(model) == 4 * (LAYERS + NORM + ROW + HEAD) == 124_552


def test_of_embeddings_with_a_head_of_its_own_one_row_is_read() -> None:
    model = tiny.build("untied", **SIZES)
    assert weight_bytes(model) == 4 * (LAYERS + NORM + ROW + HEAD) == 124_552


def test_only_chosen_experts_are_read() -> None:
    moe = {"enable_moe_block": True, "num_experts": 8, "top_k_experts": 3}
    model = tiny.build("untied", **SIZES, **moe, moe_intermediate_size=24)
    expert = 32 * 48 + 24 * 32  # gate and up, down
    router = 8 * 32 + 32 + 8
    more = 2 * (3 * expert + router + 3 * 32)
    assert weight_bytes(model) == 124_552 + 4 * more == 182_984


def test_one_row_of_the_per_layer_table_is_read() -> None:
    ple = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 80}
    model = tiny.build("untied", **SIZES, **ple)
    row, context = 2 * 8, 2 * 8 * 32 + 8  # its projection and norm
    layer = 2 * 8 * 32 + 32
    assert weight_bytes(model) == 124_552 + 4 * (row + context + 2 * layer) == 131_048


def test_packed_weights_count_as_packed() -> None:
    sizes = SIZES | {"intermediate_size": 64}
    model = tiny.build("untied", **sizes, tie_word_embeddings=True)
    nn.quantize(model, group_size=32, bits=4)
    linears = 2 * 2048 + 2 * 1024 + 2 * 4096 + 2 * 2048 + 2 * 6144 + ROW + HEAD
    floats = 2 * 16 + 2 * 32 + 2 * (4 * 32 + 1) + NORM
    # Half a byte each, and a scale and a bias of 4 bytes for 32 weights.
    assert weight_bytes(model) == linears * 3 // 4 + 4 * floats == 26_912


def test_towers_are_not_read() -> None:
    model = tiny.build("untied", **SIZES)
    model["vision_tower"] = nn.Linear(4, 4)
    assert weight_bytes(model) == 124_552


@pytest.mark.parametrize(("context", "slots"), [(5, 5), (8, 8), (100, 8)])
def test_sliding_layers_read_a_window_at_most(context: int, slots: int) -> None:
    text = tiny.build("untied", **SIZES).config.text_config
    assert text.sliding_window == 8
    expected = 2 * (2 * 16 * slots + 2 * 32 * context)
    assert cache_bytes(text, context, mx.float32) == 4 * expected
    assert cache_bytes(text, context, mx.bfloat16) == 2 * expected


def test_keys_that_serve_as_values_are_stored_twice() -> None:
    heads = {"attention_k_eq_v": True, "num_global_key_value_heads": 1}
    text = tiny.build("untied", **SIZES, **heads).config.text_config
    assert cache_bytes(text, 10, mx.float32) == 4 * 2 * (2 * 16 * 8 + 1 * 32 * 10)


def test_shared_keys_are_read_again_but_held_once() -> None:
    sizes = SIZES | {"layer_types": SIZES["layer_types"] * 2, "num_hidden_layers": 4}
    text = tiny.build("untied", **sizes, num_kv_shared_layers=2).config.text_config
    once = 4 * 2 * (2 * 16 * 8 + 2 * 32 * 10)
    assert cache_bytes(text, 10, mx.float32) == 2 * once
    assert held_bytes(text, 10, mx.float32) == once


def test_behind_the_beginning_full_layers_may_be_packed() -> None:
    text = tiny.build("untied", **SIZES).config.text_config
    whole = cache_bytes(text, 1024, mx.float32)
    assert cache_bytes(text, 1024, mx.float32, kv_bits=8) == whole
    # A byte each, and a scale and a bias of 4 bytes for 32 numbers.
    slot = 2 * 2 * 32 + 2 * 4 * 2 * 2
    assert cache_bytes(text, 1030, mx.float32, kv_bits=8) == whole + 6 * slot
    assert held_bytes(text, 1030, mx.float32, kv_bits=8) == whole + 6 * slot


def test_the_mean_over_what_is_decoded() -> None:
    model = tiny.build("untied", **SIZES)
    text = model.config.text_config
    caches = [cache_bytes(text, n, mx.float32) for n in (7, 8, 9)]
    assert decode_bytes(model, 6, 3) == 124_552 + sum(caches) / 3


def test_bandwidth_of_a_small_buffer() -> None:
    bandwidth = measure_bandwidth(2**16)
    assert bandwidth.read > 0 and bandwidth.copy > 0
    assert bandwidth.most == max(bandwidth.read, bandwidth.copy)
