"""Reads a checkpoint's config.json, strictly.

Nothing a checkpoint states has a default here, and a key that is neither a field of
`hyperparameters` nor in `IGNORED` is an error: a wrong hyper-parameter produces garbage
without a word.

Two dialects exist. Google's states `global_head_dim` and `num_global_key_value_heads`;
the one transformers writes on re-saving replaces them by `per_layer_config`, a table of
per-layer overrides. Both give the same objects.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CheckpointError
from ..reading.json_file import read_object
from .checks import (
    check_audio,
    check_rope,
    check_text,
    check_types,
    check_vision,
    refuse,
    shown,
)
from .fields import FULL, AudioConfig, RopeParameters, TextConfig, VisionConfig

# Keys that may stand in any section and change nothing about the model. (Sampling
# settings are read from generation_config.json; mlx-vlm copies them here.)
IGNORED = frozenset(
    {
        "architectures",
        "attention_dropout",
        "attention_invalid_logits_value",
        "chunk_size_feed_forward",
        "do_sample",
        "dtype",
        "generation_config",
        "id2label",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "model_type",
        "name_or_path",
        "_name_or_path",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "temperature",
        "top_k",
        "top_p",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
T = TypeVar("T")


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

    @classmethod
    def from_file(cls, path: Path) -> "Config":
        """Read a config.json. Raises CheckpointError when it cannot be used."""
        return cls.from_dict(read_object(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Config":
        """Build from the parsed JSON of a `gemma4` or `gemma4_text` checkpoint."""
        model_type = data.get("model_type")
        if model_type == "gemma4_text":
            return cls._text_only(data)
        if model_type != "gemma4":
            raise CheckpointError(
                f"config.json says model_type {model_type!r}; this program runs "
                "'gemma4' and 'gemma4_text'."
            )
        return cls._multimodal(data)

    @classmethod
    def _text_only(cls, data: Mapping[str, Any]) -> "Config":
        rest = {k: v for k, v in data.items() if k not in _QUANTIZATION_KEYS}
        text = _text_config(rest, tie_word_embeddings=None)
        nothing: dict[str, Any] = dict.fromkeys((*_TOKEN_IDS, *_TOWERS))
        return cls(
            model_type="gemma4_text",
            text_config=text,
            eos_token_id=text.eos_token_id,
            quantization=_quantization(data),
            **nothing,
        )

    @classmethod
    def _multimodal(cls, data: Mapping[str, Any]) -> "Config":
        known = {"text_config", "tie_word_embeddings", "eos_token_id", "pad_token_id"}
        known |= {"bos_token_id", "vision_soft_tokens_per_image", "eoa_token_index"}
        known |= {*_TOWERS, *_TOKEN_IDS, *_QUANTIZATION_KEYS, "vocab_size"}
        _refuse_unknown(data, known, "config.json")
        if not isinstance(data.get("text_config"), dict):
            raise CheckpointError("config.json has no text_config.")
        # The top level decides, as in the reference, whatever text_config says.
        tied = data.get("tie_word_embeddings", True)
        if tied is None:
            refuse("The top level", ["tie_word_embeddings is null"])
        text = _text_config(data["text_config"], tie_word_embeddings=tied)
        vision, audio = (data.get(tower) for tower in _TOWERS)
        # mlx-lm reads the vocabulary's size here, so conversions may repeat it.
        if (size := data.get("vocab_size", text.vocab_size)) != text.vocab_size:
            stated = f"vocab_size is {shown(size)}, in text_config {text.vocab_size}"
            refuse("The top level", [stated])
        ids = {key: data.get(key) for key in _TOKEN_IDS}
        if ids["eoa_token_id"] is None:  # the reference spells it eoa_token_index
            ids["eoa_token_id"] = data.get("eoa_token_index")
        top: dict[str, Any] = {}
        top |= {"eos_token_id": _ids(data.get("eos_token_id")) or text.eos_token_id}
        top |= {"quantization": _quantization(data), **ids}
        check_types(cls, top, "The top level")
        return cls(
            model_type="gemma4",
            text_config=text,
            vision_config=None if vision is None else _vision_config(vision),
            audio_config=None if audio is None else _audio_config(audio),
            **top,
        )


_TOWERS = ("vision_config", "audio_config")
_QUANTIZATION_KEYS = ("quantization", "quantization_config")
_TOKEN_IDS = (
    *("image_token_id", "video_token_id", "audio_token_id"),
    *("boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id"),
)


def _text_config(
    data: Mapping[str, Any], tie_word_embeddings: bool | None
) -> TextConfig:
    values = _with_global_sizes(data)
    if tie_word_embeddings is not None:
        values["tie_word_embeddings"] = tie_word_embeddings
    values.setdefault("tie_word_embeddings", True)
    if values.get("hidden_size_per_layer_input", 0) is None:
        values["hidden_size_per_layer_input"] = 0
    values["eos_token_id"] = _ids(values.get("eos_token_id"))
    if "rope_parameters" in values:
        rope = _object(values["rope_parameters"], "rope_parameters")
        values["rope_parameters"] = {
            kind: _rope(rope[kind], f"rope_parameters.{kind}") for kind in rope
        }
    values["layer_types"] = _tuple(values.get("layer_types"))
    config = _build(TextConfig, values, "text_config")
    check_text(config)
    return config


def _with_global_sizes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Translate `per_layer_config` into the two global sizes Google's dialect has."""
    values = dict(data)
    overrides = values.pop("per_layer_config", None)
    if overrides is None:
        values.setdefault("num_global_key_value_heads", None)
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
    _refuse_unknown(size, set(), "per_layer_config")
    return values


