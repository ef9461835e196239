"""Bytes of keys and values, against the caches that hold them."""

import mlx.core as mx
import pytest
import real

from mlx_gemma4.cache import LayerCache, make_cache, reserve, snapshot
from mlx_gemma4.config import Config, TextConfig
from mlx_gemma4.memory.held import kv_bytes, pin_bytes


def filled(config: TextConfig, parts: list[int], bits: int | None) -> list[LayerCache]:
    """Caches of graphs that are never evaluated: their arrays have sizes all the
    same."""
    cache = make_cache(config, kv_bits=bits)
    reserve(cache, sum(parts))  # what grows by large copies waits for them
    for count in parts:
        for i, layer in enumerate(cache):
            heads, dim = config.layer_key_value_heads(i), config.layer_head_dim(i)
            new = mx.zeros((1, heads, count, dim), mx.bfloat16)
            layer.append((new, new))
    return cache


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("name", list(real.MODELS))
def test_full_size(name: str, bits: int | None) -> None:
    config = Config.from_dict(real.read(name)).text_config
    for parts in ([1], [300, 700], [1024, 1024], [8000, 120_000, 1]):
        tokens = sum(parts)
        held = sum(layer.nbytes for layer in filled(config, parts, bits))
        assert kv_bytes(config, tokens, mx.bfloat16, bits) == held


def test_numbers_to_check_by_hand() -> None:
    """E2B has 3 full layers with keys and values of its own, one head of 512 each."""
    config = Config.from_dict(real.read("E2B")).text_config
    per_token = 3 * 2 * 512 * 2
    more = kv_bytes(config, 131_072, mx.bfloat16) - kv_bytes(config, 4096, mx.bfloat16)
    assert more == per_token * (131_072 - 4096)
    packed = [kv_bytes(config, n, mx.bfloat16, 8) for n in (4096, 131_072)]
    # A byte per number, and a scale and a bias per 64 of them.
    assert packed[1] - packed[0] == more * (1 + 2 * 2 / 64) / 2


def test_a_pin_is_what_a_snapshot_copies() -> None:
    config = Config.from_dict(real.read("E2B")).text_config
    for tokens in (100, 3000):
        pinned = snapshot(filled(config, [tokens], None))
        held = sum(part.nbytes for part in pinned)
        assert pin_bytes(config, tokens, mx.bfloat16) == held
