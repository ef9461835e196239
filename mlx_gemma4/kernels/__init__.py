"""Metal kernels: NAME.py with its plain-MLX twin, and NAME.metal.

Each does in one launch what MLX does in several, for the few rows at a time of
decoding. `GEMMA4_KERNELS` says which are on (see launch.py); where there is no Metal,
their twins always run instead.
"""

from .affine import Affine
from .attention import (
    EVERYTHING,
    attention,
    attention_in_slots,
    attention_of_ready,
    in_rows,
    mlx_has_one,
    slots_fit,
    takes_raw,
)
from .dense import dense, gated, gated_pair, project
from .experts import experts, experts_fit
from .heads import rotate_heads, rotate_keys, rotate_queries
from .launch import (
    MOST_ROWS,
    NAMES,
    Trial,
    any_on,
    collecting,
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
    "Trial",
    "add_norms",
    "any_on",
    "attention",
    "attention_in_slots",
    "attention_of_ready",
    "choose_experts",
    "collecting",
    "dense",
    "enabled",
    "experts",
    "experts_fit",
    "gated",
    "gated_pair",
    "in_rows",
    "in_use",
    "mlx_has_one",
    "project",
    "rotate_heads",
    "rotate_keys",
    "rotate_queries",
    "slots_fit",
    "takes_raw",
    "using",
    "without_gradients",
]