def _vision_config(data: Mapping[str, Any]) -> VisionConfig:
    values = dict(_object(data, "vision_config"))
    if "rope_parameters" in values:
        where = "vision_config.rope_parameters"
        rope = dict(_object(values["rope_parameters"], where))
        if rope.get("rope_type") == "axial":  # how the reference re-saves "default"
            rope["rope_type"] = "default"
        values["rope_parameters"] = _rope(rope, where)
    # Stated by the checkpoints, decided elsewhere: the processor's budget, the table's
    # size, and a head size that all layers share.
    unused = {"default_output_length", "max_position_embeddings", "global_head_dim"}
    values = {key: value for key, value in values.items() if key not in unused}
    config = _build(VisionConfig, values, "vision_config")
    check_vision(config)
    return config


def _audio_config(data: Mapping[str, Any]) -> AudioConfig:
    values = dict(_object(data, "audio_config"))
    if "subsampling_conv_channels" in values:
        channels = values["subsampling_conv_channels"]
        values["subsampling_conv_channels"] = _tuple(channels)
    config = _build(AudioConfig, values, "audio_config")
    check_audio(config)
    return config


def _rope(data: Any, where: str) -> RopeParameters:
    values = _object(data, where)
    config = _build(RopeParameters, values, where)
    if config.rope_type == "proportional" and "partial_rotary_factor" not in values:
        refuse(where, ["lacks partial_rotary_factor"])
    check_rope(config, where)
    return config


def _build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Fill a dataclass from JSON, naming every missing or unknown key."""
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    _refuse_unknown(values, set(known), where)
    required = {name for name, field in known.items() if field.default is MISSING}
    if missing := sorted(required - set(values)):
        raise CheckpointError(f"{where} in config.json lacks {', '.join(missing)}.")
    check_types(cls, values, where)
    return cls(**{name: values[name] for name in known if name in values})


def _refuse_unknown(values: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(values) - known - IGNORED):
        raise CheckpointError(
            f"{where} has keys this version does not know: {', '.join(unknown)}. "
            "Update mlx-gemma4, or report the checkpoint."
        )


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


def _quantization(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return data.get("quantization") or data.get("quantization_config")
