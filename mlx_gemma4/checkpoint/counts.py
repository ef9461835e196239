"""What config.json describes against what is stored, before a model is built.

A tower that a conversion has dropped is left out, and one whose bounds it has dropped
does not clip. Counts and widths are compared with
the headers: building a model of 100,000 layers takes minutes and gigabytes, and a width
that is wrong by a factor fails in ways that name neither number.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from ..config import AssistantConfig, AudioConfig, Config, TextConfig, VisionConfig
from ..errors import CheckpointError
from .files import FLOATS, StoredTensor
from .names import BOUNDS, Place, place
from .widths import AUDIO, DECODER, VISION, widths

STACKS = {  # of layers -> the section that counts them
    DECODER: "text_config",
    VISION: "vision_config",
    AUDIO: "audio_config",
}
EXPERTS = ".experts."
REMEDY = "The files are not of one model: download them again."
LAYER = re.compile(rf"({'|'.join(map(re.escape, STACKS))})\.(\d{{1,9}})\..*", re.DOTALL)
# Section -> the tower, and what turns its results into embeddings.
TOWERS = {
    "vision_config": ("vision_tower", "embed_vision"),
    "audio_config": ("audio_tower", "embed_audio"),
}
# The same without towers.
EMBEDDERS = {
    "vision_config": ("vision_embedder", "embed_vision"),
    "audio_config": ("embed_audio",),
}


@dataclass(frozen=True)
class MissingTower:
    """A tower without all its parts. `left_out`: its tensors that are there."""

    name: str  # "vision"
    organ: str  # "tower", or what is in its place
    part: str  # the first that has no tensor, "vision_tower"
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        """What is missing, and what is left out for it, without a full stop."""
        tower = f"the {self.name} {self.organ} that config.json describes"
        if not self.left_out:
            return f"there are no weights of {tower}"
        return (
            f"there are no weights of {self.part}, so {tower} is left out, and with it "
            f"{len(self.left_out)} tensors such as {self.left_out[0]}"
        )


C = TypeVar("C", Config, AssistantConfig)


@dataclass(frozen=True)
class Present(Generic[C]):
    """A checkpoint less what it lacks the weights of.

    unclipped: the sections of `config` that said otherwise of bounds.
    """

    config: C
    tensors: dict[str, StoredTensor]
    missing: tuple[MissingTower, ...] = ()
    unclipped: tuple[str, ...] = ()


def without_missing_parts(
    config: Config, tensors: Mapping[str, StoredTensor]
) -> Present[Config]:
    """`config` and `tensors` less the towers of which a part has no tensor at all, and
    less clipping in towers that have no bound at all.

    Text-only conversions drop a tower's weights but may leave its configuration, and
    some forget its projection. Without bounds the reference keeps its initial ones,
    which are infinite.
    """
    parts: dict[str, list[str]] = {}
    for name in tensors:
        parts.setdefault(place(name).parameter.partition(".")[0], []).append(name)
    missing = []
    for section, tower in (TOWERS if config.has_towers else EMBEDDERS).items():
        absent = [part for part in tower if part not in parts]
        if getattr(config, section) is None or not absent:
            continue
        rest = [name for part in tower for name in parts.get(part, ())]
        kind = section.removesuffix("_config")
        missing.append(MissingTower(kind, config.organ, absent[0], tuple(rest)))
        config = replace(config, **{section: None})
    out = {name for tower in missing for name in tower.left_out}
    left = {name: tensor for name, tensor in tensors.items() if name not in out}
    unclipped = _without_bounds(config, left)
    for key in unclipped:
        section = replace(getattr(config, key), use_clipped_linears=False)
        config = replace(config, **{key: section})
    return Present(config, left, tuple(missing), unclipped)


def _without_bounds(config: Config, tensors: Iterable[str]) -> tuple[str, ...]:
    """Sections that clip, though no tensor of their tower is a bound."""
    bounds = {
        where.partition(".")[0]
        for where in (place(name).parameter for name in tensors)
        if where.endswith(BOUNDS)
    }
    return tuple(
        key
        for key, (tower, _) in TOWERS.items()
        if isinstance(section := getattr(config, key), VisionConfig | AudioConfig)
        and section.use_clipped_linears
        and tower not in bounds
    )


def elsewhere(folder: Path, tower: MissingTower) -> list[str]:
    """Weight files in folders of `folder` that are named after the tower."""
    files = folder.glob("*/*.safetensors")
    return sorted(
        str(file.relative_to(folder)) for file in files if tower.name in file.name
    )


def check_counts(
    config: Config | AssistantConfig, tensors: Mapping[str, StoredTensor]
) -> None:
    """Raises CheckpointError that names what config.json says and what is stored."""
    places = {place(name): name for name in tensors}
    _check_layers(config, places)
    _check_experts(config.text_config, places, tensors)
    for width in widths(config):
        name = places.get(Place(width.parameter))
        if name is None:  # missing, or in pieces: the fit says it
            continue
        shape = tensors[name].shape
        packed = tensors[name].dtype not in FLOATS
        if packed and width.axis == len(shape) - 1:
            continue
        if width.axis < len(shape) and shape[width.axis] != width.stated:
            raise CheckpointError(
                f"{width.key} in config.json gives {width.stated}, but {name} has "
                f"{shape[width.axis]}: shape {shape}. {REMEDY}"
            )


def _check_layers(config: Config | AssistantConfig, places: Iterable[Place]) -> None:
    found: dict[str, set[int]] = {stack: set() for stack in STACKS}
    for where in places:
        if match := LAYER.fullmatch(where.parameter):
            found[match[1]].add(int(match[2]))
    for stack, key in STACKS.items():
        section = getattr(config, key, None)  # a drafter has no towers
        stated = getattr(section, "num_hidden_layers", None)  # not without a tower
        if stated is not None:
            _check_stack(stack, f"{key}.num_hidden_layers", stated, found[stack])


def _check_stack(stack: str, key: str, stated: int, found: set[int]) -> None:
    # Neither number may decide how much is gone through: one of them can be absurd.
    absent = next((layer for layer in range(stated) if layer not in found), None)
    extra = min((layer for layer in found if layer >= stated), default=None)
    if absent is None and extra is None:
        return
    first = f"{stack}.{extra} is" if absent is None else f"no {stack}.{absent} is"
    raise CheckpointError(
        f"{key} in config.json is {stated}, but the tensors are of {len(found)} "
        f"layers: {first} there. {REMEDY}"
    )


def _check_experts(
    text: TextConfig, places: Mapping[Place, str], tensors: Mapping[str, StoredTensor]
) -> None:
    pieces = {p: n for p, n in places.items() if EXPERTS in p.parameter}
    counts = {
        name: tensors[name].shape[0]
        for where, name in pieces.items()
        if where.expert is None and len(tensors[name].shape) > 2
    }
    if singles := {where.expert for where in pieces} - {None}:
        counts[f"{DECODER}.*{EXPERTS}*"] = len(singles)
    for name, count in counts.items():
        if count != text.num_experts:
            raise CheckpointError(
                f"text_config.num_experts in config.json is {text.num_experts}, but "
                f"{name} has {count}. {REMEDY}"
            )
