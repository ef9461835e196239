"""What a context takes, against what MLX says that reading it took."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from tiny import build

from mlx_gemma4.cache import LayerCache, reserve
from mlx_gemma4.decoding.prefill import Prompt, prefill
from mlx_gemma4.decoding.prefix import PrefixCache
from mlx_gemma4.device import Room
from mlx_gemma4.errors import RoomError
from mlx_gemma4.memory.estimate import Demand
from mlx_gemma4.memory.refusal import refusal
from mlx_gemma4.model import Gemma4

S, F = "sliding_attention", "full_attention"
STEP = 1024
# Kinds of layers as in the real ones, but few and narrow.
KINDS: dict[str, dict[str, Any]] = {
    "E2B": {
        "layer_types": [S, S, F, S, F, S, F],
        "num_hidden_layers": 7,
        "num_kv_shared_layers": 2,
        "num_attention_heads": 2,
        "sliding_window": 512,
        "head_dim": 32,
        "global_head_dim": 64,
    },
    "31B": {
        "layer_types": [S, F, S, F],
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "sliding_window": 1024,
        "head_dim": 32,
        "global_head_dim": 64,
    },
}


def read_before(
    model: Gemma4, tokens: int, bits: int | None, whole: int
) -> PrefixCache:
    """A cache that holds `tokens` tokens, as if they had been read of a prompt of
    `whole`."""
    config, prefix = model.config.text_config, PrefixCache(model, kv_bits=bits)
    reserve(prefix.cache, whole)
    for i, layer in enumerate(prefix.cache):
        count = min(tokens, 2048) if config.is_sliding(i) else tokens
        shape = 1, config.layer_key_value_heads(i), count, config.layer_head_dim(i)
        layer.append((mx.full(shape, 0.5), mx.full(shape, 0.25)))
        mx.eval(layer.state)
        move(layer, tokens - count)
    prefix.extend([3] * tokens)
    return prefix


def move(layer: LayerCache, by: int) -> None:
    held: Any = layer._held
    layer._held = replace(held, first=held.first + by, offset=held.offset + by)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("tokens", [131_072, 262_144])
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_peak_is_as_told(kind: str, tokens: int, bits: int | None) -> None:
    """Of the last part of the prompt, which is the most that any takes."""
    model = build(kind, max_position_embeddings=2**19, **KINDS[kind])
    mx.eval(model.parameters())
    mx.clear_cache()
    before = mx.get_active_memory() - model.nbytes
    prefix = read_before(model, tokens - STEP, bits, tokens)
    mx.clear_cache()
    mx.reset_peak_memory()
    prompt = Prompt([3] * tokens, (), [3] * tokens)
    mx.eval(prefill(model, prompt, prefix, tokens - STEP, STEP))
    peak = mx.get_peak_memory() - before
    demand = Demand(model.config.text_config, model.nbytes, mx.float32, STEP, 0, bits)
    assert demand.at(tokens).total == pytest.approx(peak, rel=0.1)


def test_the_most_that_fits() -> None:
    config = build("E2B").config.text_config
    demand = Demand(config, 10**6, mx.float32, STEP)
    limit = demand.at(2000).total
    most = demand.most(limit, 4096)
    assert 2000 <= most < 4096
    assert demand.at(most).total <= limit < demand.at(most + 1).total
    assert demand.most(limit, 1500) == 1500
    assert demand.most(10**6, 4096) == 0


def test_what_is_refused_says_what_would_help() -> None:
    config = build("E2B").config.text_config
    demand = Demand(config, 10**6, mx.float32, STEP)
    limit = demand.at(2000).total
    room = Room(10**6, limit)
    error = refusal("The prompt", demand, 4000, room, table=900_000)
    assert isinstance(error, RoomError)
    assert f"{demand.most(limit, 4000):,} tokens fit" in str(error)
    assert "--ple disk" in str(error) and "--kv-bits 8" in str(error)
    # What is in use already, or does nothing, is not offered.
    again = str(refusal("It", replace(demand, kv_bits=8), 4000, room))
    assert "--kv-bits" not in again and "--ple" not in again
    nothing = str(
        refusal("It", replace(demand, kv_bits=8), 4000, replace(room, limit=10**6))
    )
    assert "smaller" in nothing and "tokens fit" not in nothing
