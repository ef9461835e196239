"""Reads the config.json of a drafter, the small model that proposes tokens to another.

Its layers have queries alone: they read keys and values of the model that it drafts
for, which its text_config therefore describes.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..reading.json_file import read_object
from ..reading.neutral import not_obeyed
from ..reading.section import shown
from .checks import check_types, refuse
from .fields import Count, TextConfig
from .quantization import known_settings, quantization_in
from .reading import ASSISTANT, FAMILIES, TOP, Config, ConfigWarning
from .sections import Sections

OWN = ("backbone_hidden_size", "use_ordered_embeddings", "num_centroids")
OWN += ("centroid_intermediate_top_k",)


def is_assistant(model_type: object) -> bool:
    """Whether a config.json of this model_type is a drafter's."""
    return isinstance(model_type, str) and model_type.endswith(ASSISTANT)


@dataclass(frozen=True)
class AssistantConfig:
    """A drafter's config.json.

    backbone_hidden_size: hidden_size of the model that it drafts for.
    use_ordered_embeddings: only the tokens of the `centroid_intermediate_top_k` best of
        `num_centroids` equal parts of the vocabulary are looked at.
    """

    model_type: str
    text_config: TextConfig
    backbone_hidden_size: Count
    use_ordered_embeddings: bool = False
    num_centroids: Count | None = None
    centroid_intermediate_top_k: Count | None = None
    quantization: Mapping[str, Any] | None = None

    @property
    def text_only(self) -> bool:
        """As of a decoder alone, whose names its tensors have."""
        return True

    @classmethod
    def from_file(cls, path: Path) -> "AssistantConfig":
        """Read a config.json. Raises CheckpointError when it cannot be used."""
        return cls.from_dict(read_object(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "AssistantConfig":
        """Build from the parsed JSON of a checkpoint of type `gemma4_assistant` or
        `gemma4_unified_assistant`.

        Warns with ConfigWarning of keys that are not understood.
        """
        model_type = str(data.get("model_type"))
        family = model_type.removesuffix(ASSISTANT)
        if not is_assistant(model_type) or family not in FAMILIES:
            known = " or ".join(repr(each + ASSISTANT) for each in FAMILIES)
            raise CheckpointError(
                f"config.json says model_type {shown(data.get('model_type'))}; a "
                f"drafter's is {known}."
            )
        sections = Sections(family)
        sections.note_unknown(data, {*TOP, *OWN}, "")
        if not isinstance(data.get("text_config"), Mapping):
            raise CheckpointError("config.json has no text_config.")
        text = sections.drafting(data["text_config"], data.get("tie_word_embeddings"))
        stated = quantization_in(data)
        if stated is not None:
            sections.note_unknown(stated, known_settings(stated), "quantization.")
        config = _checked(data, model_type, text, stated)
        if sections.unknown:
            told = not_obeyed("config.json", sections.unknown)
            warnings.warn(told, ConfigWarning, stacklevel=2)
        return config

    def check_pair(self, model: Config, name: object, model_name: object) -> None:
        """Raises CheckpointError that names both where this drafter, called `name`,
        cannot draft for the model: where its tensors do not meet the model's."""
        told = [
            f"{key} is {own}, there {other}"
            for key, own, other in _compared(self, model.text_config)
            if own != other
        ]
        if told:
            raise CheckpointError(
                f"The drafter {name} was not made for {model_name}: {'; '.join(told)}. "
                "Take the one that is called as the model, with -assistant behind it, "
                "or none (`--draft off`)."
            )


def _compared(
    drafter: AssistantConfig, model: TextConfig
) -> Iterator[tuple[str, object, object]]:
    text = drafter.text_config
    yield "backbone_hidden_size", drafter.backbone_hidden_size, model.hidden_size
    yield "vocab_size", text.vocab_size, model.vocab_size
    for kind in sorted(set(text.layer_types)):
        own = text.layer_types.index(kind)
        if kind not in model.layer_types:
            yield f"{kind}", "among its layers", "no layer is"
            continue
        other = model.layer_types.index(kind)
        heads = text.layer_key_value_heads(own), model.layer_key_value_heads(other)
        yield f"the number of key and value heads ({kind})", *heads
        dims = text.layer_head_dim(own), model.layer_head_dim(other)
        yield f"the size of a head ({kind})", *dims


def _checked(
    data: Mapping[str, Any],
    model_type: str,
    text: TextConfig,
    quantization: Mapping[str, Any] | None,
) -> AssistantConfig:
    own = {key: data[key] for key in OWN if data.get(key) is not None}
    required = ["backbone_hidden_size"]
    if own.get("use_ordered_embeddings"):
        required += OWN[2:]
    if missing := [key for key in required if key not in own]:
        raise CheckpointError(f"config.json lacks {', '.join(missing)}.")
    check_types(AssistantConfig, own, "The top level")
    config = AssistantConfig(model_type, text, quantization=quantization, **own)
    if config.use_ordered_embeddings:
        refuse("The top level", _centroids(config))
    return config


def _centroids(config: AssistantConfig) -> list[str]:
    count, top = config.num_centroids or 0, config.centroid_intermediate_top_k or 0
    problems, size = [], config.text_config.vocab_size
    if size % count:
        problems.append(f"num_centroids {count} does not divide vocab_size {size}")
    if top > count:
        problems.append(f"centroid_intermediate_top_k is {top} of {count} centroids")
    return problems
