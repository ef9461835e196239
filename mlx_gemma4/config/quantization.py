"""What config.json says of packed weights. How they are packed, their shapes tell."""

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from .checks import shown

KEYS = ("quantization", "quantization_config")
MLX = "mlx"  # as quant_method: what MLX itself packed
SETTINGS = {"bits", "group_size", "mode", "quant_method"}


def quantization_in(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings in a config.json, whoever packed the weights."""
    for key in KEYS:
        if stated := data.get(key):
            if not isinstance(stated, Mapping):
                what = f"{key} in config.json is {shown(stated)}"
                raise CheckpointError(f"{what}, no object.")
            return stated
    return None


def known_settings(stated: Mapping[str, Any]) -> set[str]:
    """Keys that MLX's converters write, or all that another program states: what it
    packed is refused or imported by others, who know its keys."""
    if (stated.get("quant_method") or MLX) != MLX:
        return set(stated)
    modules = {key for key, value in stated.items() if _is_module(key, value)}
    return SETTINGS | modules


def _is_module(key: str, value: Any) -> bool:
    """Whether a key is a module's path, with settings of its own."""
    named = "." in key or key.endswith(("lm_head", "embed_tokens", "_projection"))
    return named and isinstance(value, Mapping | bool)
