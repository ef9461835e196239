"""Writes adapters for PEFT: lora_A [R, I], lora_B [O, R] and alpha."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.names import PEFT, hub_name, reference_name
from ..model import Gemma4
from .adapter_files import CONFIG, PEFT_WEIGHTS
from .adapters import Adapter
from .errors import AdapterError
from .folders import make_folder, write_tensors
from .lora import Adapted, LoRAExperts
from .peft_experts import wrapped, write_experts


def write_peft(folder: Path, model: Gemma4, adapter: Adapter, base: str) -> None:
    """Write a low-rank adapter for PEFT; `base` names the model that it belongs to.

    Raises AdapterError for a full adapter: PEFT has no form for it.
    """
    if adapter.kind == "full":
        raise AdapterError(
            "PEFT has no form for an adapter of kind full: fuse it instead."
        )
    if not model.config.has_towers:
        named = {reference_name(path): each for path, each in adapter.layers.items()}
        adapter = replace(adapter, layers=named)
    make_folder(folder)
    text_only = model.config.text_only
    tensors: dict[str, mx.array] = {}
    for path, layer in adapter.layers.items():
        tensors |= _tensors(path, layer, adapter.layers, text_only)
    write_tensors(folder / PEFT_WEIGHTS, tensors, {"format": "pt"})
    text = json.dumps(_config(adapter, base, text_only), indent=2) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _tensors(
    path: str, layer: Adapted, layers: Mapping[str, Adapted], text_only: bool
) -> dict[str, mx.array]:
    if isinstance(layer, LoRAExperts):
        a, b = write_experts(layer.lora_a, layer.lora_b)
        module, _, parameter = path.rpartition(".")
        start = f"{module}."
        beside = {p.removeprefix(start): "" for p in layers if p.startswith(start)}
        name = hub_name(module, text_only) + wrapped(beside)[parameter]
    else:
        a, b = (mx.contiguous(side.T) for side in (layer.lora_a, layer.lora_b))
        name = hub_name(path, text_only)
    found = {f"{PEFT}{name}.lora_A.weight": a, f"{PEFT}{name}.lora_B.weight": b}
    if "m" in layer:
        found[f"{PEFT}{name}.lora_magnitude_vector"] = layer["m"]
    return found


def _config(adapter: Adapter, base: str, text_only: bool) -> dict[str, Any]:
    ranks = {path: _rank(layer) for path, layer in adapter.layers.items()}
    names = {path: _name(path, text_only) for path in ranks}
    own = {re.escape(names[p]): r for p, r in ranks.items() if r != adapter.rank}
    parameters = [
        p for p, layer in adapter.layers.items() if isinstance(layer, LoRAExperts)
    ]
    modules = [re.escape(names[path]) for path in ranks if path not in parameters]
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.rank * adapter.scale,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": adapter.kind == "dora",
        "use_rslora": False,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "rank_pattern": own,
        "alpha_pattern": {name: r * adapter.scale for name, r in own.items()},
        # A pattern, since the paths below are the only ones that are adapted.
        "target_modules": rf"(.*\.)?({'|'.join(modules)})" if modules else [],
    }
    if parameters:
        config["target_parameters"] = [names[path] for path in parameters]
    return config


def _rank(layer: Adapted) -> int:
    return layer.lora_a.shape[1]  # of [I, R], and of the experts' [E, R, I]


def _name(path: str, text_only: bool) -> str:
    """What finds a module in PEFT; a text model has no `language_model` there."""
    return path.removeprefix("language_model.") if text_only else path
