"""Reads a checkpoint's config.json, strictly.

Nothing a checkpoint states has a default here, and a key that is neither a field of
`hyperparameters` nor in `IGNORED` is an error: a wrong hyper-parameter produces garbage
without a word.

Two dialects exist. Google's states `global_head_dim` and `num_global_key_value_heads`;
the one transformers writes on re-saving replaces them by `per_layer_config`, a table of
per-layer overrides. Both give the same objects.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from .errors import CheckpointError
from .hyperparameters import (
    FULL,
    SLIDING,
    AudioConfig,
    RopeParameters,
    TextConfig,
    VisionConfig,
)

__all__ = [
    "FULL",
    "SLIDING",
    "AudioConfig",
    "Config",
    "RopeParameters",
    "TextConfig",
    "VisionConfig",
]

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
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise CheckpointError(f"{path} is not valid JSON: {error}.") from None
        if not isinstance(data, dict):
            raise CheckpointError(f"{path} does not hold a JSON object.")
        return cls.from_dict(data)

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
        known |= {*_TOWERS, *_TOKEN_IDS, *_QUANTIZATION_KEYS}
        _refuse_unknown(data, known, "config.json")
        if not isinstance(data.get("text_config"), dict):
            raise CheckpointError("config.json has no text_config.")
        # The top level decides, as in the reference, whatever text_config says.
        tied = data.get("tie_word_embeddings", True)
        text = _text_config(data["text_config"], tie_word_embeddings=tied)
        vision, audio = (data.get(tower) for tower in _TOWERS)
        ids = {key: data.get(key) for key in _TOKEN_IDS}
        if ids["eoa_token_id"] is None:  # the reference spells it eoa_token_index
            ids["eoa_token_id"] = data.get("eoa_token_index")
        return cls(
            model_type="gemma4",
            text_config=text,
            vision_config=_vision_config(vision) if vision else None,
            audio_config=_audio_config(audio) if audio else None,
            eos_token_id=_ids(data.get("eos_token_id")) or text.eos_token_id,
            quantization=_quantization(data),
            **ids,
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
    rope = values.get("rope_parameters") or {}
    values["rope_parameters"] = {
        kind: _build(RopeParameters, rope[kind], f"rope_parameters.{kind}")
        for kind in rope
    }
    values["layer_types"] = tuple(values.get("layer_types") or ())
    config = _build(TextConfig, values, "text_config")
    _check_text(config)
    return config


def _with_global_sizes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Translate `per_layer_config` into the two global sizes Google's dialect has."""
    values = dict(data)
    overrides = values.pop("per_layer_config", None)
    if overrides is None:
        values.setdefault("num_global_key_value_heads", None)
        return values
    kinds = values.get("layer_types") or []
    full = {str(i) for i, kind in enumerate(kinds) if kind == FULL}
    # Above ten layers the keys are padded with zeros: "05".
    items = ((key.lstrip("0") or "0", value) for key, value in overrides.items())
    sizes = {key: dict(value) for key, value in items if value}
    distinct = {tuple(sorted(size.items())) for size in sizes.values()}
    if set(sizes) - full or len(distinct) > 1 or (sizes and set(sizes) != full):
        raise CheckpointError(
            "per_layer_config gives sizes that differ between layers of one kind; "
            "Gemma 4 has one size for all full_attention layers."
        )
    size = dict(distinct.pop()) if distinct else {}
    values["global_head_dim"] = size.pop("head_dim", values.get("head_dim"))
    values["num_global_key_value_heads"] = size.pop("num_key_value_heads", None)
    _refuse_unknown(size, set(), "per_layer_config")
    return values


def _check_text(config: TextConfig) -> None:
    problems = []
    if config.hidden_activation != "gelu_pytorch_tanh":
        problems.append(f"hidden_activation {config.hidden_activation!r} is unknown")
    if config.use_bidirectional_attention not in (None, "vision"):
        problems.append(
            f"use_bidirectional_attention {config.use_bidirectional_attention!r} is "
            "not that of a generating model"
        )
    if len(config.layer_types) != config.num_hidden_layers:
        problems.append("layer_types does not name every layer")
    if unknown := set(config.layer_types) - {SLIDING, FULL}:
        problems.append(f"unknown layer_types {sorted(unknown)}")
    kinds = set(config.layer_types)
    for kind in sorted(kinds - set(config.rope_parameters)):
        problems.append(f"rope_parameters has no entry for {kind}")
    if kinds - set(config.layer_types[: config.first_kv_shared_layer]):
        problems.append("a KV-shared layer has no earlier layer of its kind")
    if config.enable_moe_block and not (
        config.num_experts and config.top_k_experts and config.moe_intermediate_size
    ):
        problems.append("enable_moe_block without num_experts, top_k_experts or size")
    if problems:
        raise CheckpointError(f"text_config: {'; '.join(problems)}.")


def _vision_config(data: Mapping[str, Any]) -> VisionConfig:
    values = dict(data)
    rope = dict(values.get("rope_parameters") or {})
    if rope.get("rope_type") == "axial":  # how the reference re-saves "default"
        rope["rope_type"] = "default"
    values["rope_parameters"] = _build(RopeParameters, rope, "vision rope_parameters")
    # Stated by the checkpoints, decided elsewhere: the processor's budget, the table's
    # size, and a head size that all layers share.
    unused = {"default_output_length", "max_position_embeddings", "global_head_dim"}
    values = {key: value for key, value in values.items() if key not in unused}
    return _build(VisionConfig, values, "vision_config")


def _audio_config(data: Mapping[str, Any]) -> AudioConfig:
    values = dict(data)
    channels = values.get("subsampling_conv_channels") or ()
    values["subsampling_conv_channels"] = tuple(channels)
    return _build(AudioConfig, values, "audio_config")


def _build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Fill a dataclass from JSON, naming every missing or unknown key."""
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    _refuse_unknown(values, set(known), where)
    required = {name for name, field in known.items() if field.default is MISSING}
    if missing := sorted(required - set(values)):
        raise CheckpointError(f"{where} in config.json lacks {', '.join(missing)}.")
    return cls(**{name: values[name] for name in known if name in values})


def _refuse_unknown(values: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(values) - known - IGNORED):
        raise CheckpointError(
            f"{where} has keys this version does not know: {', '.join(unknown)}. "
            "Update mlx-gemma4, or report the checkpoint."
        )


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def _quantization(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return data.get("quantization") or data.get("quantization_config")
