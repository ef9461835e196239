"""adapter_config.json of PEFT: which modules it adapts, how strongly, and how else.

What changes a computation is obeyed as PEFT does, or refused by name. A key that is
off never matters; others that are not known are listed in one warning.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..reading.neutral import is_neutral, not_obeyed, unknown_keys
from ..reading.section import is_number, shown
from .adapter_files import CONFIG
from .errors import AdapterError, AdapterWarning
from .peft_targets import ModuleTargets, module_targets, names_of, pattern_of

# Other computations than LoRA's and DoRA's, or other parameters than theirs.
OTHERWISE = (
    *("alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication"),
    *("lora_bias", "megatron_config", "modules_to_save", "monteclora_config"),
    *("trainable_token_indices", "use_bdlora", "use_qalora"),
)
# First values of A and B; any other way also changes the weights of the base.
STARTS = ("eva", "gaussian", "mica", "orthogonal")
READ = {
    *("alpha_pattern", "bias", "exclude_modules", "fan_in_fan_out"),
    *("init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha"),
    *("lora_B_layout", "peft_type", "r", "rank_pattern", "target_modules"),
    *("target_parameters", "unsloth_fused_expert_lora", "use_dora", "use_rslora"),
}
# Bookkeeping, and settings of training or of first values.
HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying"),
    *("eva_config", "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config"),
    *("megatron_core", "peft_version", "qalora_group_size", "revision"),
    *("runtime_config", "task_type", "velora_config"),
}


@dataclass(frozen=True)
class PeftConfig:
    """What a LoRA configuration says. Patterns are tried in their order.

    targets: the modules. parameters: ends of names, weights that are adapted as such.
    """

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rslora: bool
    dora: bool
    targets: ModuleTargets
    parameters: tuple[str, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PeftConfig":
        """Of the parsed file. Raises AdapterError that names the key; warns."""
        _refuse_otherwise(data)
        parameters = names_of(data, "target_parameters")
        if parameters and data.get("fan_in_fan_out"):
            raise refused("fan_in_fan_out", data["fan_in_fan_out"])
        if unknown := unknown_keys(data, READ | HARMLESS | {*OTHERWISE}):
            warnings.warn(not_obeyed(CONFIG, unknown), AdapterWarning, stacklevel=2)
        return cls(
            rank=_rank("r", data.get("r", 8)),
            alpha=_number("lora_alpha", data.get("lora_alpha", 8)),
            ranks=_pattern(data, "rank_pattern", _rank),
            alphas=_pattern(data, "alpha_pattern", _number),
            rslora=_switch(data, "use_rslora"),
            dora=_switch(data, "use_dora"),
            targets=module_targets(data),
            parameters=tuple(parameters or ()),
        )

    def adapts(self, keys: Sequence[str]) -> bool:
        """Whether PEFT adapts the module that has these names."""
        weights = [f"{key}.weight" for key in keys]
        return self.targets.match(keys) or self.adapts_parameter(weights)

    def adapts_parameter(self, keys: Sequence[str]) -> bool:
        """Whether PEFT adapts the parameter that has these names as such."""
        return any(f".{key}".endswith(f".{p}") for key in keys for p in self.parameters)

    def rank_of(self, keys: Sequence[str]) -> int:
        return _first(self.ranks, keys, self.rank)

    def scale_of(self, keys: Sequence[str]) -> float:
        """What the low-rank product of a module is multiplied by."""
        rank = self.rank_of(keys)
        alpha = _first(self.alphas, keys, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def refused(key: str, value: Any, why: str = "which is not supported") -> AdapterError:
    return AdapterError(f"The PEFT adapter's {key} is {shown(value)}, {why}.")


def _refuse_otherwise(data: Mapping[str, Any]) -> None:
    kind = data.get("peft_type")
    if kind != "LORA":
        raise refused("peft_type", kind, "which is not supported; LORA is")
    for key in OTHERWISE:
        if not is_neutral(key, data.get(key)):
            raise refused(key, data[key])
    start = data.get("init_lora_weights", True)
    if start is not True and start and str(start).lower() not in STARTS:
        raise refused(
            "init_lora_weights",
            start,
            "which also changes the model's weights: convert the adapter to plain LoRA "
            "where it was trained",
        )
    if data.get("bias") not in (None, "none", "all", "lora_only"):
        raise refused("bias", data["bias"])


def _first(patterns: Mapping[str, Any], keys: Sequence[str], usual: Any) -> Any:
    for pattern, value in patterns.items():
        if any(re.match(rf"(.*\.)?({pattern})$", key) for key in keys):
            return value
    return usual


def _pattern(data: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    found = data.get(name) or {}
    if not isinstance(found, Mapping):
        raise refused(name, found, "no object of patterns")
    for key in found:
        pattern_of(name, key)
    return {key: value(f"{name} of {key}", each) for key, each in found.items()}


def _rank(name: str, value: Any) -> int:
    if type(value) is not int or not is_number(value) or value < 1:
        raise refused(name, value, "no rank")
    return value


def _number(name: str, value: Any) -> float:
    if not is_number(value):
        raise refused(name, value, "no usable number")
    return value


def _switch(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name)
    if value is not True and not is_neutral(name, value):
        raise refused(name, value, "neither true nor false")
    return value is True
