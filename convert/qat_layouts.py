"""The layouts in which Google stores trained codes, and how they become MLX's.

`compressed` and `mobile` know one each. What belongs together is decided by module: a
tensor is part of a packed weight if it lies beside the codes, under a name the layout
gives it. A parameter of the model may end like one of these names all the same.

The towers are unpacked here: no loader expects theirs to be quantised. No layout was
tried on Google's files, only on files written as the sources read them.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from mlx_gemma4.checkpoint.files import FLOATS, StoredTensor
from mlx_gemma4.checkpoint.foreign import are_plain
from mlx_gemma4.checkpoint.names import TOWERS, place
from mlx_gemma4.errors import CheckpointError

from . import compressed, mobile
from .plan import Dropped, Joined, Reason

Q4_0, COMPRESSED, MOBILE = "q4_0", "ct", "mobile"
PACKED = (COMPRESSED, MOBILE)
METHODS = {"compressed-tensors": COMPRESSED, "gemma": MOBILE}
ROUNDED = (
    "This checkpoint was made for activations that are rounded, which MLX does "
    "not do: answers can be worse than Google's own runtime gives. The "
    "qat-q4_0-unquantized checkpoint is the better source."
)
# Codes and their scales, by the last part of their names.
CODES = {
    COMPRESSED: {"weight_packed": "weight_scale"},
    MOBILE: {"weight": "weight_scale", "embedding_quantized": "embedding_scale"},
}
# What lies beside codes and has no place in MLX's packing.
BESIDE = {
    **dict.fromkeys(("input_activation_scale", "input_scale"), Reason.ACTIVATIONS),
    **dict.fromkeys(("output_activation_scale", "output_scale"), Reason.ACTIVATIONS),
    "weight_shape": Reason.SHAPES,
}
CACHE = ("k_cache_scale", "v_cache_scale", "k_scale", "v_scale")
ATTENTION = ".self_attn"
PARTS = ("weight_", "embedding_")  # beginnings of names of parts, of these or others

Parts = Mapping[str, StoredTensor]


def recognise(
    sources: Mapping[str, StoredTensor], config: Mapping[str, Any], name: str
) -> str | None:
    """The trained layout of a checkpoint called `name`, or None.

    Raises CheckpointError for compressed weights that cannot be imported.
    """
    stated = config.get("quantization_config") or {}
    plain = are_plain(sources)
    layout = METHODS.get(str(stated.get("quant_method")))
    if layout and not plain:
        unknown_keys(stated)
        return layout
    return Q4_0 if plain and "qat-q4_0" in name.lower() else None


def unknown_keys(stated: Mapping[str, Any]) -> list[str]:
    """Keys of a packed layout's `quantization_config` that are not known here.

    Raises CheckpointError for values that cannot be imported.
    """
    if stated["quant_method"] == "gemma":
        return mobile.check(stated)
    return compressed.check(stated)


def rounds(stated: Mapping[str, Any]) -> bool:
    """Whether a packed layout rounds activations or their cache as well."""
    return stated["quant_method"] == "gemma" or compressed.rounds(stated)


def join(
    sources: Mapping[str, StoredTensor], layout: str, config: Mapping[str, Any]
) -> tuple[list[Joined], list[Dropped]]:
    """The weights that `sources` are parts of, and the tensors MLX has no use for.

    config: config.json, which states the bits of mobile weights.
    Raises CheckpointError for parts that do not fit together.
    """
    modules = defaultdict[str, dict[str, StoredTensor]](dict)
    for name, source in sources.items():
        module, _, kind = name.rpartition(".")
        modules[module][kind] = source
    stated = config.get("quantization_config") or {}
    widths = mobile.widths(stated) if layout == MOBILE else None
    joined: list[Joined] = []
    dropped: list[Dropped] = []
    for module, parts in modules.items():
        codes = _codes(parts, layout)
        used = set()
        if codes is not None:
            used = {codes, CODES[layout][codes]}
            joined.append(_join(module, parts, codes, widths))
        for kind, source in parts.items():
            if kind in used:
                continue
            if reason := _reason(module, kind, codes is not None):
                dropped.append(Dropped(source, reason))
            else:
                joined.append(_plain(source, kind))
    return joined, dropped


def _codes(parts: Parts, layout: str) -> str | None:
    """The name of the codes of a module that is packed. Raises CheckpointError."""
    for codes, scale in CODES[layout].items():
        source, scales = parts.get(codes), parts.get(scale)
        if source is None or (source.dtype in FLOATS and codes == "weight"):
            continue
        if scales is None or scales.dtype not in FLOATS:
            raise CheckpointError(f"{source.name} is packed, but has no {scale}.")
        return codes
    return None


def _reason(module: str, kind: str, packed: bool) -> Reason | None:
    """Why a tensor is left out; None if it is a parameter."""
    if kind in CACHE and module.endswith(ATTENTION):
        return Reason.CACHE
    return BESIDE.get(kind) if packed else None


def _plain(source: StoredTensor, kind: str) -> Joined:
    if source.dtype not in FLOATS or kind.startswith(PARTS):
        raise CheckpointError(
            f"{source.name}, {source.dtype} {source.shape}, is no part of a trained "
            "layout that is known here. Use the unquantised original."
        )
    return Joined(source.name, {"weight": source}, source.shape)


def _join(
    module: str, parts: Parts, codes: str, widths: mobile.Widths | None
) -> Joined:
    packed, name = parts[codes], f"{module}.weight"
    in_tower = place(name).parameter.startswith(TOWERS)
    if widths is None:
        layout, scales = COMPRESSED, parts["weight_scale"]
        packing, inputs = compressed.packing_of(packed, scales)
        first = codes
    else:
        layout, scales = MOBILE, parts[CODES[MOBILE][codes]]
        bits = widths.of(module)
        packing, inputs = mobile.packing_of(packed, scales, bits)
        if packing is None and not in_tower:
            raise mobile.misfit(packed, scales, bits)
        first = "weight"
    return Joined(
        name,
        {first: packed, "weight_scale": scales},
        (*packed.shape[:-1], inputs),
        None if in_tower else packing,
        layout,
    )


def decode(rows: Mapping[str, mx.array], inputs: int, dtype: mx.Dtype) -> mx.array:
    """The plain rows [n, inputs] of packed weights that stay unquantised.

    Steps are rounded to `dtype` first, as the reference does when it computes in it.
    """
    packed, scales = rows.values()
    bits = 8 * packed.shape[-1] * packed.dtype.size // inputs
    if bits < 8:
        shifts = mx.arange(0, 8, bits, dtype=mx.uint8)
        fields = (packed.view(mx.uint8)[..., None] >> shifts) & ((1 << bits) - 1)
        packed = fields.flatten(-2).astype(mx.int8) - (1 << (bits - 1))
    steps = mx.repeat(scales.astype(dtype), inputs // scales.shape[-1], axis=-1)
    return (packed.astype(mx.float32) * steps.astype(mx.float32)).astype(dtype)
