"""The layouts in which Google stores trained codes, and how they become MLX's.

* `…-qat-w4a16-ct`: compressed-tensors, "pack-quantized". Source of the layout: that
  library's compressors/quantized_compressors/pack_quantized.py. The towers, embeddings
  and norms are plain.
* `…-qat-mobile-transformers`: 2, 4 or 8 bits with one step per row. Source of the
  layout: transformers, integrations/gemma_quant.py. The towers are unpacked here: no
  loader expects theirs to be quantised.

Neither was tried on Google's files, only on files written as those sources read them.
"""

import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from mlx_gemma4.checkpoint.files import FLOATS, StoredTensor
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.errors import CheckpointError

from .fit import Codes
from .plan import Joined

Q4_0, COMPRESSED, MOBILE = "q4_0", "ct", "mobile"
PACKED = (COMPRESSED, MOBILE)
ROUNDED = (
    "This checkpoint was trained with activations rounded to 8 bits, which MLX does "
    "not do: answers can be worse than Google's own runtime gives. The "
    "qat-q4_0-unquantized checkpoint is the better source."
)
W4A16_GROUPS = (32, 64, 128)
MOBILE_BITS = {"U8": (2, 4), "I8": (8,)}
MOBILE_GROUPS = (128, 64, 32)  # a row's step is repeated for each; wide is small
# What MLX has no use for: rounding of activations and of the cache.
UNUSED = re.compile(r".*\.((in|out)put_activation_scale|[kv]_cache_scale|weight_shape)")
TOWERS = re.compile(
    r"(model\.)?(vision_tower|audio_tower|embed_vision|embed_audio)\..*"
)


def recognise(
    sources: Mapping[str, StoredTensor], config: Mapping[str, Any], name: str
) -> str | None:
    """The trained layout of a checkpoint called `name`, or None.

    Raises CheckpointError for compressed weights that cannot be imported.
    """
    stated = config.get("quantization_config") or {}
    method = stated.get("quant_method")
    if method == "gemma":
        return MOBILE
    if method == "compressed-tensors":
        check_w4a16(stated)
        return COMPRESSED
    plain = all(source.dtype in FLOATS for source in sources.values())
    return Q4_0 if plain and "qat-q4_0" in name.lower() else None


def join(
    sources: Mapping[str, StoredTensor], layout: str, config: Mapping[str, Any]
) -> tuple[list[Joined], list[StoredTensor]]:
    """The weights that `sources` are parts of, and the tensors MLX has no use for.

    config: config.json, which states the bits of mobile weights.
    Raises CheckpointError for parts that do not fit together.
    """
    joined, dropped, used = [], [], set()
    for name in sources:
        found = _parts(sources, name, layout)
        if found is not None:
            plain, parts = found
            used |= {part.name for part in parts.values()}
            joined.append(_join(plain, parts, layout, config))
    for name, source in sources.items():
        if name in used:
            continue
        if UNUSED.fullmatch(name):
            dropped.append(source)
        elif source.dtype in FLOATS and not name.endswith("_scale"):
            joined.append(Joined(name, {"weight": source}, source.shape))
        else:
            raise CheckpointError(
                f"{name}, {source.dtype} {source.shape}, is no part of a trained "
                "layout that is known here. Use the unquantised original."
            )
    return joined, dropped


def _parts(
    sources: Mapping[str, StoredTensor], name: str, layout: str
) -> tuple[str, dict[str, StoredTensor]] | None:
    """Plain name and the parts of the packed weight `name`; None if plain."""
    module, _, kind = name.rpartition(".")
    first, scale = {
        (COMPRESSED, "weight_packed"): ("weight_packed", "weight_scale"),
        (MOBILE, "weight"): ("weight", "weight_scale"),
        (MOBILE, "embedding_quantized"): ("weight", "embedding_scale"),
    }.get((layout, kind), ("", ""))
    source, scales = sources[name], sources.get(f"{module}.{scale}")
    if not first or (source.dtype in FLOATS and scales is None):
        return None
    if scales is None or scales.dtype not in FLOATS:
        raise CheckpointError(f"{name} is packed, but has no {module}.{scale}.")
    return f"{module}.weight", {first: source, "weight_scale": scales}


