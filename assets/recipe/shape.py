"""The demo's configuration, written as Google's config.json writes it.

Small, and yet every part of a Gemma 4 text decoder is in it: sliding and full
attention, K=V, shared keys and values with the double-wide MLP, per-layer inputs,
dense MLP beside experts, soft cap and tied head. No released model has them all.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from .render import DEMO
from .tokenizer import SPECIAL_TOKENS, VOCAB_SIZE, write_tokenizer

MAX_LENGTH = 4096
LAYERS = ["sliding_attention", "full_attention"] * 3
ROPE = {
    "full_attention": {
        "partial_rotary_factor": 0.25,
        "rope_theta": 1_000_000.0,
        "rope_type": "proportional",
    },
    "sliding_attention": {"rope_theta": 10_000.0, "rope_type": "default"},
}


def _id(token: str) -> int:
    return SPECIAL_TOKENS.index(token)


def text_config() -> dict[str, Any]:
    """The `text_config` of config.json."""
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_k_eq_v": True,
        "bos_token_id": _id("<bos>"),
        "dtype": "bfloat16",
        "enable_moe_block": True,
        "eos_token_id": _id("<eos>"),
        "final_logit_softcapping": 30.0,
        "global_head_dim": 64,
        "head_dim": 32,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 128,
        "hidden_size_per_layer_input": 32,
        "initializer_range": 0.02,
        "intermediate_size": 256,
        "layer_types": LAYERS,
        "max_position_embeddings": MAX_LENGTH,
        "model_type": "gemma4_text",
        "moe_intermediate_size": 64,
        "num_attention_heads": 4,
        "num_experts": 4,
        "num_global_key_value_heads": 1,
        "num_hidden_layers": len(LAYERS),
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 2,
        "pad_token_id": _id("<pad>"),
        "rms_norm_eps": 1e-06,
        "rope_parameters": ROPE,
        "sliding_window": 64,
        "tie_word_embeddings": True,
        "top_k_experts": 2,
        "use_bidirectional_attention": None,
        "use_cache": True,
        "use_double_wide_mlp": True,
        "vocab_size": VOCAB_SIZE,
        "vocab_size_per_layer_input": VOCAB_SIZE,
    }


def config() -> dict[str, Any]:
    """The content of config.json."""
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "audio_config": None,
        "audio_token_id": _id("<|audio|>"),
        "boa_token_id": _id("<|audio>"),
        "boi_token_id": _id("<|image>"),
        "dtype": "bfloat16",
        "eoa_token_id": _id("<audio|>"),
        "eoa_token_index": _id("<audio|>"),
        "eoi_token_id": _id("<image|>"),
        "eos_token_id": [_id("<eos>"), _id("<turn|>")],
        "image_token_id": _id("<|image|>"),
        "initializer_range": 0.02,
        "model_type": "gemma4",
        "text_config": text_config(),
        "tie_word_embeddings": True,
        "video_token_id": _id("<|video|>"),
        "vision_config": None,
    }


def generation_config() -> dict[str, Any]:
    """The content of generation_config.json: greedy, and Google's three stops."""
    stops = [_id("<eos>"), _id("<turn|>"), _id("<|tool_response>")]
    return {
        "bos_token_id": _id("<bos>"),
        "do_sample": False,
        "eos_token_id": stops,
        "pad_token_id": _id("<pad>"),
    }


def write_all(folder: Path) -> None:
    """Write everything but the weights into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != DEMO:
        shutil.copy(DEMO / "chat_template.jinja", folder)
    files = {"config.json": config(), "generation_config.json": generation_config()}
    for name, content in files.items():
        text = json.dumps(content, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    write_tokenizer(folder, MAX_LENGTH)


if __name__ == "__main__":
    write_all(DEMO)
