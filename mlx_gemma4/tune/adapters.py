"""Adapters of a model: made, put on and taken off.

An adapter holds its own layers round the model's linear maps, so that putting it on is
an exchange of modules and needs no second copy of the weights. What a prefix
cache holds was computed with the adapter of its time: start a new one after a change.
"""

from dataclasses import dataclass, field
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from ..model import Gemma4
from ..text.moe import ExpertLinear, QuantizedExpertLinear
from .errors import AdapterError
from .lora import Adapted, DoRALinear, LoRAExperts, LoRALinear, sizes, starting_values
from .targets import DEFAULT, find_targets

Kind = Literal["lora", "dora", "full"]
KINDS = ("lora", "dora", "full")
# What the reference does not train either: a layer's scalar, and bounds of clamps.
CONSTANTS = (
    *(".layer_scalar", ".input_min", ".input_max", ".output_min", ".output_max"),
    *(".std_bias", ".std_scale"),
)


@dataclass(frozen=True)
class AdapterSettings:
    """What kind of adapter, of which size, on which linear maps.

    scale: of the low-rank product, alpha / rank elsewhere.
    """

    kind: Kind = "lora"
    rank: int = 16
    scale: float = 2.0
    targets: tuple[str, ...] = DEFAULT
    last_layers: int | None = None


@dataclass
class Adapter:
    """Layers by path; or, of kind "full", whole parameters by name."""

    kind: Kind
    rank: int = 0
    scale: float = 1.0
    layers: dict[str, Adapted] = field(default_factory=dict)
    weights: dict[str, mx.array] = field(default_factory=dict)

    def parameters(self) -> dict[str, mx.array]:
        """What is learned, by name."""
        if self.kind == "full":
            return dict(self.weights)
        names = ("lora_a", "lora_b", "m")
        return {
            f"{path}.{name}": layer[name]
            for path, layer in self.layers.items()
            for name in names
            if name in layer
        }


def new_adapter(model: Gemma4, settings: AdapterSettings, seed: int = 0) -> Adapter:
    """An adapter that changes nothing yet: B is zero, and M the norm of the weights.

    Raises AdapterError for settings that this model cannot have.
    """
    if settings.kind not in KINDS:
        raise AdapterError(f"There is no adapter of kind {settings.kind!r}.")
    if settings.kind == "full":
        return Adapter("full", weights=_floats(model, settings))
    if settings.rank < 1:
        raise AdapterError("The rank of an adapter is at least 1.")
    found = find_targets(model, settings.targets, settings.last_layers)
    layers = {
        path: _new_layer(path, base, settings, seed) for path, base in found.items()
    }
    return Adapter(settings.kind, settings.rank, settings.scale, layers)


def _new_layer(
    path: str, base: nn.Module, settings: AdapterSettings, seed: int
) -> Adapted:
    rank, scale = settings.rank, settings.scale
    if isinstance(base, ExpertLinear | QuantizedExpertLinear):
        if settings.kind == "dora":
            raise AdapterError("DoRA knows no experts: leave them out, or use LoRA.")
        inputs, outputs = sizes(base)
        experts = base.weight.shape[0]
        a = starting_values((experts, rank, inputs), inputs, seed, path)
        return LoRAExperts(base, a, mx.zeros((experts, outputs, rank)), scale)
    assert isinstance(base, nn.Linear | nn.QuantizedLinear)
    inputs, outputs = sizes(base)
    a = starting_values((inputs, rank), inputs, seed, path)
    layer = DoRALinear if settings.kind == "dora" else LoRALinear
    return layer(base, a, mx.zeros((rank, outputs)), scale)


def _floats(model: Gemma4, settings: AdapterSettings) -> dict[str, mx.array]:
    """All weights of the text decoder's layers, and of the towers where asked.

    The embedding tables stay as they are: most of a table's rows never occur.
    """
    packed = [path for path, module in model.named_modules() if "scales" in module]
    if packed:
        raise AdapterError(
            "Full training needs weights that are not quantised: use the original "
            "checkpoint, or train an adapter (--kind lora)."
        )
    parts = ["language_model.layers.", "language_model.norm."]
    parts += [f"{t}_tower." for t in ("vision", "audio") if t in settings.targets]
    parts += [f"embed_{t}." for t in ("vision", "audio") if t in settings.targets]
    parts += ["vision_embedder."] if "vision" in settings.targets else []
    named = dict(tree_flatten(model.parameters()))
    return {
        name: weight
        for name, weight in named.items()
        if name.startswith(tuple(parts)) and not name.endswith(CONSTANTS)
    }


def put_on(model: Gemma4, adapter: Adapter) -> None:
    """Exchange the adapted linear maps; the model then computes with the adapter."""
    if adapter.kind == "full":
        model.load_weights(list(adapter.weights.items()), strict=False)
        return
    model.update_modules(tree_unflatten(list(adapter.layers.items())))
