"""Checkpoints whose weights lie on a trained grid, in each layout Google stores them.

`write` makes the plain model and the trained layout of the same weights: loading the
one, and converting the other, must give the same numbers.
"""

import json
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import tiny

from mlx_gemma4.convert.fit import round_to

WIDE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "hidden_size_per_layer_input": 32,
}
MATRICES = re.compile(r".*(_proj|per_layer_\w+|embed_tokens\w*)(\.weight)?")
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
        r"language_model\.embed_tokens$": {"num_bits": 2},
        r"mlp\.down_proj": {"num_bits": 2},
        "per_layer_input_gate": {"num_bits": 8},
    },
}


def write(plain: Path, trained: Path, layout: str, variant: str = "E2B") -> None:
    """Writes both folders. layout: "q4_0", "ct" or "mobile"."""
    tiny.write_checkpoint(plain, variant, dtype=mx.bfloat16, tokenizer=True, **WIDE)
    tensors = mx.load(str(plain / "model.safetensors"))
    assert isinstance(tensors, dict)
    config = json.loads((plain / "config.json").read_text())
    stored: dict[str, mx.array] = {}
    for seed, (name, array) in enumerate(sorted(tensors.items())):
        parts, tensors[name] = _trained(name, array, layout, seed)
        stored |= parts
    if layout != "q4_0":
        config["quantization_config"] = COMPRESSED if layout == "ct" else MOBILE
    trained.mkdir()
    for path in plain.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            (trained / path.name).write_bytes(path.read_bytes())
    (trained / "config.json").write_text(json.dumps(config))
    metadata = {"format": "pt"}
    mx.save_safetensors(str(plain / "model.safetensors"), tensors, metadata)
    mx.save_safetensors(str(trained / "model.safetensors"), stored, metadata)


def _trained(
    name: str, array: mx.array, layout: str, seed: int
) -> tuple[dict[str, mx.array], mx.array]:
    """How a weight is stored, and the plain weight that this stands for."""
    if array.ndim < 2 or array.shape[-1] % 32 or not MATRICES.fullmatch(name):
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
    if "embed" in name or "per_layer" in name:
        return {name: array}, array
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
    code, step, weight = _on_grid(array, bits, array.shape[-1], seed)
    if bits == 8:
        packed = code.astype(np.int8)
    else:
        fields = (code + (1 << (bits - 1))).reshape(len(code), -1, 8 // bits)
        packed = (fields << np.arange(0, 8, bits)).sum(-1).astype(np.uint8)
    table = "embed_tokens" in name
    one = mx.array(0.5, mx.float32)
    return {
        f"{module}.{'embedding_quantized' if table else 'weight'}": mx.array(packed),
        f"{module}.{'embedding_scale' if table else 'weight_scale'}": mx.array(step),
        f"{module}.input_activation_scale": one,
        f"{module}.output_activation_scale": one,
    }, weight
