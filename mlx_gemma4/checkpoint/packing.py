"""How a quantised tensor is packed: read off its shapes.

Weights lie in uint32 words along their inputs. Affine groups have a floating scale and
bias; the other modes a one-byte scale and nothing else. Inputs, words and scales
together leave exactly one reading, so a file cannot be unpacked in a wrong way, and
what config.json says of it is not needed. It is often wrong: converters that give some
modules other bits do not always say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError
from .files import StoredTensor

AFFINE_BITS = (1, 2, 3, 4, 5, 6, 8)
AFFINE_GROUPS = (32, 64, 128)
# (bits, group size) of the modes that have just one each
FLOAT_MODES = {(4, 32): "mxfp4", (8, 32): "mxfp8", (4, 16): "nvfp4"}
KEYS = ("bits", "group_size", "mode")


@dataclass(frozen=True)
class Packing:
    """Arguments of `mlx.core.quantize`."""

    bits: int
    group_size: int
    mode: str

    def __str__(self) -> str:
        return f"{self.bits} bits, group_size {self.group_size}, mode {self.mode}"


def packed_shapes(
    weight: tuple[int, ...], packing: Packing
) -> dict[str, tuple[int, ...]]:
    """Shapes of the parts of a quantised module whose plain weight is `weight`."""
    *outer, inputs = weight
    groups = (*outer, inputs // packing.group_size)
    shapes = {"weight": (*outer, inputs * packing.bits // 32), "scales": groups}
    return shapes | ({"biases": groups} if packing.mode == "affine" else {})


def read_packing(
    name: str,
    inputs: int,
    weight: StoredTensor,
    scales: StoredTensor,
    biases: StoredTensor | None,
    stated: Mapping[str, Any],
) -> Packing:
    """The packing of tensor `name`, whose plain weight has `inputs` columns.

    stated: what config.json says of it, for the error alone: shapes decide.
    Raises CheckpointError for what MLX cannot unpack.
    """
    words = weight.shape[-1] if weight.shape else 0
    groups = scales.shape[-1] if scales.shape else 0
    bits, loose_bits = divmod(words * 32, inputs)
    group_size, loose_inputs = divmod(inputs, groups) if groups else (0, 1)
    if biases is not None:
        mode = "affine"
        fits = bits in AFFINE_BITS and group_size in AFFINE_GROUPS
        fits = fits and scales.dtype == biases.dtype
    else:
        mode = FLOAT_MODES.get((bits, group_size), "")
        fits = bool(mode) and scales.dtype == "U8"
    if loose_bits or loose_inputs or not fits or weight.dtype != "U32":
        raise CheckpointError(
            f"{name} is quantised in no way MLX knows: weight {weight.dtype} "
            f"{weight.shape}, scales {scales.dtype} {scales.shape}, "
            f"{'with' if biases else 'without'} biases, for {inputs} inputs; "
            f"config.json says {_said(stated)}."
        )
    return Packing(bits, group_size, mode)


def _said(stated: Mapping[str, Any]) -> str:
    said = [f"{key} {stated[key]!r}" for key in KEYS if key in stated]
    return ", ".join(said) or "nothing of it"
