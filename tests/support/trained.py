"""Checkpoints whose weights lie on a trained grid, in each layout Google stores them.

`write` makes the plain model and the trained layout of the same weights: loading the
one, and converting the other, must give the same numbers. They have the towers of their
shape, and the head that packed files carry.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import tiny
import tiny_media
from tiny_towers import BOUNDS

from mlx_gemma4.convert.fit import round_to

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96}
WIDE: dict[str, Any] = SIZES | {"hidden_size_per_layer_input": 32}
# Vision and audio towers of each shape; 12B has what is in their place.
TOWERS: dict[str, tuple[str | None, str | None]] = {
    "E2B": ("clipped", "clipped"),
    "E4B": ("clipped", "clipped"),
    "26B-A4B": ("standardized", None),
    "31B": ("standardized", None),
    "12B": (None, None),
}
TABLE = "model.language_model.embed_tokens"
_DECODER = r"model\.language_model\.(layers\.\d+\..*"
# What each layout packs; of "ct" and "mobile" only matrices.
PACKED = {
    "q4_0": re.compile(_DECODER + r"_proj|per_layer_\w+|embed_tokens\w*)(\.weight)?"),
    "ct": re.compile(_DECODER + r"(proj|gate|projection)|per_layer_model\w+)\.weight"),
    "mobile": re.compile(
        _DECODER + r"(_proj|gate|projection)|embed_tokens\w*)\.weight"
        r"|model\.(vision|audio)_tower\..*\.linear\.weight"
    ),
}
BLOCK = 64  # inputs that share a step in the mobile per-layer table
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 32,
            }
        }
    },
}
MOBILE = {
    "quant_method": "gemma",
    "num_bits": 4,
    "module_quant_configs": {
        "^lm_head$": {"num_bits": 2},
        r"language_model\.embed_tokens$": {"num_bits": 2},
        r"mlp\.down_proj": {"num_bits": 2},
        "per_layer_input_gate": {"num_bits": 8},
        "vision_tower": {"num_bits": 8},
        r"audio_tower(?!.*lconv1d\.linear_start)": {"num_bits": 2},
    },
}


def write(plain: Path, trained: Path, layout: str, variant: str = "E2B") -> None:
    """Writes both folders. layout: "q4_0", "ct" or "mobile"."""
    vision, audio = TOWERS[variant]
    widths = WIDE if variant in ("E2B", "E4B") else SIZES
    config = tiny_media.config_dict(variant, vision, audio, **widths)
    plain.mkdir(parents=True, exist_ok=True)
    tiny.take_tokenizer(plain, config)
    if layout == "mobile":
        config["tie_word_embeddings"] = False
    tensors = {n: a.astype(mx.bfloat16) for n, a in _arrays(config, layout).items()}
    stored: dict[str, mx.array] = {}
    for seed, (name, array) in enumerate(sorted(tensors.items())):
        parts, tensors[name] = _trained(name, array, layout, seed)
        stored |= parts
    stored |= _head(stored, layout)
    if layout == "mobile":
        tensors["lm_head.weight"] = tensors[f"{TABLE}.weight"]
    _save(plain, config, tensors)
    shutil.copytree(plain, trained)
    if layout == "mobile":  # as Google's: bounds are spoken of, and not there
        _clip(config, True)
    if layout != "q4_0":
        config["quantization_config"] = COMPRESSED if layout == "ct" else MOBILE
    _save(trained, config, stored)


def _arrays(config: dict[str, Any], layout: str) -> dict[str, mx.array]:
    """Random tensors; of mobile files without bounds, which theirs lack."""
    found = tiny_media.arrays(config, seed=0)
    if layout != "mobile":
        return found
    _clip(config, False)
    return {n: a for n, a in found.items() if not n.endswith(BOUNDS)}


def _clip(config: dict[str, Any], clipped: bool) -> None:
    for tower in ("vision_config", "audio_config"):
        if config[tower]:
            config[tower] = config[tower] | {"use_clipped_linears": clipped}


def _head(stored: dict[str, mx.array], layout: str) -> dict[str, mx.array]:
    """A head like the table, as packed files have it."""
    if layout == "ct":
        return {"lm_head.weight": stored[f"{TABLE}.weight"]}
    if layout == "mobile":
        return {
            "lm_head.weight": stored[f"{TABLE}.embedding_quantized"],
            "lm_head.weight_scale": stored[f"{TABLE}.embedding_scale"],
        }
    return {}


def _save(folder: Path, config: dict[str, Any], tensors: dict[str, mx.array]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    file = str(folder / "model.safetensors")
    mx.save_safetensors(file, tensors, {"format": "pt"})


def _trained(
    name: str, array: mx.array, layout: str, seed: int
) -> tuple[dict[str, mx.array], mx.array]:
    """How a weight is stored, and the plain weight that this stands for."""
    packed = PACKED[layout].fullmatch(name) and array.shape[-1] % 32 == 0
    if not packed or (layout != "q4_0" and array.ndim > 2):
        return {name: array}, array
    if layout == "q4_0":
        weight = _on_grid(array, 4, 32, seed)[2]
        return {name: weight}, weight
    if layout == "ct":
        return _compressed(name, array, seed)
    return _mobile(name, array, seed)


def _on_grid(
    array: mx.array, bits: int, group: int, seed: int
) -> tuple[np.ndarray, np.ndarray, mx.array]:
    """Codes, steps [..., groups], and the bfloat16 weights nearest to `array`."""
    random = np.random.default_rng(seed)
    half = 1 << (bits - 1)
    shape = (*array.shape[:-1], -1, group)
    groups = np.array(array.astype(mx.float32)).reshape(shape)
    size = np.abs(groups).max(-1, keepdims=True)
    sign = random.choice([-1, 1], size.shape)
    step = round_to((sign * size / half).astype(np.float32), mx.bfloat16)
    code = np.clip(np.rint(groups / step), -half, half - 1)
    # The extreme of a Q4_0 group has the lowest code, whatever its sign.
    index = np.abs(groups).argmax(-1)[..., None]
    np.put_along_axis(code, index, -half, -1)
    weight = mx.array((code * step).reshape(array.shape)).astype(mx.bfloat16)
    return code.reshape(array.shape).astype(int), step[..., 0], weight


def _compressed(
    name: str, array: mx.array, seed: int
) -> tuple[dict[str, mx.array], mx.array]:
    code, step, weight = _on_grid(array, 4, 32, seed)
    words = ((code.reshape(len(code), -1, 8) + 8) << np.arange(0, 32, 4)).sum(-1)
    module = name.removesuffix(".weight")
    return {
        f"{module}.weight_packed": mx.array(words.astype(np.uint32)).view(mx.int32),
        f"{module}.weight_scale": mx.array(step).astype(mx.bfloat16),
        f"{module}.weight_shape": mx.array(array.shape, mx.int64),
    }, weight


def _mobile(
    name: str, array: mx.array, seed: int
) -> tuple[dict[str, mx.array], mx.array]:
    module = name.removesuffix(".weight")
    patterns: dict[str, Any] = MOBILE["module_quant_configs"]
    found = [o["num_bits"] for p, o in patterns.items() if re.search(p, module)]
    bits = found[0] if found else 4
    table = "embed_tokens" in name
    block = BLOCK if name.endswith("per_layer.weight") else array.shape[-1]
    code, step, weight = _on_grid(array, bits, block, seed)
    if bits == 8:
        packed = code.astype(np.int8)
    else:
        fields = (code + (1 << (bits - 1))).reshape(len(code), -1, 8 // bits)
        packed = (fields << np.arange(0, 8, bits)).sum(-1).astype(np.uint8)
    one = mx.array(0.5, mx.float32)
    return {
        f"{module}.{'embedding_quantized' if table else 'weight'}": mx.array(packed),
        f"{module}.{'embedding_scale' if table else 'weight_scale'}": mx.array(step),
        f"{module}.input_activation_scale": one,
        f"{module}.output_activation_scale": one,
    }, weight
