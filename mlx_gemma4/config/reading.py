"""Reads a checkpoint's config.json by what its values do.

What changes a computation has to be stated, is checked, and is named in errors. A key
that no field takes is passed over where it is off or known to be harmless (`neutral`);
all others are listed in one warning, because a setting that is silently not obeyed
produces garbage without a word.

Two dialects exist. Google's states `global_head_dim` and `num_global_key_value_heads`;
the one transformers writes on re-saving replaces them by `per_layer_config`, a table of
per-layer overrides. Both give the same objects.
"""

import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CheckpointError
from ..reading.json_file import read_object
from ..reading.neutral import UNSUPPORTED, is_empty, not_obeyed, unknown_keys
from ..reading.section import shown
from .checks import (
    beyond_vocabulary,
    check_audio,
    check_rope,
    check_text,
    check_types,
    check_vision,
    refuse,
)
from .fields import FULL, AudioConfig, RopeParameters, TextConfig, VisionConfig
from .quantization import KEYS as QUANTIZATION
from .quantization import known_settings, quantization_in

TOWERS = ("vision_config", "audio_config")
TOKEN_IDS = (
    *("image_token_id", "video_token_id", "audio_token_id"),
    *("boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id"),
)
# Read elsewhere, or said again at the top: the reference takes text_config's.
TOP = {"text_config", "tie_word_embeddings", "eos_token_id", "pad_token_id"}
TOP |= {*TOWERS, *TOKEN_IDS, *QUANTIZATION, "eoa_token_index", "vocab_size"}
TOP |= {"vision_soft_tokens_per_image"}  # the processor's budget decides
# Stated by the checkpoints, decided elsewhere: the processor's budget, the table's
# size, and a head size that all layers share.
VISION_UNUSED = {"default_output_length", "max_position_embeddings", "global_head_dim"}
# What is one of the family and not run yet.
LATER = {
    "gemma4_unified": " Gemma 4 12B is not supported yet: take E4B, or 26B-A4B where "
    "there is memory for it."
}
T = TypeVar("T")


class ConfigWarning(UserWarning):
    """A file of a checkpoint states something that was not obeyed."""


@dataclass(frozen=True)
class Config:
    """A whole config.json. Token ids of media a model does not know are `None`."""

    model_type: str
    text_config: TextConfig
    vision_config: VisionConfig | None
    audio_config: AudioConfig | None
    eos_token_id: tuple[int, ...]
    image_token_id: int | None
    video_token_id: int | None
    audio_token_id: int | None
    boi_token_id: int | None
    eoi_token_id: int | None
    boa_token_id: int | None
    eoa_token_id: int | None
    quantization: Mapping[str, Any] | None

    @property
    def placeholders(self) -> tuple[int, ...]:
        """Ids that stand for media; pad is looked up in the tables in place of them."""
        ids = (self.image_token_id, self.video_token_id, self.audio_token_id)
        return tuple(token for token in ids if token is not None)

    def has_row(self, token: int) -> bool:
        """Whether the tables have what is looked up for an id: behind their end lies
        whatever else is in memory."""
        return 0 <= token < self.text_config.token_rows or token in self.placeholders

    @classmethod
    def from_file(cls, path: Path) -> "Config":
        """Read a config.json. Raises CheckpointError when it cannot be used."""
        return cls.from_dict(read_object(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Config":
        """Build from the parsed JSON of a `gemma4` or `gemma4_text` checkpoint.

        Warns with ConfigWarning of keys that are not understood.
        """
        reader = _Reader()
        model_type = data.get("model_type")
        if model_type == "gemma4_text":
            config = reader.text_only(data)
        elif model_type == "gemma4":
            config = reader.multimodal(data)
        else:
            raise CheckpointError(
                f"config.json says model_type {shown(model_type)}; this program runs "
                f"'gemma4' and 'gemma4_text'.{LATER.get(str(model_type), '')}"
            )
        if reader.unknown:
            warnings.warn(
                not_obeyed("config.json", reader.unknown), ConfigWarning, stacklevel=2
            )
        return config


class _Reader:
    """Turns sections into dataclasses; keeps what it did not understand."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def text_only(self, data: Mapping[str, Any]) -> Config:
        rest = {k: v for k, v in data.items() if k not in QUANTIZATION}
        text = self._text(rest, rest.get("tie_word_embeddings"))
        nothing: dict[str, Any] = dict.fromkeys((*TOKEN_IDS, *TOWERS))
        return Config(
            model_type="gemma4_text",
            text_config=text,
            eos_token_id=text.eos_token_id,
            quantization=self._quantization(data),
            **nothing,
        )

    def multimodal(self, data: Mapping[str, Any]) -> Config:
        self._note_unknown(data, TOP | _repeated_ids(data), "")
        if not isinstance(data.get("text_config"), dict):
            raise CheckpointError("config.json has no text_config.")
        # The top level decides, as in the reference, whatever text_config says.
        text = self._text(data["text_config"], data.get("tie_word_embeddings"))
        vision, audio = (data.get(tower) for tower in TOWERS)
        # mlx-lm reads the vocabulary's size here, so conversions may repeat it.
        size = data.get("vocab_size")
        if size is not None and size != text.vocab_size:
            stated = f"vocab_size is {shown(size)}, in text_config {text.vocab_size}"
            refuse("The top level", [stated])
        ids = {key: data.get(key) for key in TOKEN_IDS}
        if ids["eoa_token_id"] is None:  # the reference spells it eoa_token_index
            ids["eoa_token_id"] = data.get("eoa_token_index")
        top: dict[str, Any] = {}
        top |= {"eos_token_id": _ids(data.get("eos_token_id")) or text.eos_token_id}
        top |= {"quantization": self._quantization(data), **ids}
        check_types(Config, top, "The top level")
        stated = [*ids.items(), *(("eos_token_id", id) for id in top["eos_token_id"])]
        refuse("The top level", beyond_vocabulary(stated, text.vocab_size))
        return Config(
            model_type="gemma4",
            text_config=text,
            vision_config=None if vision is None else self._vision(vision),
            audio_config=None if audio is None else self._audio(audio),
            **top,
        )

    def _quantization(self, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        stated = quantization_in(data)
        if stated is not None:
            self._note_unknown(stated, known_settings(stated), "quantization.")
        return stated

    def _text(self, data: Mapping[str, Any], tied: Any) -> TextConfig:
        values = _with_global_sizes(data)
        _expect_type(data, "gemma4_text", "text_config")
        values["tie_word_embeddings"] = True if tied is None else tied
        values["eos_token_id"] = _ids(values.get("eos_token_id"))
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
        config = self._build(TextConfig, values, "text_config")
        check_text(config)
        return config

    def _vision(self, data: Any) -> VisionConfig:
        values = dict(_object(data, "vision_config"))
        _expect_type(data, "gemma4_vision", "vision_config")
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

    def _audio(self, data: Any) -> AudioConfig:
        values = dict(_object(data, "audio_config"))
        _expect_type(data, "gemma4_audio", "audio_config")
        if "subsampling_conv_channels" in values:
            channels = values["subsampling_conv_channels"]
            values["subsampling_conv_channels"] = _tuple(channels)
        config = self._build(AudioConfig, values, "audio_config")
        check_audio(config)
        return config

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
        self._note_unknown(values, set(known), f"{where}.")
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

    def _note_unknown(
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


def _repeated_ids(data: Mapping[str, Any]) -> set[str]:
    """Keys of other models that state a token's id once more."""
    keys = {key: key.replace("_id", "_index") for key in TOKEN_IDS}
    return {old for key, old in keys.items() if data.get(old) == data.get(key)}


def _expect_type(data: Mapping[str, Any], expected: str, where: str) -> None:
    stated = data.get("model_type")
    if stated not in (None, expected):
        refuse(where, [f"model_type is {shown(stated)}, not {expected!r}"])


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} in config.json is {shown(value)}, no object.")
    return value


def _tuple(value: Any) -> Any:
    """A list as a tuple; what is no list stays, for `check_types` to name."""
    return () if value is None else tuple(value) if isinstance(value, list) else value


def _ids(value: Any) -> Any:
    if value is None:
        return ()
    return (value,) if type(value) is int else _tuple(value)
