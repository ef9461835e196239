"""Adapters in mlx-lm's format: adapters.safetensors and adapter_config.json.

Names are those of mlx-lm's model, so that an adapter of the text decoder loads there.
Adapters of towers use the names of the checkpoint; mlx-lm has no towers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.names import Place, in_layer, mlx_names
from ..model import Gemma4
from ..reading.home import with_home
from ..reading.json_file import read_object
from ..state import save_text
from .adapter_files import CONFIG, PEFT_WEIGHTS, WEIGHTS, check_adapter, load_floats
from .adapters import Adapter
from .folders import make_folder, write_tensors
from .mlx_read import read_mlx
from .peft_read import read_peft
from .tensors import adapter_of, full_adapter_of


def write_adapter(
    folder: Path, model: Gemma4, adapter: Adapter, about: Mapping[str, Any]
) -> None:
    """Write an adapter of `model`; `about` is added to its configuration.

    The configuration is last: without one, weights are no adapter.
    """
    make_folder(folder)
    text_only = model.config.text_only
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


def read_adapter(folder: Path, model: Gemma4) -> Adapter:
    """The adapter in a folder, in mlx-lm's, mlx-vlm's or PEFT's format, for `model`.

    Raises AdapterError that says what is missing or does not fit; warns with
    AdapterWarning of what has no effect.
    """
    folder = with_home(folder)
    check_adapter(folder)
    config = read_object(folder / CONFIG)
    if is_peft(folder, config):
        tensors = load_floats(folder / PEFT_WEIGHTS)
        return adapter_of(model, read_peft(model, config, tensors, str(folder)))
    file = folder / WEIGHTS
    stated, full = read_mlx(model, config, load_floats(file), str(file))
    return full_adapter_of(model, stated) if full else adapter_of(model, stated)


def is_peft(folder: Path, config: Mapping[str, Any]) -> bool:
    """By its configuration; where that says nothing, by its file."""
    if config.get("peft_type") is not None:
        return True
    ours = ("fine_tune_type", "lora_parameters", "rank")
    known = any(config.get(key) is not None for key in ours)
    return not known and (folder / PEFT_WEIGHTS).is_file()


def _written(name: str, tensor: mx.array, text_only: bool) -> dict[str, mx.array]:
    """Our tensor under mlx-lm's names, which have gate and up apart."""
    names = mlx_names(Place(name), text_only)
    parts = [tensor] * len(names)
    if len(names) > 1 and not name.endswith(".lora_a"):
        parts = mx.split(tensor, 2, axis=1)  # the outputs; the input side is shared
    return dict(zip(names, parts, strict=True))