def _join(
    name: str, parts: Mapping[str, StoredTensor], layout: str, config: Mapping[str, Any]
) -> Joined:
    packed, scales = parts.values()
    packing: Packing | None
    if layout == COMPRESSED:
        inputs = packed.shape[-1] * 8
        groups = scales.shape[-1] if scales.shape[:-1] == packed.shape[:-1] else 0
        packing = Packing(4, inputs // groups if groups else 0, "affine")
        if packed.dtype != "I32" or packing.group_size not in W4A16_GROUPS:
            raise _misfit(packed, scales, "4 bits in groups")
    else:
        module = packed.name.rpartition(".")[0]
        bits = _mobile_bits(module, config["quantization_config"])
        inputs = packed.shape[-1] * 8 // bits
        group = _mobile_group(packed, scales, bits, inputs)
        packing = Packing(bits, group, "affine") if group else None
        if TOWERS.fullmatch(name):
            packing = None
        elif packing is None:
            raise _misfit(packed, scales, f"{bits} bits")
    shape = (*packed.shape[:-1], inputs)
    return Joined(name, parts, shape, packing, layout)


def _misfit(packed: StoredTensor, scales: StoredTensor, wanted: str) -> CheckpointError:
    return CheckpointError(
        f"{packed.name}, {packed.dtype} {packed.shape} with scales {scales.shape}, is "
        f"not packed as {wanted}. Use the unquantised original."
    )


def _mobile_group(
    packed: StoredTensor, scales: StoredTensor, bits: int, inputs: int
) -> int | None:
    """The widest group of MLX's that lies within one step; None if none does."""
    blocks = scales.shape[-1] if scales.shape[:-1] == packed.shape[:-1] else 0
    width, uneven = divmod(inputs, blocks) if blocks else (0, 1)
    if uneven or bits not in MOBILE_BITS.get(packed.dtype, ()):
        raise _misfit(packed, scales, f"{bits} bits")
    return next((size for size in MOBILE_GROUPS if width % size == 0), None)


def _mobile_bits(module: str, stated: Mapping[str, Any]) -> int:
    """Bits of a module: of the first pattern that is found in its name."""
    bits = stated.get("num_bits", 4)
    for pattern, options in (stated.get("module_quant_configs") or {}).items():
        if re.search(pattern, module):
            bits = options.get("num_bits", bits)
            break
    if bits not in (2, 4, 8):
        raise CheckpointError(f"quantization_config gives {module} {bits} bits.")
    return bits


def check_w4a16(quantization: Mapping[str, Any]) -> None:
    """Refuse a compressed-tensors `quantization_config` that is not int4 in groups.

    Raises CheckpointError. Activations, zero points and reordered groups have no place
    in MLX's packing.
    """
    if (layout := quantization.get("format")) != "pack-quantized":
        raise CheckpointError(
            f"The weights are compressed as {layout!r}; of compressed-tensors only "
            "'pack-quantized' can be imported. Use the unquantised original."
        )
    schemes = quantization.get("config_groups")
    for name, scheme in schemes.items() if isinstance(schemes, dict) else ():
        weights = scheme.get("weights") or {}
        wanted = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
        wrong = [
            f"{key} {weights.get(key)!r}"
            for key, value in wanted.items()
            if weights.get(key) != value
        ]
        if weights.get("group_size") not in W4A16_GROUPS:
            wrong.append(f"group_size {weights.get('group_size')!r}")
        wrong += [
            f"{key} {value!r}"
            for key, value in (
                ("actorder", weights.get("actorder")),
                ("input_activations", scheme.get("input_activations")),
            )
            if value not in (None, False)
        ]
        if wrong:
            raise CheckpointError(
                f"The quantisation {name!r} has {', '.join(wrong)}; only symmetric "
                "4-bit weights in groups can be imported. Use the unquantised original."
            )
    if not schemes:
        raise CheckpointError("quantization_config has no config_groups.")


def import_w4a16(packed: mx.array, scales: mx.array, dtype: mx.Dtype) -> Codes:
    """int4 codes of compressed-tensors, [rows, inputs / 8] int32, as MLX's.

    Both store code + 8 from the lowest bits up, so the words stay as they are.
    """
    words = packed.view(mx.uint32)
    inputs, groups = words.shape[-1] * 8, scales.shape[-1]
    if packed.dtype.size != 4 or groups == 0 or inputs // groups not in W4A16_GROUPS:
        raise CheckpointError(
            f"weight_packed {packed.dtype} {packed.shape} and weight_scale "
            f"{scales.shape} are not 4-bit weights in groups of {W4A16_GROUPS}."
        )
    scales = scales.astype(dtype)
    return Codes(words, scales, scales * -8)


def import_mobile(
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


def decode(rows: Mapping[str, mx.array], inputs: int, dtype: mx.Dtype) -> mx.array:
    """The plain rows [n, inputs] of mobile weights that stay unquantised."""
    packed, scales = rows["weight"], rows["weight_scale"]
    bits = 8 * packed.shape[-1] // inputs
    if bits < 8:
        shifts = mx.arange(0, 8, bits, dtype=mx.uint8)
        fields = (packed[..., None] >> shifts) & ((1 << bits) - 1)
        packed = fields.flatten(-2).astype(mx.int8) - (1 << (bits - 1))
    steps = mx.repeat(scales, inputs // scales.shape[-1], axis=-1)
    return (packed.astype(mx.float32) * steps).astype(dtype)
