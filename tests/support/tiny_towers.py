"""Tiny vision and audio towers: configurations, tensor shapes, values and inputs.

As in `tiny_tensors`, a value depends on name, shape and seed alone. Clip bounds are
drawn so that they cut, and no norm, bias or scale keeps its initial value.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from tiny_configs import config_dict
from tiny_tensors import random_tensor

BOUNDS = ("input_min", "input_max", "output_min", "output_max")
# Linear maps that no norm precedes: what arrives there is small.
INNER = r"\.(down_proj|o_proj|post|linear_end|ffw_layer_2)\."
# Soft tokens of test pictures, (rows, columns), and frames of test clips.
PICTURES = ((1, 1), (2, 3), (1, 5), (4, 2))
CLIPS = (1, 2, 3, 4, 5, 16, 17, 47, 48, 49, 100)

_VISION: dict[str, Any] = {
    "attention_bias": False,
    "hidden_activation": "gelu_pytorch_tanh",
    "model_type": "gemma4_vision",
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
    "position_embedding_size": 48,
    "num_hidden_layers": 3,
}
# The shapes of E2B and E4B, of 26B-A4B and 31B, and one that has everything.
VISION: dict[str, dict[str, Any]] = {
    "clipped": {
        **_VISION,
        **{"hidden_size": 32, "intermediate_size": 48, "patch_size": 4},
        **{"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8},
        **{"pooling_kernel_size": 3, "use_clipped_linears": True, "standardize": False},
    },
    "standardized": {
        **_VISION,
        **{"hidden_size": 36, "intermediate_size": 50, "patch_size": 4},
        **{"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 12},
        **{"pooling_kernel_size": 3, "use_clipped_linears": False, "standardize": True},
    },
    "both": {
        **_VISION,
        **{"hidden_size": 24, "intermediate_size": 32, "patch_size": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
        **{"pooling_kernel_size": 2, "use_clipped_linears": True, "standardize": True},
    },
}
_AUDIO: dict[str, Any] = {
    "hidden_act": "silu",
    "model_type": "gemma4_audio",
    "rms_norm_eps": 1e-6,
    "residual_weight": 0.5,
    "num_hidden_layers": 3,
    "conv_kernel_size": 5,
}
# The real shape with a cap that cuts, and one that clamps gradients.
AUDIO: dict[str, dict[str, Any]] = {
    "clipped": {
        **_AUDIO,
        **{"hidden_size": 32, "num_attention_heads": 4, "output_proj_dims": 20},
        **{"subsampling_conv_channels": [16, 8], "use_clipped_linears": True},
        **{"attention_chunk_size": 12, "attention_context_left": 13},
        **{"attention_context_right": 0, "attention_logit_cap": 0.5},
        "gradient_clipping": 1e10,
    },
    "unclipped": {
        **_AUDIO,
        **{"hidden_size": 24, "num_attention_heads": 2, "output_proj_dims": 24},
        **{"subsampling_conv_channels": [12, 4], "use_clipped_linears": False},
        **{"attention_chunk_size": 4, "attention_context_left": 5},
        **{"attention_context_right": 0, "attention_logit_cap": 50.0},
        **{"gradient_clipping": 1.5, "conv_kernel_size": 3},
    },
}


# In place of towers, as in 12B: squares of 12 x 12 pixels, and 40 samples.
SQUARES: dict[str, Any] = {
    "model_type": "gemma4_unified_vision",
    **{"patch_size": 4, "pooling_kernel_size": 3, "model_patch_size": 12},
    **{"mm_embed_dim": 32, "output_proj_dims": 32, "mm_posemb_size": 40},
    **{"num_soft_tokens": 280, "rms_norm_eps": 1e-6, "label2id": {"LABEL_0": 0}},
}
SAMPLES: dict[str, Any] = {
    "model_type": "gemma4_unified_audio",
    **dict.fromkeys(("audio_embed_dim", "audio_samples_per_token"), 40),
    **dict.fromkeys(("hidden_size", "output_proj_dims"), 40),
    "rms_norm_eps": 1e-6,
}


def embedder_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what sees without a tower."""
    pixels, dims = 3 * config["model_patch_size"] ** 2, config["mm_embed_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "patch_dense.weight": (dims, pixels),
        "patch_dense.bias": (dims,),
        "pos_embedding": (config["mm_posemb_size"], 2, dims),
    }
    for norm, size in (("patch_ln1", pixels), ("patch_ln2", dims), ("pos_norm", dims)):
        shapes |= {f"{norm}.weight": (size,), f"{norm}.bias": (size,)}
    return shapes


