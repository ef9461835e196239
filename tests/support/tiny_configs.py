"""Configurations of the tiny checkpoints, in Google's dialect, with every key."""

import copy
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

WINDOW = 8
IMAGE, VIDEO, AUDIO = 90, 92, 91

VARIANTS = ("E2B", "E4B", "26B-A4B", "31B", "demo", "untied", "text")
FAMILIES = ("E2B", "E4B", "12B", "26B-A4B", "31B", "mixture")

_TEXT: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_k_eq_v": False,
    "bos_token_id": 2,
    "dtype": "float32",
    "enable_moe_block": False,
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "global_head_dim": 32,
    "head_dim": 16,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 32,
    "hidden_size_per_layer_input": 0,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "layer_types": [],
    "max_position_embeddings": 4096,
    "model_type": "gemma4_text",
    "moe_intermediate_size": None,
    "num_attention_heads": 4,
    "num_experts": None,
    "num_global_key_value_heads": None,
    "num_hidden_layers": 0,
    "num_key_value_heads": 1,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "full_attention": {
            "partial_rotary_factor": 0.25,
            "rope_theta": 1000000.0,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "sliding_window": WINDOW,
    "tie_word_embeddings": True,
    "top_k_experts": None,
    "use_bidirectional_attention": None,
    "use_cache": True,
    "use_double_wide_mlp": False,
    "vocab_size": 96,
    "vocab_size_per_layer_input": 96,
}

_TOP: dict[str, Any] = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "audio_config": None,
    "audio_token_id": AUDIO,
    "boa_token_id": 87,
    "boi_token_id": 88,
    "dtype": "float32",
    "eoa_token_id": 86,
    "eoa_token_index": 86,
    "eoi_token_id": 89,
    "eos_token_id": [1, 93],
    "image_token_id": IMAGE,
    "initializer_range": 0.02,
    "model_type": "gemma4",
    "tie_word_embeddings": True,
    "video_token_id": VIDEO,
    "vision_config": None,
    "vision_soft_tokens_per_image": 280,
}

_MOE = {"enable_moe_block": True, "moe_intermediate_size": 24}
# Per variant: sliding layers per full one, groups of them, and what differs.
_SHAPES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "E2B": (
        4,
        2,
        {
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 5,
            "use_double_wide_mlp": True,
        },
    ),
    "E4B": (
        5,
        2,
        {
            "head_dim": 8,
            "global_head_dim": 16,
            "hidden_size_per_layer_input": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "num_kv_shared_layers": 6,
        },
    ),
    "12B": (
        5,
        1,
        {
            "attention_k_eq_v": True,
            "model_type": "gemma4_unified_text",
            "num_global_key_value_heads": 1,
            "num_key_value_heads": 2,
            "use_bidirectional_attention": "vision",
        },
    ),
    "26B-A4B": (
        5,
        1,
        {
            **_MOE,
            "attention_k_eq_v": True,
            "num_experts": 8,
            "num_global_key_value_heads": 1,
            "num_key_value_heads": 2,
            "top_k_experts": 3,
            "use_bidirectional_attention": "vision",
        },
    ),
    "31B": (
        5,
        1,
        {
            "attention_k_eq_v": True,
            "head_dim": 8,
            "global_head_dim": 16,
            "num_attention_heads": 8,
            "num_global_key_value_heads": 2,
            "num_key_value_heads": 4,
            "use_bidirectional_attention": "vision",
        },
    ),
    "demo": (
        2,
        2,
        {
            **_MOE,
            "attention_k_eq_v": True,
            "hidden_size_per_layer_input": 8,
            "num_experts": 4,
            "num_global_key_value_heads": 1,
            "num_key_value_heads": 2,
            "num_kv_shared_layers": 3,
            "top_k_experts": 2,
            "use_double_wide_mlp": True,
        },
    ),
    "untied": (2, 1, {"tie_word_embeddings": False, "num_key_value_heads": 2}),
    "text": (
        2,
        1,
        {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 80},
    ),
}


def _layers(sliding: int, groups: int) -> list[str]:
    return ([*["sliding_attention"] * sliding, "full_attention"]) * groups


def _config(text: Mapping[str, Any], sliding: int, groups: int) -> dict[str, Any]:
    layers = _layers(sliding, groups)
    top = copy.deepcopy(_TOP)
    top["text_config"] = {
        **copy.deepcopy(_TEXT),
        "layer_types": layers,
        "num_hidden_layers": len(layers),
        **text,
    }
    top["tie_word_embeddings"] = top["text_config"]["tie_word_embeddings"]
    if top["text_config"]["model_type"] == "gemma4_unified_text":
        top |= {"architectures": ["Gemma4UnifiedForConditionalGeneration"]}
        top |= {"model_type": "gemma4_unified"}
        del top["eoa_token_id"], top["vision_soft_tokens_per_image"]
    return top


def config_dict(variant: str, **text: Any) -> dict[str, Any]:
    """config.json of a variant in Google's dialect; `text` overrides text keys.

    The variant "text" is a bare `gemma4_text` file, all others are `gemma4`.
    """
    sliding, groups, changes = _SHAPES[variant]
    config = _config({**changes, **text}, sliding, groups)
    if variant != "text":
        return config
    flat: dict[str, Any] = config["text_config"]
    return {"architectures": ["Gemma4ForCausalLM"], **flat}


def random_config(seed: int, family: str) -> dict[str, Any]:
    """An unseen configuration of one family: depths, heads, windows, experts vary."""
    draw = np.random.RandomState(zlib.crc32(f"{family}:{seed}".encode()))

    def pick(*values: Any) -> Any:
        return values[draw.randint(len(values))]

    base = pick("E2B", "demo", "26B-A4B") if family == "mixture" else family
    sliding, groups, changes = pick(2, 3, 4, 5), pick(1, 2), dict(_SHAPES[base][2])
    per_kv, kv = pick(1, 2, 4), pick(1, 2, 3)
    changes |= {
        "hidden_size": pick(32, 40, 64),
        "intermediate_size": pick(32, 48, 72),
        "head_dim": pick(8, 16),
        "global_head_dim": pick(16, 32),
        "num_attention_heads": 2 * kv * per_kv,
        "num_key_value_heads": 2 * kv if base in ("12B", "26B-A4B", "31B") else kv,
        "sliding_window": pick(4, 7, 8, 16),
        "rms_norm_eps": pick(1e-6, 1e-5),
    }
    if changes.get("attention_k_eq_v"):
        changes["num_global_key_value_heads"] = pick(1, kv)
    if changes.get("hidden_size_per_layer_input"):
        changes["hidden_size_per_layer_input"] = pick(8, 16)
    if changes.get("num_kv_shared_layers"):
        # Both kinds must keep a layer of their own: share whole groups, or fewer.
        groups = 2
        changes["num_kv_shared_layers"] = pick(1, 2, sliding + 1)
    if changes.get("enable_moe_block"):
        experts = pick(4, 6, 9)
        changes |= {"num_experts": experts, "top_k_experts": pick(1, 2, experts)}
        changes["moe_intermediate_size"] = pick(16, 24)
    if family == "mixture":
        changes |= {
            "final_logit_softcapping": pick(None, 20.0),
            "tie_word_embeddings": pick(True, False),
            "vocab_size_per_layer_input": pick(80, 96),
        }
    return _config(changes, sliding, groups)
