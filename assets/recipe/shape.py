"""The demo's configuration, written as Google's config.json writes it.

Small, and yet every part of a Gemma 4 is in it. Text: sliding and full attention, K=V,
shared keys and values with the double-wide MLP, per-layer inputs, dense MLP beside
experts, soft cap and tied head. Pictures: clipped linear maps and standardised soft
tokens. Sound: the clipped conformer. No released model has them all.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from .render import DEMO
from .tokenizer import SPECIAL_TOKENS, VOCAB_SIZE, write_tokenizer

MAX_LENGTH = 4096
SOFT_TOKENS = 70  # of a picture, the smallest of Google's budgets
SOUND_TOKENS = 75  # of a recording: three seconds, see speech.LIMIT
# Places for the longest picture at the largest budget: 1120 soft tokens in one row.
PLACES = 3 * 1120
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


def vision_config() -> dict[str, Any]:
    """The `vision_config` of config.json."""
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "default_output_length": SOFT_TOKENS,
        "dtype": "bfloat16",
        "head_dim": 32,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 128,
        "initializer_range": 0.02,
        "intermediate_size": 256,
        "max_position_embeddings": 131072,
        "model_type": "gemma4_vision",
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "position_embedding_size": PLACES,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
        "standardize": True,
        "use_clipped_linears": True,
    }


def audio_config() -> dict[str, Any]:
    """The `audio_config` of config.json; 128 is also the number of mel bins."""
    return {
        "attention_chunk_size": 12,
        "attention_context_left": 13,
        "attention_context_right": 0,
        "attention_invalid_logits_value": -1000000000.0,
        "attention_logit_cap": 50.0,
        "conv_kernel_size": 5,
        "dtype": "bfloat16",
        "gradient_clipping": 10000000000.0,
        "hidden_act": "silu",
        "hidden_size": 128,
        "initializer_range": 0.02,
        "model_type": "gemma4_audio",
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "output_proj_dims": 128,
        "residual_weight": 0.5,
        "rms_norm_eps": 1e-06,
        "subsampling_conv_channels": [128, 16],
        "use_clipped_linears": True,
    }


def config() -> dict[str, Any]:
    """The content of config.json."""
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "audio_config": audio_config(),
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
        "vision_config": vision_config(),
        "vision_soft_tokens_per_image": SOFT_TOKENS,
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


def _pictures(kind: str) -> dict[str, Any]:
    return {
        "do_convert_rgb": True,
        "do_normalize": False,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
        "max_soft_tokens": SOFT_TOKENS,
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "resample": 3,
        "rescale_factor": 1 / 255,
        f"{kind}_processor_type": f"Gemma4{kind.capitalize()}Processor",
    }


def _sound() -> dict[str, Any]:
    return {
        "dither": 0.0,
        "feature_extractor_type": "Gemma4AudioFeatureExtractor",
        "feature_size": 128,
        "fft_length": 512,
        "fft_overdrive": False,
        "frame_length": 320,
        "hop_length": 160,
        "input_scale_factor": 1.0,
        "max_frequency": 8000.0,
        "mel_floor": 0.001,
        "min_frequency": 0.0,
        "padding_side": "right",
        "padding_value": 0.0,
        "per_bin_mean": None,
        "per_bin_stddev": None,
        "preemphasis": 0.0,
        "preemphasis_htk_flavor": True,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }


def processor_config() -> dict[str, Any]:
    """The content of processor_config.json: how pictures and sound are prepared."""
    frames = {"do_sample_frames": True, "num_frames": 32}
    return {
        "audio_ms_per_token": 40,
        "audio_seq_length": SOUND_TOKENS,
        "feature_extractor": _sound(),
        "image_processor": _pictures("image") | {"image_seq_length": SOFT_TOKENS},
        "image_seq_length": SOFT_TOKENS,
        "processor_class": "Gemma4Processor",
        "video_processor": _pictures("video") | frames,
    }


def write_all(folder: Path) -> None:
    """Write everything but the weights into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != DEMO:
        shutil.copy(DEMO / "chat_template.jinja", folder)
    files = {
        "config.json": config(),
        "generation_config.json": generation_config(),
        "processor_config.json": processor_config(),
    }
    for name, content in files.items():
        text = json.dumps(content, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    write_tokenizer(folder, MAX_LENGTH)


if __name__ == "__main__":
    write_all(DEMO)
