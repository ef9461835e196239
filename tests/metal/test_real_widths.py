"""A layer of each kind of the real models decodes the same with all kernels on.

Widths, heads and windows are the published ones; of layers, experts and the vocabulary
there are few, and the MLP of 31B is narrower.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny
from checks import Cpu

from mlx_gemma4.config import Config
from mlx_gemma4.kernels import NAMES, using
from mlx_gemma4.model import Gemma4

BOTH = ["sliding_attention", "full_attention"]
ALL = {"head_dim": 256, "global_head_dim": 512}
SHARED = {"layer_types": 2 * BOTH, "num_hidden_layers": 4, "num_kv_shared_layers": 2}
OWN = {"layer_types": BOTH, "num_hidden_layers": 2}


def small(heads: int, kv_heads: int, hidden: int, width: int) -> dict[str, Any]:
    return {
        **ALL,
        **SHARED,
        "sliding_window": 512,
        "hidden_size": hidden,
        "intermediate_size": width,
        "hidden_size_per_layer_input": 256,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }


def large(heads: int, kv_heads: int, of_full: int, hidden: int) -> dict[str, Any]:
    return {
        **ALL,
        **OWN,
        "sliding_window": 1024,
        "hidden_size": hidden,
        "intermediate_size": 2112,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_global_key_value_heads": of_full,
    }


EXPERTS = {"num_experts": 9, "top_k_experts": 8, "moe_intermediate_size": 704}
REAL = {
    "E2B": small(8, 1, 1536, 6144),
    "E4B": small(8, 2, 2560, 10_240),
    "26B-A4B": large(16, 8, 2, 2816) | EXPERTS,
    "31B": large(32, 16, 4, 5376),
}


def packed(variant: str) -> Gemma4:
    """In float32, with maps of 4 bits in groups of 64."""
    text = tiny.config_dict(variant)["text_config"]
    mx.random.seed(7)
    model = Gemma4(Config.from_dict({**text, **REAL[variant]}))
    nn.quantize(model, 64, 4)
    return model


@pytest.mark.parametrize("variant", REAL)
def test_a_step_equals_the_plain_one(cpu: Cpu, variant: str) -> None:
    """Of one token, and of a draft behind it."""
    model, harness = packed(variant), cpu()
    tokens = mx.array([tiny.random_tokens(24, 6)])
    results = []
    for names in ((), NAMES):
        cache = model.make_cache()
        mx.eval(model(tokens[:, :20], cache))
        with using(*names, make=harness.metal_kernel):
            one, draft = model(tokens[:, 20:21], cache), model(tokens[:, 21:], cache)
        results.append(np.array(mx.concatenate([one, draft], axis=1)))
    assert harness.launches and np.abs(results[0]).max() > 0.5
    np.testing.assert_allclose(results[1], results[0], atol=1e-4)