def whole_config(**towers: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json dict with `vision_config` or `audio_config`."""
    return {**config_dict("E2B"), **towers}


def vision_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a vision tower's tensors, from the published layout."""
    hidden, width = config["hidden_size"], config["intermediate_size"]
    dim, table = config["head_dim"], config["position_embedding_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedder.input_proj.weight": (hidden, 3 * config["patch_size"] ** 2),
        "patch_embedder.position_embedding_table": (2, table, hidden),
    }
    linears = {
        "self_attn.q_proj": (heads * dim, hidden),
        "self_attn.k_proj": (kv_heads * dim, hidden),
        "self_attn.v_proj": (kv_heads * dim, hidden),
        "self_attn.o_proj": (hidden, heads * dim),
        **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), (width, hidden)),
        "mlp.down_proj": (hidden, width),
    }
    norms = ["input", "post_attention", "pre_feedforward", "post_feedforward"]
    vectors = {f"{norm}_layernorm.weight": hidden for norm in norms}
    vectors |= {"self_attn.q_norm.weight": dim, "self_attn.k_norm.weight": dim}
    shapes |= _layers("encoder.layers", config, linears, vectors)
    if config["standardize"]:
        shapes |= {"std_bias": (hidden,), "std_scale": (hidden,)}
    return shapes


def audio_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of an audio tower's tensors, from the published layout."""
    hidden, outputs = config["hidden_size"], config["output_proj_dims"]
    first, second = config["subsampling_conv_channels"]
    start = "subsample_conv_projection"
    shapes: dict[str, tuple[int, ...]] = {
        f"{start}.layer0.conv.weight": (first, 1, 3, 3),
        f"{start}.layer0.norm.weight": (first,),
        f"{start}.layer1.conv.weight": (second, first, 3, 3),
        f"{start}.layer1.norm.weight": (second,),
        f"{start}.input_proj_linear.weight": (hidden, first // 4 * second),
        "output_proj.weight": (outputs, hidden),
        "output_proj.bias": (outputs,),
    }
    square, wide = (hidden, hidden), (4 * hidden, hidden)
    linears = {f"self_attn.{n}": square for n in ("q_proj", "k_proj", "v_proj", "post")}
    linears |= {"lconv1d.linear_start": (2 * hidden, hidden)}
    linears |= {"lconv1d.linear_end": square}
    norms = ["norm_pre_attn", "norm_post_attn", "norm_out", "lconv1d.pre_layer_norm"]
    norms += ["lconv1d.conv_norm"]
    for block in ("feed_forward1", "feed_forward2"):
        linears |= {f"{block}.ffw_layer_1": wide, f"{block}.ffw_layer_2": wide[::-1]}
        norms += [f"{block}.pre_layer_norm", f"{block}.post_layer_norm"]
    vectors = {f"{norm}.weight": hidden for norm in norms}
    vectors |= {"self_attn.per_dim_scale": hidden // config["num_attention_heads"]}
    shapes |= _layers("layers", config, linears, vectors)
    for i in range(config["num_hidden_layers"]):
        kernel = (hidden, 1, config["conv_kernel_size"])
        shapes[f"layers.{i}.lconv1d.depthwise_conv1d.weight"] = kernel
        shapes[f"layers.{i}.self_attn.relative_k_proj.weight"] = square
    return shapes


def _layers(
    prefix: str,
    config: Mapping[str, Any],
    linears: Mapping[str, tuple[int, int]],
    vectors: Mapping[str, int],
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(config["num_hidden_layers"]):
        for name, shape in linears.items():
            shapes[f"{prefix}.{i}.{name}.linear.weight"] = shape
            if config["use_clipped_linears"]:
                shapes |= {f"{prefix}.{i}.{name}.{bound}": () for bound in BOUNDS}
        shapes |= {f"{prefix}.{i}.{n}": (size,) for n, size in vectors.items()}
    return shapes


def tower_tensors(
    shapes: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, np.ndarray]:
    """float32 values of every tensor."""
    return {name: _tensor(name, shape, seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    draw = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    if name.endswith(BOUNDS):
        size = draw.uniform(0.4, 1.2) * (0.2 if re.search(INNER, name) else 1)
        return np.array(-size if name.endswith("min") else size, np.float32)
    if re.search(r"std_scale$|(norm_\w+|pos_norm|patch_ln\d)\.weight$", name):
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    values = random_tensor(name, shape, seed)
    # A convolution sums over more than its last axis.
    return values / np.float32(len(shape) == 4 and 3 or 1)


def picture(
    config: Mapping[str, Any], rows: int, columns: int, seed: int, padding: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [P, patch² * 3] and positions [P, 2], ending in empty soft tokens."""
    side, kernel = config["patch_size"], config["pooling_kernel_size"]
    if "model_patch_size" in config:
        side, kernel = config["model_patch_size"], 1
    height, width = rows * kernel, columns * kernel
    draw = np.random.RandomState(1000 * seed + 50 * rows + columns)
    pixels = draw.uniform(0, 1, (height * width, 3 * side**2))
    y, x = np.divmod(np.arange(height * width), width)
    positions = np.stack([x, y], axis=-1)
    end = ((0, padding * kernel**2), (0, 0))
    pixels = np.pad(pixels, end).astype(np.float32)
    return pixels, np.pad(positions, end, constant_values=-1).astype(np.int32)


def clip(config: Mapping[str, Any], frames: int, seed: int) -> np.ndarray:
    """Features [T, bins], where bins are as many as the first convolution's outputs; or
    [T, samples], which would be smaller in a recording."""
    draw = np.random.RandomState(1000 * seed + frames)
    bins = config.get("audio_embed_dim") or config["subsampling_conv_channels"][0]
    return (2 * draw.standard_normal((frames, bins)) - 1).astype(np.float32)
