"""Real checkpoints' metadata, and folders of the real size that hold headers alone."""

import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from places import REAL

MODELS = {
    name: f"google/gemma-4-{name}-it" for name in ("E2B", "E4B", "26B-A4B", "31B")
}
SIZES = {"BF16": 2, "F16": 2, "F32": 4, "U32": 4, "I32": 4, "I64": 8, "U8": 1, "I8": 1}

Header = tuple[str, tuple[int, ...]]  # dtype and shape


def read(repository: str, file: str = "config.json") -> dict[str, Any]:
    """A file of a checkpoint, which one of MODELS names or a Hub id."""
    path = REAL / MODELS.get(repository, repository) / file
    return json.loads(path.read_text())


def tensors(name: str) -> dict[str, Header]:
    """Every tensor of one of MODELS."""
    return {k: ("BF16", tuple(s)) for k, s in read(name, "tensors.json").items()}


def used_shapes(name: str) -> dict[str, list[int]]:
    """The same without keys and values of KV-shared layers, which no layer uses."""
    text = read(name)["text_config"]
    first = text["num_hidden_layers"] - text["num_kv_shared_layers"]
    unused = re.compile(
        r".*language_model\.layers\.(\d+)\.self_attn\.[kv]_(proj|norm)\..*"
    )
    found = {key: unused.fullmatch(key) for key in read(name, "tensors.json")}
    return {
        key: shape
        for key, shape in read(name, "tensors.json").items()
        if not ((match := found[key]) and int(match[1]) >= first)
    }


def mlx_4bit(name: str) -> dict[str, Header]:
    """As mlx-vlm converts it: its names, channels last, 4 bits in groups of 64."""
    converted: dict[str, Header] = {}
    for key, (dtype, shape) in tensors(name).items():
        key = key.removeprefix("model.")
        inner = key.removeprefix("language_model.")
        key = key if inner == key else f"language_model.model.{inner}"
        if "audio_tower" in key and len(shape) == 4:
            shape = (shape[0], shape[2], shape[3], shape[1])
        if "depthwise_conv1d" in key:
            shape = (shape[0], shape[2], shape[1])
        packed = key.startswith(("language_model.", "embed_vision", "embed_audio"))
        packed &= key.endswith(".weight") and len(shape) == 2
        if not packed or "per_layer_model_projection" in key:
            converted[key] = dtype, shape
            continue
        module = key.removesuffix(".weight")
        converted[key] = "U32", (shape[0], shape[1] // 8)
        for part in ("scales", "biases"):
            converted[f"{module}.{part}"] = "BF16", (shape[0], shape[1] // 64)
    return converted


def write_headers(
    folder: Path, config: Mapping[str, Any], headers: Mapping[str, Header]
) -> Path:
    """A checkpoint's folder whose one weight file is a hole of the real size."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    end, listed = 0, {}
    for name in sorted(headers):
        dtype, shape = headers[name]
        start, end = end, end + SIZES[dtype] * math.prod(shape)
        listed[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(listed).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder
