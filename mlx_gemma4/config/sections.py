"""Reads the sections of a config.json: of the decoder, and of what sees and hears."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from ..errors import CheckpointError
from ..reading.neutral import UNSUPPORTED, is_empty, unknown_keys
from ..reading.section import shown
from .checks import (
    check_audio,
    check_drafting,
    check_rope,
    check_text,
    check_types,
    check_vision,
    refuse,
)
from .fields import (
    FULL,
    AudioConfig,
    AudioEmbedderConfig,
    RopeParameters,
    TextConfig,
    VisionConfig,
    VisionEmbedderConfig,
)

# Stated by the checkpoints, decided elsewhere: the processor's budget, the table's
# size, and a head size that all layers share.
VISION_UNUSED = {"default_output_length", "max_position_embeddings", "global_head_dim"}
# Names of one number, and what others make: the product of two, the processor's budget.
SAMPLES = ("audio_embed_dim", "audio_samples_per_token", "hidden_size")
SAMPLES += ("output_proj_dims",)
EMBEDDER_UNUSED = {"model_patch_size", "num_soft_tokens"}
T = TypeVar("T")


class Sections:
    """Turns sections into dataclasses; keeps in `unknown` what it did not understand.

    family: what the sections' model_type begins with.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self.unknown: list[str] = []

    def text(self, data: Mapping[str, Any], tied: Any) -> TextConfig:
        config = self._text(data, tied)
        check_text(config)
        return config

    def drafting(self, data: Mapping[str, Any], tied: Any) -> TextConfig:
        """Of a drafter. All its layers are KV-shared, also where that is not said."""
        layers, shared = data.get("num_hidden_layers"), data.get("num_kv_shared_layers")
        config = self._text({**data, "num_kv_shared_layers": shared or layers}, tied)
        check_drafting(config)
        return config

    def _text(self, data: Mapping[str, Any], tied: Any) -> TextConfig:
        values = _with_global_sizes(data)
        self._expect_type(data, "text")
        values["tie_word_embeddings"] = True if tied is None else tied
        values["eos_token_id"] = as_ids(values.get("eos_token_id"))
        experts = values.pop("expert_intermediate_size", None)  # an earlier name
        if values.get("moe_intermediate_size") is None:
            values["moe_intermediate_size"] = experts
        elif experts not in (None, values["moe_intermediate_size"]):
            both = "expert_intermediate_size and moe_intermediate_size"
            refuse("text_config", [f"{both} contradict one another"])
        if values.get("hidden_size_per_layer_input", 0) is None:
            values["hidden_size_per_layer_input"] = 0
        if "rope_parameters" in values:
            rope = _object(values["rope_parameters"], "rope_parameters")
            values["rope_parameters"] = {
                kind: self._rope(rope[kind], f"rope_parameters.{kind}") for kind in rope
            }
        if not values.get("layer_types"):
            refuse("text_config", ["lacks layer_types"])
        values["layer_types"] = _tuple(values["layer_types"])
        return self._build(TextConfig, values, "text_config")

    def vision(self, data: Any) -> VisionConfig:
        values = self._section(data, "vision")
        if "rope_parameters" in values:
            where = "vision_config.rope_parameters"
            rope = dict(_object(values["rope_parameters"], where))
            if rope.get("rope_type") == "axial":  # how the reference re-saves "default"
                rope["rope_type"] = "default"
            values["rope_parameters"] = self._rope(rope, where)
        values = {key: v for key, v in values.items() if key not in VISION_UNUSED}
        config = self._build(VisionConfig, values, "vision_config")
        check_vision(config)
        return config

    def audio(self, data: Any) -> AudioConfig:
        values = self._section(data, "audio")
        if "subsampling_conv_channels" in values:
            channels = values["subsampling_conv_channels"]
            values["subsampling_conv_channels"] = _tuple(channels)
        config = self._build(AudioConfig, values, "audio_config")
        check_audio(config)
        return config

    def patches(self, data: Any) -> VisionEmbedderConfig:
        """What sees without a tower."""
        values = self._section(data, "vision")
        rest = {key: v for key, v in values.items() if key not in EMBEDDER_UNUSED}
        config = self._build(VisionEmbedderConfig, rest, "vision_config")
        side = values.get("model_patch_size", config.side)
        if side != config.side:
            product = "patch_size times pooling_kernel_size"
            problem = f"model_patch_size is {shown(side)}, not {product}, {config.side}"
            refuse("vision_config", [problem])
        if config.output_proj_dims != config.mm_embed_dim:
            refuse("vision_config", ["output_proj_dims and mm_embed_dim differ"])
        return config

    def samples(self, data: Any) -> AudioEmbedderConfig:
        """What hears without a tower."""
        values = self._section(data, "audio")
        stated = {key: values.pop(key) for key in SAMPLES if key in values}
        if stated:
            values["audio_embed_dim"] = next(iter(stated.values()))
        config = self._build(AudioEmbedderConfig, values, "audio_config")
        if len(set(stated.values())) > 1:
            refuse("audio_config", [f"{' and '.join(stated)} contradict one another"])
        return config

    def _section(self, data: Any, kind: str) -> dict[str, Any]:
        values = dict(_object(data, f"{kind}_config"))
        self._expect_type(values, kind)
        return values

    def _expect_type(self, data: Mapping[str, Any], kind: str) -> None:
        stated, expected = data.get("model_type"), f"{self.family}_{kind}"
        if stated not in (None, expected):
            problem = f"model_type is {shown(stated)}, not {expected!r}"
            refuse(f"{kind}_config", [problem])

    def _rope(self, data: Any, where: str) -> RopeParameters:
        values = _object(data, where)
        config = self._build(RopeParameters, values, where)
        if config.rope_type == "proportional" and "partial_rotary_factor" not in values:
            refuse(where, ["lacks partial_rotary_factor"])
        check_rope(config, where)
        return config

    def _build(self, cls: type[T], values: Mapping[str, Any], where: str) -> T:
        """Fill a dataclass from JSON, naming every missing or unknown key.

        A null takes the default where there is one, and so does what is empty or false
        where the default is null.
        """
        known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
        self.note_unknown(values, set(known), f"{where}.")
        default = {n for n, field in known.items() if field.default is not MISSING}
        empty = {n for n in default if known[n].default is None}
        given = {
            name: value
            for name, value in values.items()
            if name in known
            and not (
                (name in default and value is None)
                or (name in empty and is_empty(value))
            )
        }
        if missing := sorted(set(known) - default - set(given)):
            raise CheckpointError(f"{where} in config.json lacks {', '.join(missing)}.")
        check_types(cls, given, where)
        return cls(**given)

    def note_unknown(
        self, values: Mapping[str, Any], known: set[str], section: str
    ) -> None:
        stated = unknown_keys(values, known)
        refuse(
            section.rstrip(".") or "The top level",
            (f"{key} is not supported" for key in stated if key in UNSUPPORTED),
        )
        self.unknown += [f"{section}{key}" for key in stated]


def _with_global_sizes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Translate `per_layer_config` into the two global sizes Google's dialect has."""
    values = dict(data)
    overrides = values.pop("per_layer_config", None)
    if overrides is None:
        return values
    kinds = values.get("layer_types")
    kinds = kinds if isinstance(kinds, list) else []  # `check_types` names the rest
    _object(overrides, "per_layer_config")
    full = {str(i) for i, kind in enumerate(kinds) if kind == FULL}
    # Above ten layers the keys are padded with zeros: "05".
    items = ((key.lstrip("0") or "0", value) for key, value in overrides.items())
    sizes = {
        key: dict(_object(value, f"per_layer_config.{key}"))
        for key, value in items
        if value
    }
    distinct = [size for i, size in enumerate(sizes.values()) if not i]
    differ = any(size != distinct[0] for size in sizes.values())
    if set(sizes) - full or differ or (sizes and set(sizes) != full):
        raise CheckpointError(
            "per_layer_config gives sizes that differ between layers of one kind; "
            "Gemma 4 has one size for all full_attention layers."
        )
    size = distinct[0] if distinct else {}
    values["global_head_dim"] = size.pop("head_dim", values.get("head_dim"))
    values["num_global_key_value_heads"] = size.pop("num_key_value_heads", None)
    if size:
        raise CheckpointError(
            f"per_layer_config changes {', '.join(map(str, sorted(size)))} from layer "
            "to layer; Gemma 4 has no more than two sizes of heads."
        )
    return values


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} in config.json is {shown(value)}, no object.")
    return value


def _tuple(value: Any) -> Any:
    """A list as a tuple; what is no list stays, for `check_types` to name."""
    return () if value is None else tuple(value) if isinstance(value, list) else value


def as_ids(value: Any) -> Any:
    """The ids of a key that holds one, several or none."""
    if value is None:
        return ()
    return (value,) if type(value) is int else _tuple(value)
