"""Real checkpoints' metadata, and folders of the real size that hold headers alone."""

import json
import math
import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from places import DEMO, REAL

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
    """As mlx-vlm converts it: its names, channels last, 4 bits in groups of 64.

    8 bits in the router and the dense MLP that stand beside experts.
    """
    converted: dict[str, Header] = {}
    for key, (dtype, shape) in _mlx_named(name):
        if not _is_packed(key, shape):
            converted[key] = dtype, shape
            continue
        bits, module = mlx_bits(name, key), key.removesuffix(".weight")
        converted[key] = "U32", (*shape[:-1], shape[-1] * bits // 32)
        for part in ("scales", "biases"):
            converted[f"{module}.{part}"] = "BF16", (*shape[:-1], shape[-1] // 64)
    return converted


def mlx_config(name: str) -> dict[str, Any]:
    """Google's configuration with what a 4-bit conversion adds."""
    how = {"group_size": 64, "bits": 4, "mode": "affine"}
    overrides = {
        key.removesuffix(".weight"): {"group_size": 64, "bits": 8}
        for key, (_, shape) in _mlx_named(name)
        if _is_packed(key, shape) and mlx_bits(name, key) != how["bits"]
    }
    quantization = how | overrides
    return read(name) | {
        "quantization": quantization,
        "quantization_config": quantization,
    }


def mlx_bits(name: str, key: str) -> int:
    beside_experts = re.search(r"layers\.\d+\.(mlp|router)\.", key)
    return 8 if name == "26B-A4B" and beside_experts else 4


def _mlx_named(name: str) -> Iterator[tuple[str, Header]]:
    """Every tensor in mlx-vlm's names and shapes, not packed yet."""
    for key, (dtype, shape) in tensors(name).items():
        key = key.removeprefix("model.")
        inner = key.removeprefix("language_model.")
        key = key if inner == key else f"language_model.model.{inner}"
        if "audio_tower" in key and len(shape) == 4:
            shape = (shape[0], shape[2], shape[3], shape[1])
        if "depthwise_conv1d" in key:
            shape = (shape[0], shape[2], shape[1])
        start, projection = key.rpartition(".")[::2]
        if projection == "gate_up_proj":
            half = (shape[0], shape[1] // 2, shape[2])
            for part in ("gate_proj", "up_proj"):
                yield f"{start}.switch_glu.{part}.weight", (dtype, half)
        elif projection == "down_proj":
            yield f"{start}.switch_glu.down_proj.weight", (dtype, shape)
        else:
            yield key, (dtype, shape)


def _is_packed(key: str, shape: tuple[int, ...]) -> bool:
    packed = key.startswith(("language_model.", "embed_vision", "embed_audio"))
    packed &= key.endswith(".weight") and len(shape) >= 2
    return packed and "per_layer_model_projection" not in key


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


# Where Gemma 4's own tokens stand in the vocabulary of 262,144.
MARKS = {
    **{"<|tool>": 46, "<tool|>": 47, "<|tool_call>": 48, "<tool_call|>": 49},
    **{"<|tool_response>": 50, "<tool_response|>": 51, '<|"|>': 52, "<|think|>": 98},
    **{"<|channel>": 100, "<channel|>": 101, "<|turn>": 105, "<turn|>": 106},
    **{"<|image>": 255_999, "<|audio>": 256_000, "<|image|>": 258_880},
    **{"<|audio|>": 258_881, "<image|>": 258_882, "<audio|>": 258_883},
    "<|video|>": 258_884,
}
BEHIND_MARKS = 1000  # of the other tokens, whose ids say nothing


def write_tokenizer(folder: Path) -> None:
    """The demo's tokenizer and template, with the marks at their real ids."""
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(DEMO / name, folder / name)
    data = json.loads((DEMO / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    first = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}
    for token, number in vocabulary.items():
        vocabulary[token] = (first | MARKS).get(token, number + BEHIND_MARKS)
    for token in data["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(data))
