"""Reads PEFT's tensors: lora_A [R, I] and lora_B [O, R], under the Hub's names."""

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..checkpoint.files import listed
from ..checkpoint.names import hub_name, unwrapped
from ..model import Gemma4
from .adapter_files import CONFIG
from .errors import AdapterError, AdapterWarning
from .lora import ExpertsLinear
from .peft_config import PeftConfig
from .peft_experts import PARAMETERS, columns_of, read_experts, wrapped
from .stated import Stated, our_place
from .tensors import plain_module

LEAF = re.compile(
    r"(?P<module>.+?)(?P<inside>(\.base_layer)*)"
    r"\.(?P<leaf>lora_A|lora_B|lora_magnitude_vector)"
    r"(\.(?P<adapter>(?!weight$|bias$)[^.]+))?(\.weight)?"
)
OURS = {"lora_A": "lora_a", "lora_B": "lora_b", "lora_magnitude_vector": "m"}
EXPERTS = re.compile(
    r"(?P<module>.+\.experts)(\.(?P<parameter>gate_up_proj|down_proj))?"
)
OTHERS = (  # the end of a name -> what it is
    ("lora_embedding_A", "LoRA of an embedding table"),
    ("lora_embedding_B", "LoRA of an embedding table"),
    ("lora_B.bias", "a bias of LoRA (lora_bias)"),
    ("bias", "a bias (bias)"),
    ("lora_diag", "KaSA"),
    ("trainable_tokens_delta", "rows of an embedding table (trainable_token_indices)"),
)
WHOLE = "a whole weight (modules_to_save, or a vocabulary that was resized)"


@dataclass(frozen=True)
class _Module:
    """A module, or one wrapper of it, as the file has it: its tensors by leaf.

    key: its name in the model that was trained; inside: how many wrappers round it.
    """

    key: str
    inside: int
    names: dict[str, str]

    def keys(self, end: str = "") -> tuple[str, ...]:
        """The names that it, or its part `end`, has in each class of models."""
        path = our_place(f"{self.key}{end}.weight").module
        names = (f"{self.key}{end}", hub_name(path, False), hub_name(path, True))
        return tuple(dict.fromkeys(names))


def read_peft(
    model: Gemma4, data: Mapping[str, Any], tensors: Mapping[str, mx.array], source: str
) -> Stated:
    """What a PEFT adapter states; `data` is its configuration.

    Where modules have scales of their own, B takes the difference. Raises AdapterError
    for an adapter that computes otherwise than LoRA or DoRA; warns of tensors that PEFT
    would not load either.
    """
    config = PeftConfig.from_dict(data)
    modules = _modules(tensors, source)
    wrappers = Counter(module.key for module in modules)
    reader = _Reader(model, data, config, tensors, wrappers)
    for module in modules:
        if EXPERTS.fullmatch(module.key):
            reader.experts(module)
        else:
            reader.linear(module)
    reader.check(source)
    scale = next((s for s in reader.scales.values() if s), 0.0)
    for path, own in reader.scales.items():
        b = reader.found.get(f"{path}.lora_b")
        if own != scale and b is not None:
            reader.found[f"{path}.lora_b"] = b.astype(mx.float32) * (own / scale)
    base = data.get("base_model_name_or_path")
    return Stated(
        source,
        reader.found,
        reader.names,
        scale,
        base if isinstance(base, str) and base else None,
    )


