"""Fusing: a checkpoint whose weights have an adapter in them.

The result is in the Hub's names, in bfloat16 or quantised to 8 bits. It is never put
back on the 4 bits of its base: a merged weight lies between the steps, and a base that
was trained for its steps (QAT) would lose just what that training gave it.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..checkpoint.companions import copy_files
from ..model import Gemma4
from ..reading.json_file import read_json
from ..text.moe import ExpertLinear, QuantizedExpertLinear
from .adapters import Adapter
from .errors import AdapterError
from .folders import check_folder, make_folder, write_tensors
from .lora import Adapted, plain_weight

FORMS = ("bf16", "8bit")
BITS, GROUP = 8, 64
SHARD = 5 * 10**9  # bytes of a file
REQUANTISED = (
    "A fused model is written as bf16 or 8bit. {form} would round every merged weight "
    "to a coarse step again and lose a part of what was learned; if the base was "
    "trained for its steps (QAT), it would lose them as well. Keep the adapter apart "
    "(--adapter), which loses nothing, or convert the bf16 result at your own risk."
)


def fuse(model: Gemma4, adapter: Adapter, source: Path, out: Path, form: str) -> None:
    """Write `model` with `adapter` in its weights to `out`; `source` is its folder.

    The model is changed: its weights are no longer packed, and low-rank adapters that
    were on are off. Raises AdapterError for another form than "bf16" and "8bit", and
    for a folder that is not empty or cannot be written.
    """
    if form not in FORMS:
        raise AdapterError(REQUANTISED.format(form=form))
    check_folder(out)
    if out.exists() and any(out.iterdir()):
        raise AdapterError(f"{out} is not empty: name a new folder.")
    _bare(model)
    _unpack(model, adapter)
    if form == "8bit":
        nn.quantize(model, GROUP, BITS, class_predicate=_packable)
    make_folder(out)
    copy_files(source, out)
    _write_weights(model, out)
    _write_config(source, out, form)  # last: a half is no model


def _bare(model: Gemma4) -> None:
    """Take off what low-rank adapters are on: this one is merged in, others are not."""
    linears = {
        path: module.linear
        for path, module in model.named_modules()
        if isinstance(module, Adapted)
    }
    model.update_modules(tree_unflatten(list(linears.items())))


def _unpack(model: Gemma4, adapter: Adapter) -> None:
    """Plain modules everywhere, with the adapter merged in."""
    plain: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if path in adapter.layers:
            continue
        if isinstance(module, nn.QuantizedLinear | QuantizedExpertLinear):
            plain[path] = _plain(module, plain_weight(module))
        elif isinstance(module, nn.QuantizedEmbedding):
            plain[path] = _table(module)
    for path, layer in adapter.layers.items():
        plain[path] = _plain(layer.linear, layer.merged())
    model.update_modules(tree_unflatten(list(plain.items())))
    model.load_weights(list(adapter.weights.items()), strict=False)


def _plain(module: nn.Module, weight: mx.array) -> nn.Module:
    weight = weight.astype(mx.bfloat16)
    if weight.ndim == 3:
        experts = ExpertLinear(*(weight.shape[0], weight.shape[2], weight.shape[1]))
        experts.weight = weight
        return experts
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in module)
    linear.weight = weight
    if "bias" in module:
        linear.bias = module["bias"]
    return linear


def _table(module: nn.QuantizedEmbedding) -> nn.Module:
    weight = mx.dequantize(
        module.weight,
        module.scales,
        module.get("biases"),
        group_size=module.group_size,
        bits=module.bits,
        mode=module.mode,
    )
    table = nn.Embedding(1, 1)
    table.weight = weight.astype(mx.bfloat16)
    return table


def _packable(path: str, module: nn.Module) -> bool:
    """Whether 8 bits suit a module: the router decides on small differences."""
    weight = module.get("weight")
    return (
        hasattr(module, "to_quantized")
        and isinstance(weight, mx.array)
        and weight.shape[-1] % GROUP == 0
        and path.startswith("language_model.")
        and not path.endswith("router.proj")
    )


def _write_config(source: Path, out: Path, form: str) -> None:
    config = read_json(source / "config.json")
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    if form == "8bit":
        config["quantization"] = {"group_size": GROUP, "bits": BITS}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (out / "config.json").write_text(text, encoding="utf-8")


def _write_weights(model: Gemma4, out: Path) -> None:
    text_only = model.config.model_type == "gemma4_text"
    shards: list[dict[str, mx.array]] = [{}]
    room = SHARD
    named: dict[str, Any] = dict(tree_flatten(model.parameters()))
    for name, tensor in named.items():
        if mx.issubdtype(tensor.dtype, mx.floating):
            tensor = tensor.astype(mx.bfloat16)
        if tensor.nbytes > room and shards[-1]:
            shards.append({})
            room = SHARD
        room -= tensor.nbytes
        packed = f"{name.rpartition('.')[0]}.scales" in named
        shards[-1][_hub_name(name, text_only, packed)] = tensor
    if len(shards) == 1:
        write_tensors(out / "model.safetensors", shards[0], {"format": "pt"})
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_tensors(out / file, shard, {"format": "pt"})
        places |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    text = json.dumps(index, indent=2) + "\n"
    (out / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _hub_name(name: str, text_only: bool, packed: bool) -> str:
    if name.startswith("lm_head."):
        return name
    if text_only:
        name = name.replace("language_model.", "", 1)
    name = f"model.{name}"
    # The Hub's experts are parameters, not modules with a weight.
    module = name.removesuffix(".weight")
    experts = module.endswith(("experts.gate_up_proj", "experts.down_proj"))
    return module if experts and not packed else name
