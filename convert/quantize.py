"""Weights to codes and scales, row by row: no row depends on another.

That is what makes the result independent of the size of the blocks it is computed in.
"""

import mlx.core as mx
import numpy as np

from mlx_gemma4.checkpoint.packing import Packing

from . import fit

DTYPES = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}


def is_fitted(packing: Packing) -> bool:
    """Whether grids are fitted: from five bits on, that costs more than it saves."""
    return packing.mode == "affine" and packing.bits in fit.SPANS


def encode(rows: mx.array, packing: Packing, dtype: mx.Dtype) -> dict[str, mx.array]:
    """The parts of quantised `rows` [n, inputs]: weight, scales and, if affine, biases.

    Every group is spanned, none fitted. dtype: of scales and biases.
    """
    weight, scales, *biases = mx.quantize(
        rows.astype(dtype), packing.group_size, packing.bits, packing.mode
    )
    parts = {"weight": weight, "scales": scales}
    return parts | ({"biases": biases[0]} if biases else {})


def encode_fitted(
    rows: np.ndarray, packing: Packing, dtype: mx.Dtype
) -> dict[str, np.ndarray]:
    """The same with fitted grids and without MLX, which stays in one thread.

    bfloat16 comes and goes as uint16.
    """
    found = fit.quantize_rows(rows, packing.bits, packing.group_size, dtype)
    return dict(zip(fit.Codes._fields, found, strict=True))
