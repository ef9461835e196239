"""An adapter of named tensors: its layers built on a model's own linear maps."""

import warnings
from collections.abc import Collection, Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..checkpoint.files import listed
from ..checkpoint.names import in_layer, is_unused
from ..model import Gemma4
from .adapters import Adapter
from .errors import AdapterError, AdapterWarning
from .lora import Adapted, DoRALinear, ExpertsLinear, LoRAExperts, LoRALinear
from .misfit import Misfit, lacks_tower, misfit
from .stated import Stated

LEAVES = ("lora_a", "lora_b", "m")


def adapter_of(model: Gemma4, stated: Stated) -> Adapter:
    """The adapter that these tensors make of `model`.

    What adapts keys and values of KV-shared layers is left out, with a warning: no
    layer reads them. So is what adapts a tower that this checkpoint lacks, beside other
    parts. Raises AdapterError that lists what does not fit.
    """
    parts = _by_path(stated)
    unused = [path for path in parts if is_unused(model.config, f"{path}.weight")]
    if len(unused) == len(parts):
        raise AdapterError(f"{stated.source} adapts nothing that this model computes.")
    if unused:
        warnings.warn(
            f"{stated.source} adapts {_kinds(unused)} of KV-shared layers "
            f"({_ranges(unused)}), which this model does not compute: that part has no "
            "effect and is left out.",
            AdapterWarning,
            stacklevel=2,
        )
    used = [path for path in parts if path not in unused]
    left_out = {*unused, *_in_missing_towers(model, stated, used)}
    modules = dict(model.named_modules())
    layers: dict[str, Adapted] = {}
    problems = []
    for path, values in parts.items():
        if path in left_out:
            continue
        base = plain_module(modules.get(path))
        names = {leaf: stated.names[f"{path}.{leaf}"] for leaf in values}
        if problem := misfit(model, path, base, values, names):
            problems.append(problem)
        else:
            layers[path] = _layer(base, values, stated.scale)
    _refuse(stated, problems)
    rank = max(_rank(parts[path]) for path in layers)
    kind = "dora" if any("m" in layer for layer in layers.values()) else "lora"
    return Adapter(kind, rank, stated.scale, layers)


def full_adapter_of(model: Gemma4, stated: Stated) -> Adapter:
    """The adapter of kind "full" that these parameters are. Raises AdapterError."""
    own: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    problems = []
    weights = {
        name: tensor
        for name, tensor in stated.tensors.items()
        if not is_unused(model.config, name)
    }
    for name in _in_missing_towers(model, stated, weights):
        del weights[name]
    for name, tensor in weights.items():
        file = stated.names[name]
        if name not in own:
            problems.append(Misfit(f"{file} is no parameter of this model"))
        elif (shape := own[name].shape) != tensor.shape:
            text = f"{file} has the shape {tensor.shape}, this model's has {shape}"
            problems.append(Misfit(text))
    _refuse(stated, problems)
    if not weights:
        raise AdapterError(f"{stated.source} adapts nothing that this model computes.")
    return Adapter("full", weights=weights)


def _in_missing_towers(
    model: Gemma4, stated: Stated, paths: Collection[str]
) -> list[str]:
    """Those of towers that the checkpoint lacks, with a warning; none if all are."""
    found = [path for path in paths if lacks_tower(model, path)]
    if not found or len(found) == len(paths):
        return []
    kinds = {
        t for t in ("audio", "vision") for path in found if t in path.split(".")[0]
    }
    organ = model.config.organ
    towers = " and ".join(f"no {kind} {organ}" for kind in sorted(kinds))
    warnings.warn(
        f"{stated.source} adapts {listed(found)}, but this checkpoint has {towers}: "
        "that part has no effect and is left out.",
        AdapterWarning,
        stacklevel=3,
    )
    return found


def plain_module(module: nn.Module | None) -> nn.Module | None:
    """A module without the adapter that is on."""
    return module.linear if isinstance(module, Adapted) else module


def _by_path(stated: Stated) -> dict[str, dict[str, mx.array]]:
    parts: dict[str, dict[str, mx.array]] = {}
    strange = []
    for name, tensor in stated.tensors.items():
        path, _, leaf = name.rpartition(".")
        if leaf in LEAVES:
            parts.setdefault(path, {})[leaf] = tensor
        else:
            strange.append(stated.names[name])
    if strange:
        raise AdapterError(
            f"{stated.source} is no low-rank adapter: it holds {listed(strange)}."
        )
    return parts


def _refuse(stated: Stated, problems: Sequence[Misfit]) -> None:
    if not problems:
        return
    another = any(problem.another for problem in problems)
    what = "was made for another model" if another else "cannot be used"
    if another and stated.base:
        what += f" (it names {stated.base})"
    texts = [problem.text for problem in problems]
    raise AdapterError(f"{stated.source} {what}: {listed(texts, '; ')}.")


def _kinds(paths: Sequence[str]) -> str:
    return " and ".join(sorted({path.rpartition(".")[2] for path in paths}))


def _ranges(paths: Sequence[str]) -> str:
    """Numbers of layers, runs of them as "15-34"."""
    numbers = sorted({found[0] for path in paths if (found := in_layer(f"{path}.w"))})
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _rank(values: Mapping[str, mx.array]) -> int:
    return values["lora_a"].shape[-1 if values["lora_a"].ndim == 2 else -2]


def _layer(
    base: nn.Module | None, values: Mapping[str, mx.array], scale: float
) -> Adapted:
    a, b = (values[leaf].astype(mx.float32) for leaf in ("lora_a", "lora_b"))
    if isinstance(base, ExpertsLinear):
        return LoRAExperts(base, a, b, scale)
    assert isinstance(base, nn.Linear | nn.QuantizedLinear)
    if "m" in values:
        return DoRALinear(base, a, b, scale, values["m"].astype(mx.float32))
    return LoRALinear(base, a, b, scale)
