"""Classes of tensors: what is treated alike by a recipe and counted in one row."""

import re
from enum import StrEnum

from mlx_gemma4.errors import CheckpointError


class TensorClass(StrEnum):
    """In the order of tables; the values are what a user reads."""

    EMBEDDING = "embedding"  # embed_tokens; the head too where they are tied
    HEAD = "head"  # lm_head of an untied model
    PLE_TABLE = "per-layer table"
    PLE_PROJECTION = "per-layer projection"
    ATTENTION = "attention"
    MLP = "mlp"
    EXPERTS = "experts"
    ROUTER = "router"
    PROJECTION = "drafter's projection"  # from the model's states, and to them
    CENTROIDS = "centroids"  # of a drafter: which tokens are looked at
    ORDER = "token order"  # by centroid, ids
    NORM = "norm"  # norms, scalars, per-expert scales
    VISION = "vision"  # the tower and its projector
    AUDIO = "audio"


KEPT = (TensorClass.NORM, TensorClass.VISION, TensorClass.AUDIO)  # never quantised
# First match decides; this model's own names.
PATTERNS = (
    (r"(vision_tower|vision_embedder|embed_vision)\..*", TensorClass.VISION),
    (r"(audio_tower|embed_audio)\..*", TensorClass.AUDIO),
    (r"language_model\.embed_tokens\.weight", TensorClass.EMBEDDING),
    (r"lm_head\.weight", TensorClass.HEAD),
    (r"language_model\.embed_tokens_per_layer\.weight", TensorClass.PLE_TABLE),
    (r".*\.per_layer_\w*(gate|projection)\.weight", TensorClass.PLE_PROJECTION),
    (r".*\.self_attn\.[qkvo]_proj\.weight", TensorClass.ATTENTION),
    (r".*\.mlp\.(gate|up|down)_proj\.weight", TensorClass.MLP),
    (r".*\.experts\.(gate_up|down)_proj\.weight", TensorClass.EXPERTS),
    (r".*\.router\.proj\.weight", TensorClass.ROUTER),
    (r"(pre|post)_projection\.weight", TensorClass.PROJECTION),
    (r"masked_embedding\.centroids\.weight", TensorClass.CENTROIDS),
    (r"masked_embedding\.token_ordering", TensorClass.ORDER),
    (r".*(norm\w*\.weight|layer_scalar|\.scale|per_expert_scale)", TensorClass.NORM),
)


def class_of(parameter: str) -> TensorClass:
    """The class of a parameter. Raises CheckpointError if it is of none."""
    for pattern, found in PATTERNS:
        if re.fullmatch(pattern, parameter):
            return found
    raise CheckpointError(f"{parameter} is no part of Gemma 4 that is known here.")
