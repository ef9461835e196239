"""The layout of `…-qat-mobile-transformers`: 2, 4 or 8 bits with a step per row.

Source of the layout: transformers, integrations/gemma_quant.py. A linear map is packed
in `weight` and `weight_scale`, a table in `embedding_quantized` and `embedding_scale`,
whose rows may have a step per block. All else is plain.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.reading.neutral import unknown_keys

from .fit import Codes

BITS = {"U8": (2, 4), "I8": (8,)}  # by the type that codes are stored in
GROUPS = (128, 64, 32)  # a step is repeated for each; wide is small
DEFAULT_BITS = 4
KEYS = {"quant_method", "num_bits", "quantize_embeddings"}
KEYS |= {"module_quant_configs", "modules_to_not_convert"}


@dataclass(frozen=True)
class Widths:
    """Bits of every module, as `quantization_config` states them."""

    pattern: re.Pattern[str] | None
    bits: tuple[int, ...]  # of each alternative of `pattern`
    default: int

    def of(self, module: str) -> int:
        """As in the reference the match that begins first decides, then the order."""
        match = self.pattern and self.pattern.search(module)
        bits = self.default
        if match:
            groups = match.groupdict()
            bits = next(
                n for i, n in enumerate(self.bits) if groups[f"g{i}"] is not None
            )
        if bits not in (2, 4, 8):
            raise CheckpointError(f"quantization_config gives {module} {bits} bits.")
        return bits


def check(stated: Mapping[str, Any]) -> list[str]:
    """The keys of a `quantization_config` that are not known and not off.

    Raises CheckpointError for what cannot be read.
    """
    widths(stated)
    return unknown_keys(stated, KEYS)


def widths(stated: Mapping[str, Any]) -> Widths:
    """What a `quantization_config` states. Raises CheckpointError."""
    default = stated.get("num_bits", DEFAULT_BITS)
    patterns = stated.get("module_quant_configs") or {}
    if not isinstance(patterns, dict):
        raise CheckpointError("module_quant_configs is no JSON object.")
    bits = []
    for pattern, options in patterns.items():
        if not isinstance(options, dict) or set(options) - {"num_bits"}:
            raise CheckpointError(
                f"module_quant_configs gives {pattern!r} {options!r}; only num_bits "
                "is known."
            )
        bits.append(options.get("num_bits", default))
    try:
        named = "|".join(f"(?P<g{i}>{pattern})" for i, pattern in enumerate(patterns))
        return Widths(re.compile(named) if named else None, tuple(bits), default)
    except re.error as error:
        raise CheckpointError(
            f"module_quant_configs has a pattern that cannot be read: {error}."
        ) from None


def packing_of(
    packed: StoredTensor, scales: StoredTensor, bits: int
) -> tuple[Packing | None, int]:
    """The packing with the widest group of MLX's that lies within one step, and inputs.

    None if no group does. Raises CheckpointError.
    """
    inputs = packed.shape[-1] * 8 // bits if packed.shape else 0
    blocks = scales.shape[-1] if scales.shape[:-1] == packed.shape[:-1] else 0
    width, uneven = divmod(inputs, blocks) if blocks else (0, 1)
    if uneven or bits not in BITS.get(packed.dtype, ()):
        raise misfit(packed, scales, bits)
    group = next((size for size in GROUPS if width % size == 0), None)
    return (Packing(bits, group, "affine") if group else None), inputs


def misfit(packed: StoredTensor, scales: StoredTensor, bits: int) -> CheckpointError:
    return CheckpointError(
        f"{packed.name}, {packed.dtype} {packed.shape} with scales {scales.shape}, is "
        f"not packed as {bits} bits. Use the unquantised original."
    )


def imported(
    packed: mx.array, scales: mx.array, packing: Packing, dtype: mx.Dtype
) -> Codes:
    """Weights with one step per row, or per block of a row, in MLX's packing.

    packed: codes from the lowest bits up; uint8 with an offset of 2 or 8, or int8.
    scales: [rows, blocks] float32; rounded to `dtype`, as the reference does when it
        computes in that type.
    """
    offset = 1 << (packing.bits - 1)
    if packing.bits == 8:
        packed = packed.view(mx.uint8) ^ offset  # two's complement to code + 128
    inputs = packed.shape[-1] * 8 // packing.bits
    groups = inputs // packing.group_size
    step = mx.repeat(scales.astype(dtype), groups // scales.shape[-1], axis=-1)
    return Codes(packed.view(mx.uint32), step, step * -offset)
