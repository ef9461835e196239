"""Adapters of PEFT: lora_A [R, I], lora_B [O, R] and alpha, under the Hub's names."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.names import hub_name, place
from ..model import Gemma4
from .adapters import Adapter
from .errors import AdapterError
from .folders import make_folder, write_tensors
from .lora import LoRAExperts

PEFT_WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
LEAF = re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")
OURS = {"lora_A": "lora_a", "lora_B": "lora_b", "lora_magnitude_vector": "m"}
# Ways of PEFT to compute otherwise, which are refused where they are switched on.
OTHERWISE = (
    *("lora_bias", "alora_invocation_tokens", "layer_replication", "use_qalora"),
    *("modules_to_save", "target_parameters", "trainable_token_indices"),
)


def read_peft(
    config: Mapping[str, Any], tensors: Mapping[str, mx.array]
) -> tuple[dict[str, mx.array], float]:
    """Tensors by our names, and their scale.

    Where modules have scales of their own, B takes the difference. Raises AdapterError
    for an adapter that computes otherwise than LoRA or DoRA.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"PEFT adapters of type {kind} are not supported; LORA is.")
    used = [name for name in OTHERWISE if config.get(name)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    if used:
        raise AdapterError(f"The PEFT adapter uses {used[0]}, which is not supported.")
    found: dict[str, mx.array] = {}
    scales: dict[str, float] = {}
    for name, tensor in tensors.items():
        match = LEAF.fullmatch(name)
        if match is None:
            raise AdapterError(f"The PEFT adapter holds {name}: it is not LoRA's.")
        hub, leaf = match[1].removeprefix(PREFIX), match[2]
        path = place(f"{hub}.weight").module
        found[f"{path}.{OURS[leaf]}"] = tensor if leaf.endswith("vector") else tensor.T
        if leaf == "lora_A":
            scales[path] = _scale(config, hub, tensor.shape[0])
    if not scales:
        raise AdapterError("The PEFT adapter holds no lora_A.")
    scale = next(iter(scales.values()))
    for path, own in scales.items():
        if own != scale and f"{path}.lora_b" in found:
            found[f"{path}.lora_b"] = found[f"{path}.lora_b"] * (own / scale)
    return found, scale


def _scale(config: Mapping[str, Any], hub: str, rank: int) -> float:
    alpha = config.get("lora_alpha", 8)
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", hub):
            alpha = other
            break
    if type(alpha) not in (int, float):
        raise AdapterError(f"The PEFT adapter's lora_alpha is {alpha!r}.")
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def write_peft(folder: Path, model: Gemma4, adapter: Adapter, base: str) -> None:
    """Write a low-rank adapter for PEFT; `base` names the model that it belongs to.

    Raises AdapterError for experts and for a full adapter: PEFT has no form for them.
    """
    experts = any(isinstance(layer, LoRAExperts) for layer in adapter.layers.values())
    if adapter.kind == "full" or experts:
        what = "of experts" if experts else "of kind full"
        raise AdapterError(f"PEFT has no form for an adapter {what}: fuse it instead.")
    make_folder(folder)
    text_only = model.config.model_type == "gemma4_text"
    tensors: dict[str, mx.array] = {}
    for path, layer in adapter.layers.items():
        hub = hub_name(path, text_only)
        tensors[f"{PREFIX}{hub}.lora_A.weight"] = mx.contiguous(layer.lora_a.T)
        tensors[f"{PREFIX}{hub}.lora_B.weight"] = mx.contiguous(layer.lora_b.T)
        if "m" in layer:
            tensors[f"{PREFIX}{hub}.lora_magnitude_vector"] = layer["m"]
    write_tensors(folder / PEFT_WEIGHTS, tensors, {"format": "pt"})
    ranks = {path: layer.lora_a.shape[1] for path, layer in adapter.layers.items()}
    names = {path: _pattern(path, text_only) for path in ranks}
    own = {names[path]: r for path, r in ranks.items() if r != adapter.rank}
    config = {
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
        "target_modules": rf"(.*\.)?({'|'.join(names.values())})",
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _pattern(path: str, text_only: bool) -> str:
    """What finds a module in PEFT; a text model has no `language_model` there."""
    return re.escape(path.removeprefix("language_model.") if text_only else path)
