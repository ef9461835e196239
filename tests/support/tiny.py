"""Tiny Gemma 4 models and checkpoint folders, one per real shape, for every test.

`config_dict`, `random_config`, `tensor_shapes` and `random_tensors` need no model code;
`build` makes a loaded model without load.py; `write_checkpoint` makes a Hub folder.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from places import DEMO
from tiny_configs import (
    AUDIO,
    FAMILIES,
    IMAGE,
    VARIANTS,
    VIDEO,
    WINDOW,
    config_dict,
    random_config,
)
from tiny_tensors import (
    random_tensor,
    random_tensors,
    random_tokens,
    tensor_shapes,
    unused_shapes,
)

from mlx_gemma4.config import Config
from mlx_gemma4.model import Gemma4

__all__ = [
    "AUDIO",
    "FAMILIES",
    "IMAGE",
    "VARIANTS",
    "VIDEO",
    "WINDOW",
    "build",
    "build_from",
    "build_packed",
    "config_dict",
    "logits",
    "random_config",
    "random_tensor",
    "random_tensors",
    "random_tokens",
    "take_tokenizer",
    "tensor_shapes",
    "unused_shapes",
    "write_checkpoint",
]

PARTS = (
    "language_model",
    "vision_tower",
    "vision_embedder",
    "audio_tower",
    "embed_vision",
    "embed_audio",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)


def parameter_name(name: str) -> str:
    """The model's name of a Hub tensor: no `model.`, experts as modules."""
    if name.startswith(tuple(f"model.{part}." for part in PARTS)):
        name = name.removeprefix("model.")
    elif name.startswith("model."):
        name = "language_model." + name.removeprefix("model.")
    fused = name.endswith(("experts.gate_up_proj", "experts.down_proj"))
    return name + ".weight" if fused else name


def build_from(config: Mapping[str, Any], seed: int) -> Gemma4:
    """The model of a config.json dict, strictly filled with random tensors."""
    model = Gemma4(Config.from_dict(dict(config)))
    tensors = random_tensors(tensor_shapes(config), seed)
    named = [(parameter_name(n), mx.array(t)) for n, t in tensors.items()]
    model.load_weights(named, strict=True)
    return model


def build(variant: str, seed: int = 0, **text: Any) -> Gemma4:
    """`build_from` of a named variant; `text` overrides text keys."""
    return build_from(config_dict(variant, **text), seed)


def build_packed(variant: str, seed: int = 0, **text: Any) -> Gemma4:
    """`build` with all maps of the decoder in 4 bits: kernels take these."""
    sizes = {"intermediate_size": 64}
    if variant in ("E2B", "E4B"):
        sizes["hidden_size_per_layer_input"] = 32
    if variant == "26B-A4B":
        sizes["moe_intermediate_size"] = 32
    model = build(variant, seed, **sizes, **text)
    nn.quantize(model.language_model, 32, 4)
    return model


def logits(model: Gemma4, tokens: list[int], cache: list[Any] | None = None) -> Any:
    """[L, vocab] float32 logits of one sequence, as numpy."""
    return np.array(model(mx.array([tokens]), cache=cache)[0].astype(mx.float32))


def write_checkpoint(
    folder: Path,
    variant: str = "E2B",
    seed: int = 0,
    *,
    shards: int = 1,
    unused_kv: bool = False,
    tokenizer: bool = False,
    dtype: mx.Dtype = mx.float32,
    **text: Any,
) -> dict[str, np.ndarray]:
    """Writes a Hub folder and returns its tensors, float32, by Hub name.

    `unused_kv` adds the k/v tensors of KV-shared layers that Google's files carry,
    `tokenizer` copies the demo's tokenizer files and takes its vocabulary and ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = config_dict(variant, **text)
    if tokenizer:
        take_tokenizer(folder, config)
    shapes = tensor_shapes(config) | (unused_shapes(config) if unused_kv else {})
    tensors = random_tensors(shapes, seed)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    _save(folder, {n: mx.array(t).astype(dtype) for n, t in tensors.items()}, shards)
    return tensors


def take_tokenizer(folder: Path, config: dict[str, Any]) -> None:
    """Copies the demo's tokenizer files; `config` takes its vocabulary and ids."""
    for name in TOKENIZER_FILES:
        if (DEMO / name).exists():
            shutil.copyfile(DEMO / name, folder / name)
    demo = json.loads((DEMO / "config.json").read_text())
    text, ours = demo["text_config"], config.get("text_config", config)
    ids = [key for key in config if key.endswith(("token_id", "token_index"))]
    config |= {key: demo[key] for key in ids if key in demo}
    for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"):
        ours[key] = text[key]
    ours["vocab_size_per_layer_input"] = text["vocab_size"]


def _save(folder: Path, tensors: dict[str, mx.array], shards: int) -> None:
    metadata = {"format": "pt"}
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), tensors, metadata)
        return
    names, weight_map = sorted(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        mx.save_safetensors(str(folder / file), part, metadata)
        weight_map |= dict.fromkeys(part, file)
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
