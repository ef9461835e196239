"""Weights to codes and scales, row by row: no row depends on another.

That is what makes the result independent of the size of the blocks it is computed in.
"""

import mlx.core as mx

from mlx_gemma4.packing import Packing

from . import fit

DTYPES = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}


def encode(
    rows: mx.array, packing: Packing, dtype: mx.Dtype, fitted: bool = True
) -> dict[str, mx.array]:
    """The parts of quantised `rows` [n, inputs]: weight, scales and, if affine, biases.

    dtype: of scales and biases. fitted: False spans each group, several times faster.
    """
    # From five bits on, fitting costs more time than it saves error.
    if fitted and packing.mode == "affine" and packing.bits in fit.SPANS:
        codes = fit.quantize(rows, packing.bits, packing.group_size, dtype)
        return codes._asdict()
    weight, scales, *biases = mx.quantize(
        rows.astype(dtype), packing.group_size, packing.bits, packing.mode
    )
    parts = {"weight": weight, "scales": scales}
    return parts | ({"biases": biases[0]} if biases else {})
