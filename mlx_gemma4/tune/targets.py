"""Which linear maps an adapter changes.

Never the router, whose choices a few examples would unbalance; nor norms; nor the
embedding tables, the per-layer one included, and what gates its entries.
"""

import re
from collections.abc import Sequence

import mlx.nn as nn

from ..checkpoint.names import in_layer
from ..model import Gemma4
from ..text.moe import ExpertLinear, QuantizedExpertLinear
from .errors import AdapterError

TARGETS = {
    "attention": r"language_model\.layers\.\d+\.self_attn\.[qkvo]_proj",
    "mlp": r"language_model\.layers\.\d+\.mlp\.(gate|up|down)_proj",
    "experts": r"language_model\.layers\.\d+\.experts\.(gate_up|down)_proj",
    "vision": (
        r"vision_tower\.encoder\.layers\.\d+\.(self_attn\.[qkvo]_proj"
        r"|mlp\.(gate|up|down)_proj)\.linear"
        r"|vision_embedder\.patch_dense|embed_vision\.embedding_projection"
    ),
    "audio": (
        r"audio_tower\.layers\.\d+\.(self_attn\.([qkv]_proj|post)"
        r"|feed_forward[12]\.ffw_layer_[12]|lconv1d\.linear_(start|end))\.linear"
        r"|audio_tower\.output_proj|embed_audio\.embedding_projection"
    ),
}
DEFAULT = ("attention", "mlp")
LINEAR = (nn.Linear, nn.QuantizedLinear, ExpertLinear, QuantizedExpertLinear)


def find_targets(
    model: Gemma4, names: Sequence[str] = DEFAULT, last_layers: int | None = None
) -> dict[str, nn.Module]:
    """The linear maps of the named groups by path, in the model's order.

    last_layers: of the text decoder, only these many. Raises AdapterError for a name
    that is not known or that this model has nothing for.
    """
    modules = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, LINEAR)
    }
    first = 0
    if last_layers is not None:
        first = model.config.text_config.num_hidden_layers - last_layers
    found: dict[str, nn.Module] = {}
    for name in names:
        if name not in TARGETS:
            raise AdapterError(
                f"There is no target {name!r}; there are {', '.join(TARGETS)}."
            )
        pattern = re.compile(TARGETS[name])
        paths = [p for p in modules if pattern.fullmatch(p) and _layer(p) >= first]
        if not paths:
            raise AdapterError(f"This model has nothing to adapt as {name!r}.")
        found |= {path: modules[path] for path in paths}
    order = {path: number for number, path in enumerate(sorted(modules, key=_order))}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def _layer(path: str) -> float:
    """The text layer of a path; infinite for paths outside the decoder."""
    found = in_layer(path)
    return found[0] if found else float("inf")


def _order(path: str) -> list[tuple[int, str]]:
    parts = path.split(".")
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
