"""What a model is, and what it needs in memory, in figures."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from ..checkpoint.plan import LoadPlan, footprint
from ..config import Config
from ..device import memory_limit
from ..kernels.choice import Conditions, is_auto, recall
from ..kernels.launch import setting
from ..memory.held import kv_bytes
from ..prompt.vocabulary import perceived
from .headers import Examined

PARTS = {
    "vision": ("vision_tower.", "vision_embedder.", "embed_vision."),
    "audio": ("audio_tower.", "embed_audio."),
}


@dataclass(frozen=True)
class Summary:
    """A model in figures, with None for what its files did not let be known.

    parameters: of the text decoder and of each tower, weights that are used.
    packings: weights by how they are stored.
    kernels: which of them do on this machine, where there is Metal.
    """

    layers: int
    experts: int
    context: int
    vocabulary: int
    senses: tuple[str, ...]
    chats: bool | None
    parameters: dict[str, int] | None = None
    packings: dict[str, int] | None = None
    unused_tensors: int | None = None
    kernels: str | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes: of the weights in `dtype`, of these the table that may stay on disk, of
    the keys and values of a full context, and what a model may take here."""

    dtype: str
    weights: int
    table: int
    full_context: int
    limit: int

    @property
    def fits(self) -> bool:
        return self.weights - self.table <= self.limit


def summary_of(found: Examined) -> Summary | None:
    """None where config.json could not be read."""
    if (config := found.config) is None:
        return None
    text, processor, plan = config.text_config, found.processor, found.plan
    planned: dict[str, Any] = {}
    if plan is not None:
        used = {name for each in plan.fit.sources.values() for _, name in each}
        planned["parameters"] = _parameters(plan)
        planned["packings"] = _packings(plan)
        planned["unused_tensors"] = len(plan.tensors.keys() - used)
        planned["kernels"] = _kernels(plan) if mx.metal.is_available() else None
    return Summary(
        layers=text.num_hidden_layers,
        experts=(text.num_experts or 0) if text.enable_moe_block else 0,
        context=text.max_position_embeddings,
        vocabulary=text.vocab_size,
        senses=("text", *perceived(config)),
        chats=processor and processor.template is not None,
        **planned,
    )


def _kernels(plan: LoadPlan) -> str:
    if not is_auto():
        return f"GEMMA4_KERNELS is {setting()}"
    text, dtype = plan.model.config.text_config, footprint(plan).dtype
    here = Conditions.of(text, plan.fit.packings, dtype)
    answer = recall(here, lambda text: None)
    return answer.text if answer else "not checked here yet: the first answer does it"


def memory_of(config: Config, plan: LoadPlan) -> Memory:
    """What `plan` takes where it is loaded as `load` does."""
    need, text = footprint(plan), config.text_config
    keys = kv_bytes(text, text.max_position_embeddings, need.dtype)
    name = str(need.dtype).removeprefix("mlx.core.")
    return Memory(name, need.nbytes, need.table, keys, memory_limit())


def _shapes(plan: LoadPlan) -> dict[str, int]:
    """Weights of each parameter before it is packed; nothing is evaluated."""
    arrays = cast(list[tuple[str, Any]], tree_flatten(plan.model.parameters()))
    return {name: math.prod(array.shape) for name, array in arrays}


def _parameters(plan: LoadPlan) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for name, weights in _shapes(plan).items():
        parts = (part for part, starts in PARTS.items() if name.startswith(starts))
        counted[next(parts, "text")] += weights
    return dict(counted)


def _packings(plan: LoadPlan) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for name, weights in _shapes(plan).items():
        module, _, kind = name.rpartition(".")
        packing = plan.fit.packings.get(module) if kind == "weight" else None
        stored = {plan.tensors[source].dtype for _, source in plan.fit.sources[name]}
        counted[str(packing or "/".join(sorted(stored)))] += weights
    return dict(counted.most_common())
