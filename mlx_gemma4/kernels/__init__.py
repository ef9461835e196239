"""Metal kernels: NAME.py with its plain-MLX twin, and NAME.metal.

Each does in one launch what MLX does in several, for the few rows at a time of
decoding. All are off unless `GEMMA4_KERNELS` asks for them (see launch.py), and always
off where there is no Metal; their twins then run instead.
"""

from .affine import Affine
from .attention import EVERYTHING, attention, attention_of_ready, takes_raw
from .dense import dense, gated, gated_pair, project
from .experts import experts, experts_fit
from .heads import rotate_heads, rotate_keys, rotate_queries
from .launch import (
    MOST_ROWS,
    NAMES,
    comparing,
    enabled,
    in_use,
    using,
    without_gradients,
)
from .norms import Norm, add_norms
from .router import choose_experts

__all__ = [
    "EVERYTHING",
    "MOST_ROWS",
    "NAMES",
    "Affine",
    "Norm",
    "add_norms",
    "attention",
    "attention_of_ready",
    "choose_experts",
    "comparing",
    "dense",
    "enabled",
    "experts",
    "experts_fit",
    "gated",
    "gated_pair",
    "in_use",
    "project",
    "rotate_heads",
    "rotate_keys",
    "rotate_queries",
    "takes_raw",
    "using",
    "without_gradients",
]
