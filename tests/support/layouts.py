"""The same weights under the names, and in the packings, that checkpoints have.

Every function takes and returns tensors by name, starting from the Hub's layout.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from tiny_tensors import random_tensors, tensor_shapes, unused_shapes

Tensors = dict[str, mx.array]
Rename = Callable[[str], str]

EXPERTS = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)")


def save(folder: Path, config: Mapping[str, Any], tensors: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    return folder


def converted(name: str) -> str:
    """mlx-lm's and mlx-vlm's prefixes for a Hub name."""
    if name.startswith("model.language_model."):
        return "language_model.model." + name.removeprefix("model.language_model.")
    if name.startswith("lm_head."):
        return "language_model." + name
    return name.removeprefix("model.")


def split_experts(tensors: Tensors, inner: str = ".experts.switch_glu") -> Tensors:
    """Gate and up apart, all three as modules of `inner`."""
    result: Tensors = {}
    for name, tensor in tensors.items():
        match = EXPERTS.fullmatch(name)
        if match is None:
            result[name] = tensor
            continue
        start = match[1].removesuffix(".experts") + inner
        if match[2] == "down_proj":
            result[f"{start}.down_proj.weight"] = tensor
        else:
            gate, up = mx.split(tensor, 2, axis=-2)
            result[f"{start}.gate_proj.weight"] = mx.contiguous(gate)
            result[f"{start}.up_proj.weight"] = mx.contiguous(up)
    return result


def single_experts(tensors: Tensors) -> Tensors:
    """Every expert's three matrices as tensors of their own."""
    result: Tensors = {}
    for name, tensor in split_experts(tensors, ".experts").items():
        match = re.fullmatch(r"(.*\.experts)(\.\w+_proj\.weight)", name)
        if match is None:
            result[name] = tensor
            continue
        for i in range(tensor.shape[0]):
            result[f"{match[1]}.{i}{match[2]}"] = tensor[i]
    return result


def renamed(tensors: Tensors, rename: Rename) -> Tensors:
    return {rename(name): tensor for name, tensor in tensors.items()}


def is_matrix(name: str, tensor: mx.array) -> bool:
    return tensor.ndim >= 2 and "norm" not in name


def packed(
    tensors: Tensors, settings: Callable[[str], dict[str, Any] | None]
) -> tuple[Tensors, Tensors]:
    """(quantised tensors, what they stand for) with `settings(module)` for each matrix.

    None leaves a matrix alone. The second result is float32 in the same names.
    """
    result: Tensors = {}
    plain: Tensors = {}
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        how = settings(module) if is_matrix(name, tensor) else None
        if how is None:
            result[name] = plain[name] = tensor
            continue
        weight, scales, *biases = mx.quantize(tensor, **how)
        result |= {f"{module}.weight": weight, f"{module}.scales": scales}
        if biases:
            result[f"{module}.biases"] = biases[0]
        bias = biases[0] if biases else None
        plain[name] = mx.dequantize(weight, scales, bias, **how, dtype=mx.float32)
    return result, plain


def names(folder: Path) -> list[str]:
    """Of the tensors in a folder, as stored."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return sorted(index["weight_map"])


def random_arrays(config: Mapping[str, Any], unused_kv: bool = False) -> Tensors:
    """The random tensors of a tiny config, in the Hub's layout."""
    shapes = tensor_shapes(config)
    if unused_kv:
        shapes = shapes | unused_shapes(config)
    return {n: mx.array(t) for n, t in random_tensors(shapes, 0).items()}
