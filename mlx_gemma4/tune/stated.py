"""What the files of an adapter state, under this model's names."""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

from ..checkpoint.names import TOWERS, Place, place, unwrapped

# What may stand before a module's own path: each class of model has another of these.
CONTAINERS = ("base_model", "model", "language_model")


@dataclass(frozen=True)
class Stated:
    """The tensors of an adapter by our names; `names` has those of its file.

    source: the file or folder, as errors name it.
    scale: of the low-rank product; of a full adapter it has no meaning.
    base: the model that the adapter says it was made for.
    """

    source: str
    tensors: Mapping[str, mx.array]
    names: Mapping[str, str]
    scale: float = 1.0
    base: str | None = None


def our_place(name: str) -> Place:
    """Where the tensor of this name belongs, from whatever model it was saved.

    A decoder alone, a text model, a whole one and those that MLX has differ in what
    stands before the path: all of it is left out.
    """
    parts = unwrapped(name).split(".")
    while len(parts) > 1 and parts[0] in CONTAINERS:
        parts.pop(0)
    rest = ".".join(parts)
    outside = rest.startswith((*TOWERS, "lm_head."))
    return place(rest if outside else f"language_model.{rest}")
