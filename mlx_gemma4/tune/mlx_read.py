"""Reads adapters of mlx-lm and mlx-vlm: adapters.safetensors and its configuration.

mlx-lm's lora_parameters state a scale. So do mlx-vlm's of today; its earlier ones state
rank and alpha alone, and call A and B what others call lora_a and lora_b.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..checkpoint.files import listed
from ..checkpoint.names import Place, in_layer, mlx_names
from ..model import Gemma4
from ..reading.section import is_number, shown
from .adapter_files import CONFIG
from .errors import AdapterError
from .stated import Stated, our_place

LEAVES = {"A": "lora_a", "B": "lora_b"}  # of mlx-vlm's earlier adapters
KINDS = (None, "lora", "dora", "full")


@dataclass(frozen=True)
class MlxConfig:
    """keys: the only modules that are adapted, by whole names or those in a layer.

    kind: None where none is stated. first: the first layer of the decoder that is.
    """

    kind: str | None
    scale: float
    keys: frozenset[str] | None
    first: int

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], layers: int) -> "MlxConfig":
        """Of the parsed file, for a decoder of so many layers. Raises AdapterError."""
        kind = data.get("fine_tune_type") or None
        if kind not in KINDS:
            raise _wrong("fine_tune_type", kind, "none of lora, dora and full")
        if kind == "full":
            return cls(kind, 1.0, None, 0)
        parameters = data.get("lora_parameters")
        if parameters is None and "rank" in data:
            return cls(kind, _scale_of_alpha(data), None, 0)
        if not isinstance(parameters, Mapping) or parameters.get("scale") is None:
            raise AdapterError(f"{CONFIG} states no lora_parameters.scale.")
        last, keys = data.get("num_layers"), parameters.get("keys")
        if last is not None and type(last) is not int:
            raise _wrong("num_layers", last, "no number")
        if keys is not None and not _are_names(keys):
            raise _wrong("lora_parameters.keys", keys, "no list of names")
        return cls(
            kind,
            _number("lora_parameters.scale", parameters["scale"]),
            None if keys is None else frozenset(keys),
            layers - last if last and 0 < last < layers else 0,
        )

    def adapts(self, name: str, where: Place) -> bool:
        """Whether mlx-lm adapts the module at this place, which a file calls `name`.

        What lies outside the decoder's layers is always adapted: only we and mlx-vlm
        do that, and mlx-lm's keys do not speak of it.
        """
        found = in_layer(where.parameter)
        if found is None:
            return True
        if self.keys is None:
            return found[0] >= self.first
        modules = [n.rpartition(".")[0] for n in (name, *mlx_names(where, False))]
        keys = {k for k in self.keys for m in modules if f".{m}".endswith(f".{k}")}
        return found[0] >= self.first and bool(keys) or any(map(in_layer, keys))


def read_mlx(
    model: Gemma4, data: Mapping[str, Any], tensors: Mapping[str, mx.array], source: str
) -> tuple[Stated, bool]:
    """What an MLX adapter states, and whether it is whole parameters.

    data: its configuration. Raises AdapterError, also where the two contradict one
    another, as mlx-lm does.
    """
    config = MlxConfig.from_dict(data, model.config.text_config.num_hidden_layers)
    found, left_out = _placed(config, tensors, source)
    if left_out:
        raise AdapterError(
            f"{CONFIG} leaves out {listed(left_out)}, which {source} has: its "
            "num_layers or lora_parameters.keys is wrong."
        )
    _check_kind(config, found, source)
    arrays = {place: tensors[name] for place, name in found.items()}
    whole = {p.parameter: t for p, t in arrays.items() if p.half is None}
    names = {p.parameter: name for p, name in found.items()}
    for module in dict.fromkeys(p.module for p in found if p.half is not None):
        joined = _joined(module, arrays, source)
        if same := sorted(joined.keys() & whole.keys()):
            raise AdapterError(f"{source} adapts {listed(same)} twice.")
        whole |= joined
        names |= {ours: names.get(ours, module) for ours in joined}
    base = data.get("model")
    base = base if isinstance(base, str) and base else None
    stated = Stated(source, whole, names, config.scale, base)
    return stated, config.kind == "full"


def _placed(
    config: MlxConfig, tensors: Mapping[str, mx.array], source: str
) -> tuple[dict[Place, str], list[str]]:
    """Names by place, and those that the configuration leaves out."""
    found: dict[Place, str] = {}
    left_out = []
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        where = our_place(f"{module}.{LEAVES.get(leaf, leaf)}")
        if where.expert is not None:
            raise AdapterError(f"{source}: {name} adapts one expert of many.")
        if config.kind != "full" and not config.adapts(name, where):
            left_out.append(name)
        elif where in found:
            raise AdapterError(f"{source}: {found[where]} and {name} are the same.")
        else:
            found[where] = name
    return found, left_out


def _check_kind(config: MlxConfig, found: Mapping[Place, str], source: str) -> None:
    """Raises AdapterError where magnitudes contradict the stated kind."""
    if config.kind in (None, "full"):
        return
    ends: dict[str, set[str]] = {}
    for where in found:
        ends.setdefault(where.module, set()).add(where.parameter.rpartition(".")[2])
    dora = config.kind == "dora"
    wrong = [module for module, leaves in ends.items() if ("m" in leaves) != dora]
    if wrong:
        what = "no magnitude m" if dora else "a magnitude m"
        raise AdapterError(
            f"{CONFIG} says fine_tune_type {config.kind}, but {source} has {what} of "
            f"{listed(wrong)}."
        )


def _joined(
    module: str, found: Mapping[Place, mx.array], source: str
) -> dict[str, mx.array]:
    """Gate and up as one map. Two different input sides stand beside each other."""
    halves = [
        {
            p.parameter.rpartition(".")[2]: tensor
            for p, tensor in found.items()
            if p.module == module and p.half == half
        }
        for half in (0, 1)
    ]
    if all(set(half) == {"weight"} for half in halves):
        weights = [half["weight"] for half in halves]
        return {f"{module}.weight": _concatenated(weights, 1, module, source)}
    sides = [_sides(half, module, source) for half in halves]
    known = next(each for each in sides if each is not None)
    (a0, b0), (a1, b1) = (each or _nothing(*known) for each in sides)
    if a0.shape == a1.shape and mx.array_equal(a0, a1).item():
        a, b = a0, _concatenated([b0, b1], 1, module, source)
    else:
        a = _concatenated([a0, a1], 1, module, source)
        top = mx.concatenate([b0, mx.zeros((*b0.shape[:2], a1.shape[1]))], axis=2)
        low = mx.concatenate([mx.zeros((*b1.shape[:2], a0.shape[1])), b1], axis=2)
        b = _concatenated([top, low], 1, module, source)
    return {f"{module}.lora_a": a, f"{module}.lora_b": b}


def _sides(
    half: Mapping[str, mx.array], module: str, source: str
) -> tuple[mx.array, mx.array] | None:
    """A and B of gate or up, where it is adapted."""
    if not half:
        return None
    if set(half) != {"lora_a", "lora_b"} or any(t.ndim != 3 for t in half.values()):
        raise AdapterError(f"{source}: {module} is adapted by halves.")
    return half["lora_a"], half["lora_b"]


def _nothing(a: mx.array, b: mx.array) -> tuple[mx.array, mx.array]:
    return a, mx.zeros_like(b)


def _concatenated(
    parts: Sequence[mx.array], axis: int, module: str, source: str
) -> mx.array:
    shapes = {(*p.shape[:axis], *p.shape[axis + 1 :]) for p in parts}
    if len(shapes) > 1:
        raise AdapterError(f"{source}: gate and up of {module} do not fit together.")
    return mx.concatenate(list(parts), axis=axis)


def _scale_of_alpha(data: Mapping[str, Any]) -> float:
    rank = data["rank"]
    if type(rank) is not int or not is_number(rank) or rank < 1:
        raise _wrong("rank", rank, "no rank")
    return _number("alpha", data.get("alpha", 0.1)) / rank  # mlx-vlm's own default


def _number(key: str, value: Any) -> float:
    if not is_number(value):
        raise _wrong(key, value, "no usable number")
    return float(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(type(name) is str for name in value)


def _wrong(key: str, value: Any, why: str) -> AdapterError:
    return AdapterError(f"{CONFIG}: {key} is {shown(value)}, {why}.")
