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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..reading.json_file import read_object
from ..reading.neutral import not_obeyed
from ..reading.section import shown
from .checks import beyond_vocabulary, check_types, refuse
from .fields import (
    AudioConfig,
    AudioEmbedderConfig,
    TextConfig,
    VisionConfig,
    VisionEmbedderConfig,
)
from .quantization import KEYS as QUANTIZATION
from .quantization import known_settings, quantization_in
from .sections import Sections, as_ids

UNIFIED = "gemma4_unified"  # without towers
FAMILIES = ("gemma4", UNIFIED)
TEXT = "_text"  # behind it: the decoder alone
ASSISTANT = "_assistant"  # behind it: a drafter
SENSES = ("vision_config", "audio_config")
TOKEN_IDS = (
    *("image_token_id", "video_token_id", "audio_token_id"),
    *("boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id"),
)
# Read elsewhere, or said again at the top: the reference takes text_config's.
TOP = {"text_config", "tie_word_embeddings", "eos_token_id", "pad_token_id"}
TOP |= {*SENSES, *TOKEN_IDS, *QUANTIZATION, "eoa_token_index", "vocab_size"}
TOP |= {"vision_soft_tokens_per_image"}  # the processor's budget decides


class ConfigWarning(UserWarning):
    """A file of a checkpoint states something that was not obeyed."""


@dataclass(frozen=True)
class Config:
    """A whole config.json. Token ids of media a model does not know are `None`."""

    model_type: str
    text_config: TextConfig
    vision_config: VisionConfig | VisionEmbedderConfig | None
    audio_config: AudioConfig | AudioEmbedderConfig | None
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
    def has_towers(self) -> bool:
        """Whether what it sees and hears goes through a tower first."""
        return not self.model_type.startswith(UNIFIED)

    @property
    def organ(self) -> str:
        """What pictures and sound go through first, as messages call it."""
        return "tower" if self.has_towers else "embedder"

    @property
    def text_only(self) -> bool:
        """Whether it is a decoder alone, by its type; such a one has other names."""
        return self.model_type.endswith(TEXT)

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
        """Build from the parsed JSON of a checkpoint of type `gemma4`, `gemma4_unified`
        or, with the decoder alone, one of these with `_text`.

        Warns with ConfigWarning of keys that are not understood.
        """
        model_type = str(data.get("model_type"))
        family = model_type.removesuffix(TEXT)
        if model_type.endswith(ASSISTANT):
            raise CheckpointError(
                "config.json is a drafter's, which proposes tokens to a model and says "
                "nothing itself: give its model with --model, and this with --draft."
            )
        if family not in FAMILIES:
            raise CheckpointError(
                f"config.json says model_type {shown(data.get('model_type'))}; this "
                f"program runs {' and '.join(map(repr, FAMILIES))}."
            )
        reader = _Reader(family)
        alone = model_type.endswith(TEXT)
        config = reader.text_only(data) if alone else reader.multimodal(data)
        if unknown := reader.sections.unknown:
            warnings.warn(
                not_obeyed("config.json", unknown), ConfigWarning, stacklevel=2
            )
        return config


class _Reader:
    """Reads the top level, and has the sections read."""

    def __init__(self, family: str) -> None:
        self.sections = Sections(family)

    def text_only(self, data: Mapping[str, Any]) -> Config:
        rest = {k: v for k, v in data.items() if k not in QUANTIZATION}
        text = self.sections.text(rest, rest.get("tie_word_embeddings"))
        nothing: dict[str, Any] = dict.fromkeys((*TOKEN_IDS, *SENSES))
        return Config(
            model_type=f"{self.sections.family}_text",
            text_config=text,
            eos_token_id=text.eos_token_id,
            quantization=self._quantization(data),
            **nothing,
        )

    def multimodal(self, data: Mapping[str, Any]) -> Config:
        self.sections.note_unknown(data, TOP | _repeated(data), "")
        if not isinstance(data.get("text_config"), dict):
            raise CheckpointError("config.json has no text_config.")
        # The top level decides, as in the reference, whatever text_config says.
        text = self.sections.text(data["text_config"], data.get("tie_word_embeddings"))
        # mlx-lm reads the vocabulary's size here, so conversions may repeat it.
        size = data.get("vocab_size")
        if size is not None and size != text.vocab_size:
            stated = f"vocab_size is {shown(size)}, in text_config {text.vocab_size}"
            refuse("The top level", [stated])
        ids = {key: data.get(key) for key in TOKEN_IDS}
        if ids["eoa_token_id"] is None:  # the reference spells it eoa_token_index
            ids["eoa_token_id"] = data.get("eoa_token_index")
        top: dict[str, Any] = {}
        top |= {"eos_token_id": as_ids(data.get("eos_token_id")) or text.eos_token_id}
        top |= {"quantization": self._quantization(data), **ids}
        check_types(Config, top, "The top level")
        stated = [*ids.items(), *(("eos_token_id", id) for id in top["eos_token_id"])]
        refuse("The top level", beyond_vocabulary(stated, text.vocab_size))
        top |= {sense: self._sense(sense, data.get(sense)) for sense in SENSES}
        return Config(model_type=self.sections.family, text_config=text, **top)

    def _sense(self, section: str, data: Any) -> Any:
        if data is None:
            return None
        read = self.sections
        if read.family == UNIFIED:
            of = {"vision_config": read.patches, "audio_config": read.samples}
        else:
            of = {"vision_config": read.vision, "audio_config": read.audio}
        return of[section](data)

    def _quantization(self, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        stated = quantization_in(data)
        if stated is not None:
            self.sections.note_unknown(stated, known_settings(stated), "quantization.")
        return stated


def _repeated(data: Mapping[str, Any]) -> set[str]:
    """Keys that say once more what another says: a token's id, as other models do, or
    what text_config has."""
    keys = {key: key.replace("_id", "_index") for key in TOKEN_IDS}
    ids = {old for key, old in keys.items() if data.get(old) == data.get(key)}
    text = data.get("text_config")
    text = text if isinstance(text, Mapping) else {}
    text = {**text, "hidden_act": text.get("hidden_activation")}
    return ids | {key for key in text if data.get(key) == text[key]}
