"""Adapters that change something, and quantised tiny checkpoints to put them on."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import tiny
from mlx.utils import tree_unflatten

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.model import Gemma4
from mlx_gemma4.tune.adapters import Adapter, AdapterSettings, new_adapter
from mlx_gemma4.tune.lora import DoRALinear

Tensors = dict[str, mx.array]
WEIGHTS = ("adapter_model.safetensors", "adapters.safetensors")
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96}


def write_tunable(folder: Path) -> Path:
    """A tiny checkpoint to train on: both kinds of layers, shared keys, a tokenizer."""
    kinds = ["sliding_attention", "full_attention"] * 2
    options: dict[str, Any] = {"layer_types": kinds, "num_hidden_layers": 4}
    tiny.write_checkpoint(
        folder, "E2B", tokenizer=True, num_kv_shared_layers=2, **options
    )
    return folder


def filled(model: Gemma4, kind: Any = "lora", *targets: str, seed: int = 1) -> Adapter:
    """An adapter that changes something: nothing in it is zero."""
    names = targets or ("attention", "mlp")
    settings = AdapterSettings(kind, rank=3, scale=1.5, targets=names)
    adapter = new_adapter(model, settings, seed)
    for path, layer in adapter.layers.items():
        layer.lora_b = mx.array(tiny.random_tensor(path, layer.lora_b.shape, seed)) / 4
        if isinstance(layer, DoRALinear):
            layer.m = layer.m * 1.1
    return adapter


def take_off(model: Gemma4, adapter: Adapter) -> None:
    """Put the plain linear maps of a low-rank adapter back."""
    plain = [(path, layer.linear) for path, layer in adapter.layers.items()]
    model.update_modules(tree_unflatten(plain))


def quantised(folder: Path, variant: str) -> Gemma4:
    """A 4-bit checkpoint with the tiny weights, loaded."""
    tiny.write_checkpoint(folder, variant, tokenizer=True, **WIDE)
    tensors: Any = mx.load(str(folder / "model.safetensors"))
    packed: dict[str, mx.array] = {}
    for name, array in tensors.items():
        if array.ndim < 2 or array.shape[-1] % 32 or "router" in name:
            packed[name] = array
            continue
        module = name.removesuffix(".weight")
        parts = mx.quantize(array, 32, 4)
        named = zip(("weight", "scales", "biases"), parts, strict=True)
        packed |= {f"{module}.{kind}": part for kind, part in named}
    mx.save_safetensors(str(folder / "model.safetensors"), packed)
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return load_model(folder)


def change_folder(
    source: Path,
    folder: Path,
    stated: Mapping[str, Any],
    change: Callable[[Tensors], Tensors] = dict,
) -> Path:
    """A copy of an adapter with other keys in its configuration and other tensors."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(stated)))
    for file in (folder / name for name in WEIGHTS if (folder / name).exists()):
        tensors: Any = mx.load(str(file))
        mx.eval(tensors)
        mx.save_safetensors(str(file), change(tensors))
    return folder
