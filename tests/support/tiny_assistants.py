"""Tiny drafters for the tiny models: configurations, tensors and loaded modules."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import tiny
import tiny_media

from mlx_gemma4.assistant.model import Assistant
from mlx_gemma4.config import FULL, SLIDING, AssistantConfig

KINDS = ("E2B", "E4B", "12B", "26B-A4B", "31B")
ORDERED = ("E2B", "E4B")  # with a centroid head
CENTROIDS = {"num_centroids": 24, "centroid_intermediate_top_k": 5}
STEPS = 4
# As the model's, which it describes.
KEYS_VALUES = ("attention_k_eq_v", "global_head_dim", "head_dim", "layer_types")
KEYS_VALUES += ("num_attention_heads", "num_global_key_value_heads", "rope_parameters")
KEYS_VALUES += ("num_key_value_heads", "sliding_window", "vocab_size", "pad_token_id")
OWN = {"hidden_size": 24, "intermediate_size": 40, "rms_norm_eps": 1e-6}
OWN |= {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
OWN |= {"num_hidden_layers": 4, "num_kv_shared_layers": 4}


def config_dict(model: Mapping[str, Any], ordered: bool, **text: Any) -> dict[str, Any]:
    """config.json of a drafter for the model of a config.json; `text` overrides."""
    described = model["text_config"]
    family = model["model_type"]
    own = {
        "model_type": described["model_type"],
        **{key: described[key] for key in KEYS_VALUES},
        **OWN,
        **{"layer_types": [*[SLIDING] * 3, FULL], "enable_moe_block": False},
        **{"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True},
        **{"max_position_embeddings": 4096, "use_double_wide_mlp": False},
        **{"attention_bias": False, "final_logit_softcapping": None},
        **text,
    }
    prefix = "Gemma4Unified" if "unified" in family else "Gemma4"
    return {
        "architectures": [f"{prefix}AssistantForCausalLM"],
        "model_type": f"{family}_assistant",
        "backbone_hidden_size": described["hidden_size"],
        "use_ordered_embeddings": ordered,
        "tie_word_embeddings": True,
        **CENTROIDS,
        "text_config": own,
    }


def tensors(config: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Values of every tensor, by Hub name: float32, and whole numbers."""
    text, backbone = config["text_config"], config["backbone_hidden_size"]
    hidden, vocabulary = text["hidden_size"], text["vocab_size"]
    shapes = tiny.tensor_shapes(text)
    shapes |= {"pre_projection.weight": (hidden, 2 * backbone)}
    shapes |= {"post_projection.weight": (backbone, hidden)}
    if config["use_ordered_embeddings"]:
        centroids = config["num_centroids"], hidden
        shapes["masked_embedding.centroids.weight"] = centroids
    found = tiny.random_tensors(shapes, seed)
    # So that states weigh as much as embeddings, whose scale is larger.
    found["post_projection.weight"] *= np.float32(3)
    if config["use_ordered_embeddings"]:
        order = np.random.RandomState(seed).permutation(vocabulary)
        found["masked_embedding.token_ordering"] = order.astype(np.int64)
    return found


def own_name(name: str) -> str:
    """The module's name of a Hub tensor."""
    start = "model."
    inner = name.removeprefix(start)
    return name if inner == name else f"language_model.{inner}"


def build(config: Mapping[str, Any], seed: int) -> Assistant:
    """The drafter of a config.json dict, strictly filled with random tensors."""
    drafter = Assistant(AssistantConfig.from_dict(dict(config)))
    named = {own_name(n): mx.array(t) for n, t in tensors(config, seed).items()}
    drafter.load_weights(list(named.items()), strict=True)
    return drafter


def write(folder: Path, config: Mapping[str, Any], seed: int) -> Path:
    """A Hub folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    arrays = {name: mx.array(t) for name, t in tensors(config, seed).items()}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    return folder


def prompts(variant: str, seed: int) -> dict[str, tuple[Any, tiny_media.Prompt]]:
    """Name -> configuration of a model, and what it reads: few tokens, more than two
    windows, and what comes behind pictures and behind sound."""
    text = tiny.config_dict(variant)
    tower = "clipped" if variant in ORDERED else "standardized"
    whole = tiny_media.config_dict(variant, tower, "clipped")
    sees, hears = {**whole, "audio_config": None}, {**whole, "vision_config": None}
    words = {f"{n}": tiny.random_tokens(n, seed + n) for n in (5, 33)}
    read = {n: (text, tiny_media.Prompt(tokens)) for n, tokens in words.items()}
    for name, config in (("pictures", sees), ("sound", hears)):
        read[name] = config, tiny_media.prompt(config, seed)
    return read
