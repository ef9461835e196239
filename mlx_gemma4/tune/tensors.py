"""An adapter of named tensors: its layers built on a model's own linear maps."""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..checkpoint.files import listed
from ..model import Gemma4
from ..text.moe import ExpertLinear, QuantizedExpertLinear
from .adapters import Adapter
from .errors import AdapterError
from .lora import Adapted, DoRALinear, LoRAExperts, LoRALinear, sizes
from .targets import LINEAR

LEAVES = ("lora_a", "lora_b", "m")


def adapter_of(
    model: Gemma4, tensors: Mapping[str, mx.array], scale: float, source: str
) -> Adapter:
    """The adapter that these tensors, named as ours, make of `model`.

    Raises AdapterError that lists what does not fit; `source` names the file.
    """
    parts: dict[str, dict[str, mx.array]] = {}
    strange = []
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        if leaf in LEAVES:
            parts.setdefault(path, {})[leaf] = tensor
        else:
            strange.append(name)
    if not parts or strange:
        what = listed(strange) if strange else "nothing"
        raise AdapterError(f"{source} is no low-rank adapter: it holds {what}.")
    modules = dict(model.named_modules())
    layers: dict[str, Adapted] = {}
    problems = []
    for path, values in parts.items():
        base = modules.get(path)
        if isinstance(base, LoRALinear | DoRALinear | LoRAExperts):
            base = base.linear
        if problem := _misfit(base, values):
            problems.append(f"{path} {problem}")
            continue
        layers[path] = _layer(base, values, scale)
    if problems:
        raise AdapterError(
            f"{source} was made for another model: {listed(problems, '; ')}."
        )
    rank = max(_rank(values) for values in parts.values())
    kind = "dora" if any("m" in values for values in parts.values()) else "lora"
    return Adapter(kind, rank, scale, layers)


def full_adapter_of(
    model: Gemma4, tensors: Mapping[str, mx.array], source: str
) -> Adapter:
    """The adapter of kind "full" that these parameters are. Raises AdapterError."""
    own = dict(tree_flatten(model.parameters()))
    problems = [
        name
        for name, tensor in tensors.items()
        if name not in own or own[name].shape != tensor.shape
    ]
    if problems or not tensors:
        raise AdapterError(f"{source} was made for another model: {listed(problems)}.")
    return Adapter("full", weights=dict(tensors))


def _rank(values: Mapping[str, mx.array]) -> int:
    return values["lora_a"].shape[-1 if values["lora_a"].ndim == 2 else -2]


def _misfit(base: nn.Module | None, values: Mapping[str, mx.array]) -> str | None:
    """What keeps these tensors from adapting `base`."""
    if not isinstance(base, LINEAR):
        return "is no linear map of this model"
    if not {"lora_a", "lora_b"} <= values.keys():
        return "lacks lora_a or lora_b"
    inputs, outputs = sizes(base)
    a, b = values["lora_a"].shape, values["lora_b"].shape
    if isinstance(base, ExpertLinear | QuantizedExpertLinear):
        count, rank = base.weight.shape[0], a[1] if len(a) == 3 else 0
        fits = a == (count, rank, inputs) and b == (count, outputs, rank)
        return None if fits and "m" not in values else f"has the shapes {a} and {b}"
    rank = a[-1]
    fits = a == (inputs, rank) and b == (rank, outputs)
    if "m" in values and values["m"].shape != (outputs,):
        fits = False
    return None if fits else f"has the shapes {a} and {b}"


def _layer(
    base: nn.Module | None, values: Mapping[str, mx.array], scale: float
) -> Adapted:
    a, b = (values[leaf].astype(mx.float32) for leaf in ("lora_a", "lora_b"))
    if isinstance(base, ExpertLinear | QuantizedExpertLinear):
        return LoRAExperts(base, a, b, scale)
    assert isinstance(base, nn.Linear | nn.QuantizedLinear)
    if "m" in values:
        return DoRALinear(base, a, b, scale, values["m"].astype(mx.float32))
    return LoRALinear(base, a, b, scale)
