"""Adapters in mlx-lm's format: adapters.safetensors and adapter_config.json.

Names are those of mlx-lm's model, so that an adapter of the text decoder loads there.
Adapters of towers use the names of the checkpoint; mlx-lm has no towers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.names import Place, in_layer, mlx_names, place
from ..model import Gemma4
from ..reading.json_file import read_object
from ..state import save_text
from .adapters import Adapter
from .errors import AdapterError
from .folders import finish_saving, make_folder, write_tensors
from .peft import PEFT_WEIGHTS, read_peft
from .tensors import adapter_of, full_adapter_of

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"


def write_adapter(
    folder: Path, model: Gemma4, adapter: Adapter, about: Mapping[str, Any]
) -> None:
    """Write an adapter of `model`; `about` is added to its configuration.

    The configuration is last: without one, weights are no adapter.
    """
    make_folder(folder)
    text_only = model.config.model_type == "gemma4_text"
    tensors: dict[str, mx.array] = {}
    for name, tensor in adapter.parameters().items():
        tensors |= _written(name, tensor, text_only)
    write_tensors(folder / WEIGHTS, tensors, {"format": "mlx"})
    config = {"fine_tune_type": adapter.kind, "num_layers": -1, **about}
    if adapter.kind != "full":
        names = (n for path in adapter.layers for n in mlx_names(Place(path), False))
        keys = {found[1] for name in names if (found := in_layer(name))}
        config["lora_parameters"] = {
            "rank": adapter.rank,
            "scale": adapter.scale,
            "dropout": 0.0,
            "keys": sorted(keys),
        }
    save_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def check_adapter(folder: Path) -> None:
    """Raises AdapterError where `folder` holds no adapter."""
    finish_saving(folder)
    if not (folder / CONFIG).is_file():
        raise AdapterError(f"{folder} holds no adapter: it has no {CONFIG}.")


def read_adapter(folder: Path, model: Gemma4) -> Adapter:
    """The adapter in a folder, in mlx-lm's or PEFT's format, made for `model`.

    Raises AdapterError that says what is missing or does not fit.
    """
    folder = folder.expanduser()
    check_adapter(folder)
    config = read_object(folder / CONFIG)
    if (folder / PEFT_WEIGHTS).is_file():
        tensors, scale = read_peft(config, load_tensors(folder / PEFT_WEIGHTS))
        return adapter_of(model, tensors, scale, str(folder))
    source = str(folder / WEIGHTS)
    tensors = _read_names(load_tensors(folder / WEIGHTS), source)
    if config.get("fine_tune_type") == "full":
        return full_adapter_of(model, tensors, source)
    parameters = config.get("lora_parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if not isinstance(scale, int | float):
        raise AdapterError(f"{folder / CONFIG} states no lora_parameters.scale.")
    return adapter_of(model, tensors, float(scale), source)


def _written(name: str, tensor: mx.array, text_only: bool) -> dict[str, mx.array]:
    """Our tensor under mlx-lm's names, which have gate and up apart."""
    names = mlx_names(Place(name), text_only)
    parts = [tensor] * len(names)
    if len(names) > 1 and not name.endswith(".lora_a"):
        parts = mx.split(tensor, 2, axis=1)  # the outputs; the input side is shared
    return dict(zip(names, parts, strict=True))


def _read_names(tensors: Mapping[str, mx.array], source: str) -> dict[str, mx.array]:
    """Tensors by our names, gate and up joined."""
    found: dict[Place, mx.array] = {}
    for name, tensor in tensors.items():
        where = place(name)
        if where.expert is not None:
            raise AdapterError(f"{source}: {name} adapts one expert of many.")
        found[where] = tensor
    whole = {p.parameter: t for p, t in found.items() if p.half is None}
    modules = {p.module for p in found if p.half is not None}
    for module in modules:
        whole |= _joined(module, found, source)
    return whole


def _joined(
    module: str, found: Mapping[Place, mx.array], source: str
) -> dict[str, mx.array]:
    """Gate and up as one map. Two different input sides stand beside each other."""
    leaves = {p.parameter.rpartition(".")[2] for p in found if p.module == module}
    places = {
        leaf: [Place(f"{module}.{leaf}", None, half) for half in (0, 1)]
        for leaf in leaves
    }
    if any(half not in found for halves in places.values() for half in halves):
        raise AdapterError(f"{source}: {module} is adapted by halves.")
    parts = {leaf: [found[half] for half in two] for leaf, two in places.items()}
    if "weight" in parts:
        return {f"{module}.weight": mx.concatenate(parts["weight"], axis=1)}
    (a0, a1), (b0, b1) = parts["lora_a"], parts["lora_b"]
    if mx.array_equal(a0, a1).item():
        a, b = a0, mx.concatenate([b0, b1], axis=1)
    else:
        a = mx.concatenate([a0, a1], axis=1)
        top = mx.concatenate([b0, mx.zeros((*b0.shape[:2], a1.shape[1]))], axis=2)
        low = mx.concatenate([mx.zeros((*b1.shape[:2], a0.shape[1])), b1], axis=2)
        b = mx.concatenate([top, low], axis=1)
    return {f"{module}.lora_a": a, f"{module}.lora_b": b}


def load_tensors(file: Path) -> dict[str, mx.array]:
    """The tensors of a safetensors file. Raises AdapterError."""
    if not file.is_file():
        raise AdapterError(f"{file} is missing: this is no finished adapter.")
    try:
        tensors = mx.load(str(file), format="safetensors")
    except RuntimeError as error:
        raise AdapterError(f"{file} cannot be read: {error}.") from None
    assert isinstance(tensors, dict)
    return tensors
