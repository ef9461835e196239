"""Which modules a configuration of PEFT adapts, by the names they have there."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.checks import shown
from .errors import AdapterError

ALL_LINEAR = "all-linear"
LAYER = r".*?\.[^.]*\.(\d+)\."  # the first number of a name is its layer


@dataclass(frozen=True)
class ModuleTargets:
    """Ends of names, or one expression for whole names; None adapts no module.

    layers: only these of the modules that `names` lists by their ends; None is all.
    layer: the expressions that find a layer's number.
    """

    names: str | tuple[str, ...] | None
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...] | None
    layer: tuple[str, ...]

    def match(self, keys: Sequence[str]) -> bool:
        """Whether the module is adapted that has these names in classes of models."""
        if any(_listed(self.excluded, key) for key in keys):
            return False
        return any(self._match(key) for key in keys)

    def _match(self, key: str) -> bool:
        if self.names is None:
            return False
        if isinstance(self.names, str) and self.names.lower() == ALL_LINEAR:
            return not key.endswith("lm_head")  # outputs stay as they are
        if not _listed(self.names, key):
            return False
        if self.layers is None or key in self.names:
            return True
        found = next((m for p in self.layer if (m := re.match(p, key))), None)
        return found is not None and int(found[1]) in self.layers


def module_targets(data: Mapping[str, Any]) -> ModuleTargets:
    """Of a parsed adapter_config.json. Raises AdapterError that names the key."""
    names = _names_or_pattern(data, "target_modules")
    layers, pattern = (data.get(k) for k in ("layers_to_transform", "layers_pattern"))
    if type(layers) is int:
        layers = [layers]
    elif layers and not isinstance(layers, list):
        raise _wrong(data, "layers_to_transform", "no list of layers")
    if layers and any(type(layer) is not int for layer in layers):
        raise _wrong(data, "layers_to_transform", "no list of layers")
    patterns = [pattern] if isinstance(pattern, str) else pattern or []
    if not isinstance(patterns, list):
        raise _wrong(data, "layers_pattern", "no list of names")
    for each in patterns:
        pattern_of("layers_pattern", each)
    for key, value in (("layers_to_transform", layers), ("layers_pattern", pattern)):
        if value and (isinstance(names, str) or not layers):
            raise _wrong(data, key, "which needs a list of target_modules and layers")
    return ModuleTargets(
        names,
        _names_or_pattern(data, "exclude_modules") or (),
        tuple(layers) if layers else None,
        tuple(rf".*?\.{each}\.(\d+)\." for each in patterns if each) or (LAYER,),
    )


def names_of(data: Mapping[str, Any], key: str) -> list[str] | None:
    """A list of names, or None. Raises AdapterError."""
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or any(type(name) is not str for name in value):
        raise _wrong(data, key, "no list of names")
    return value


def pattern_of(key: str, pattern: Any) -> str:
    """A regular expression. Raises AdapterError that names the key."""
    try:
        re.compile(pattern)
    except (re.error, TypeError, RecursionError):
        text = (
            f"The PEFT adapter's {key} holds {shown(pattern)}, no regular expression."
        )
        raise AdapterError(text) from None
    return pattern


def _names_or_pattern(
    data: Mapping[str, Any], key: str
) -> str | tuple[str, ...] | None:
    value = data.get(key)
    if isinstance(value, str):
        return pattern_of(key, value)
    names = names_of(data, key)
    return None if names is None else tuple(names)


def _listed(names: str | tuple[str, ...], key: str) -> bool:
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, key) is not None
    return any(key == name or key.endswith(f".{name}") for name in names)


def _wrong(data: Mapping[str, Any], key: str, why: str) -> AdapterError:
    return AdapterError(f"The PEFT adapter's {key} is {shown(data[key])}, {why}.")
