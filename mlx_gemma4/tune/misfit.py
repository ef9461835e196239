"""What keeps low-rank tensors from adapting a module of the model."""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..checkpoint.names import TOWERS
from ..checkpoint.plan import TABLE
from ..model import Gemma4
from ..text.moe import ExpertLinear, QuantizedExpertLinear
from .lora import Matrix, sizes
from .targets import LINEAR

TABLES = (nn.Embedding, nn.QuantizedEmbedding)
EXPERTS = (ExpertLinear, QuantizedExpertLinear)


@dataclass(frozen=True)
class Misfit:
    """`another`: it is so because the adapter was made for another model."""

    text: str
    another: bool = True


def misfit(
    model: Gemma4,
    path: str,
    base: nn.Module | None,
    values: Mapping[str, mx.array],
    names: Mapping[str, str],
) -> Misfit | None:
    """What keeps `values`, by leaf, from adapting `base`, the module at `path`.

    names: what the file calls each of them.
    """
    first = names[min(values)]
    if not isinstance(base, LINEAR):
        return _no_linear(model, path, base, first)
    if missing := {"lora_a", "lora_b"} - values.keys():
        other = "B" if "lora_b" in missing else "A"
        return Misfit(f"{first} has no {other} beside it", another=False)
    if "m" in values and isinstance(base, EXPERTS):
        return Misfit(f"{names['m']} makes DoRA of experts, which there is not", False)
    return _no_pair(base, values, names) or _misshapen(base, values, names)


def lacks_tower(model: Gemma4, path: str) -> bool:
    """Whether a path leads into a tower that the checkpoint does not have."""
    tower = path.partition(".")[0]
    return f"{tower}." in TOWERS and tower not in model


def _no_linear(
    model: Gemma4, path: str, base: nn.Module | None, name: str
) -> Misfit | None:
    on_disk = path == TABLE and model.language_model.table is not None
    if isinstance(base, TABLES) or on_disk:
        return Misfit(
            f"{name} adapts an embedding table, which is not supported", False
        )
    if path == "lm_head":
        return Misfit(
            f"{name} adapts the head alone, which this model shares with its embedding "
            "table: train without lm_head among the targets",
            another=False,
        )
    if lacks_tower(model, path):
        tower = path.partition(".")[0]
        return Misfit(f"{name} adapts {tower}, which this checkpoint lacks", False)
    what = "is no linear map of" if base is not None else "does not exist in"
    return Misfit(f"{name} adapts {path}, which {what} this model")


def _no_pair(
    base: Matrix, values: Mapping[str, mx.array], names: Mapping[str, str]
) -> Misfit | None:
    """A and B that cannot be multiplied, whatever they adapt."""
    a, b = values["lora_a"], values["lora_b"]
    experts = isinstance(base, EXPERTS)
    for leaf in ("lora_a", "lora_b"):
        if values[leaf].ndim != (3 if experts else 2):
            return Misfit(f"{names[leaf]} has {values[leaf].ndim} dimensions", False)
    of_a = (a.shape[0], a.shape[1]) if experts else (1, a.shape[1])
    of_b = (b.shape[0], b.shape[2]) if experts else (1, b.shape[0])
    if of_a != of_b:
        return Misfit(f"{names['lora_a']} and {names['lora_b']} are no pair", False)
    if not of_a[1]:
        return Misfit(f"{names['lora_a']} has rank 0", another=False)
    return None


def _misshapen(
    base: Matrix, values: Mapping[str, mx.array], names: Mapping[str, str]
) -> Misfit | None:
    """Letters of the shapes as in `lora`."""
    a, b = values["lora_a"], values["lora_b"]
    inputs, outputs = sizes(base)
    own, found = (outputs, inputs), (b.shape[1], a.shape[0])
    if isinstance(base, EXPERTS):
        own, found = (base.weight.shape[0], *own), (*b.shape[:2], a.shape[2])
    if found != own:
        text = f"{names['lora_a']} adapts a weight of {found}, this model's is {own}"
        return Misfit(text)
    if "m" in values and values["m"].shape != (outputs,):
        shape = values["m"].shape
        return Misfit(f"{names['m']} has the shape {shape}, not {(outputs,)}", False)
    return None