class _Reader:
    """Collects tensors by our names, and what the configuration leaves out."""

    def __init__(
        self,
        model: Gemma4,
        data: Mapping[str, Any],
        config: PeftConfig,
        tensors: Mapping[str, mx.array],
        wrappers: Mapping[str, int],
    ) -> None:
        self.data, self.config, self.tensors = data, config, tensors
        self.wrappers = wrappers  # how many each module has
        self.modules = dict(model.named_modules())
        self.found: dict[str, mx.array] = {}
        self.names: dict[str, str] = {}
        self.scales: dict[str, float] = {}
        self.left_out: list[str] = []

    def linear(self, module: _Module) -> None:
        keys = module.keys()
        first = module.names[min(module.names)]
        if not self.config.adapts(keys):
            if self.config.targets.names is None:
                raise AdapterError(
                    f"The PEFT adapter's target_modules is missing, though {first} "
                    "adapts one: add what it was trained on."
                )
            self.left_out += module.names.values()
            return
        where = our_place(f"{module.key}.weight")
        if where.expert is not None or where.half is not None or module.inside:
            raise AdapterError(f"{first} adapts a part of a module, which is unknown.")
        self._check_magnitude(module)
        if "lora_A" in module.names:
            self._check_rank(module.names["lora_A"], keys, 1)
        self._add(where.module, module.names, self.config.scale_of(keys))
        for leaf, name in module.names.items():
            tensor = self.tensors[name]
            value = tensor if leaf == "lora_magnitude_vector" else tensor.T
            self.found[f"{where.module}.{OURS[leaf]}"] = value

    def experts(self, module: _Module) -> None:
        first = module.names[min(module.names)]
        if "lora_magnitude_vector" in module.names or self.config.dora:
            raise AdapterError(f"{first} makes DoRA of experts, which there is not.")
        parameter = self._parameter(module)
        end = f".{parameter}"
        match = EXPERTS.fullmatch(module.key)
        assert match is not None
        plain = _Module(match["module"], 0, module.names)
        keys, path = plain.keys(end), our_place(f"{match['module']}{end}").module
        base = plain_module(self.modules.get(path))
        self._add(path, module.names, self.config.scale_of(keys))
        sides = {leaf: self.tensors[name] for leaf, name in module.names.items()}
        if not isinstance(base, ExpertsLinear) or len(sides) != 2:
            # `adapter_of` says what is wrong with these.
            self.found |= {f"{path}.{OURS[leaf]}": t for leaf, t in sides.items()}
            return
        self._check_rank(module.names["lora_A"], keys, base.weight.shape[0])
        columns = columns_of(self.data, parameter)
        a, b = sides["lora_A"], sides["lora_B"]
        read = read_experts(base, a, b, columns, self.data.get("peft_version"))
        if read is None:
            raise AdapterError(
                f"{first} was made for another model: its shapes {a.shape} and "
                f"{b.shape} adapt no experts of {base.weight.shape}."
            )
        self.found[f"{path}.lora_a"], self.found[f"{path}.lora_b"] = read

    def check(self, source: str) -> None:
        """Refuses what leaves nothing; warns of the rest that is left out."""
        if not self.found:
            raise AdapterError(
                f"{source} has nothing to adapt: its target_modules, exclude_modules "
                f"and layers_to_transform leave out {listed(self.left_out)}."
            )
        if self.left_out:
            warnings.warn(
                f"{CONFIG} leaves out {listed(self.left_out)} (target_modules, "
                "exclude_modules, layers_to_transform): they have no effect.",
                AdapterWarning,
                stacklevel=3,
            )

    def _add(self, path: str, names: Mapping[str, str], scale: float) -> None:
        for leaf, name in names.items():
            ours = f"{path}.{OURS[leaf]}"
            if ours in self.names:
                raise AdapterError(f"{self.names[ours]} and {name} are the same.")
            self.names[ours] = name
        self.scales[path] = scale

    def _check_rank(self, name: str, keys: tuple[str, ...], experts: int) -> None:
        rank, found = self.config.rank_of(keys), self.tensors[name].shape
        if found[:1] != (rank * experts,):
            times = f" for each of {experts} experts" if experts > 1 else ""
            raise AdapterError(
                f"{name} has the shape {found}, but {CONFIG} says rank {rank}{times} "
                "(r, rank_pattern)."
            )

    def _check_magnitude(self, module: _Module) -> None:
        has = "lora_magnitude_vector" in module.names
        if has != self.config.dora:
            name = module.names[min(module.names)]
            what = "is there" if has else f"is missing beside {name}"
            raise AdapterError(
                f"The PEFT adapter's use_dora is {str(self.config.dora).lower()}, but "
                f"lora_magnitude_vector {what}."
            )

    def _parameter(self, module: _Module) -> str:
        """Which parameter of the experts these tensors adapt."""
        match = EXPERTS.fullmatch(module.key)
        assert match is not None
        if match["parameter"]:
            return match["parameter"]
        stated = {
            name: ""
            for name in PARAMETERS
            if self.config.adapts_parameter(module.keys(f".{name}"))
        }
        ends = {end: name for name, end in wrapped(stated).items()}
        found = ends.get(".base_layer" * module.inside)
        if found is None or len(stated) != self.wrappers[module.key]:
            raise AdapterError(
                f"{module.names[min(module.names)]} adapts a parameter of experts; the "
                f"PEFT adapter's target_parameters names {len(stated)}, its file has "
                f"{self.wrappers[module.key]}."
            )
        return found


def _modules(tensors: Mapping[str, mx.array], source: str) -> list[_Module]:
    """Modules and wrappers in the file's order. Raises AdapterError."""
    found: dict[tuple[str, int], _Module] = {}
    adapters, others = set(), []
    for name in tensors:
        plain = unwrapped(name)
        match = LEAF.fullmatch(plain)
        if match is None:
            others.append(f"{name}, {_what_it_is(plain)}")
            continue
        adapters.add(match["adapter"])
        inside = match["inside"].count(".")
        key = (match["module"], inside)
        module = found.setdefault(key, _Module(*key, {}))
        if match["leaf"] in module.names:
            if len(adapters) > 1:
                break
            other = module.names[match["leaf"]]
            raise AdapterError(
                f"{source} holds {other} and {name}, which are the same."
            )
        module.names[match["leaf"]] = name
    if len(adapters) > 1:
        names = ", ".join(sorted(str(adapter) for adapter in adapters))
        raise AdapterError(f"{source} holds several adapters ({names}): save one.")
    if others:
        raise AdapterError(
            f"{source} holds {listed(others, '; ')}: this is not supported beside LoRA."
        )
    return list(found.values())


def _what_it_is(name: str) -> str:
    parts = f".{name}."
    known = (what for end, what in OTHERS if f".{end}." in parts)
    return next(known, WHOLE)
