"""The layout of `…-qat-w4a16-ct`: compressed-tensors, "pack-quantized".

Source of the layout: that library's compressors/pack_quantized. A linear map is packed
in `weight_packed`, `weight_scale` and `weight_shape`; all else is plain.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.reading.neutral import unknown_keys

from .fit import Codes

FORMAT = "pack-quantized"
MIXED_FORMAT = "mixed-precision"  # each group has its own
BITS = 4
GROUPS = (32, 64, 128)
PRESETS = ("W4A16",)  # a group may be a known scheme's name and its targets
# What a plain value of 4 bits in groups is, with the library's own defaults.
DEFAULTS = {"num_bits": 8, "type": "int", "symmetric": True}
WANTED = {"num_bits": BITS, "type": "int", "symmetric": True, "strategy": "group"}
# The order in which weights were rounded; only "group" reorders what is stored.
UNORDERED = (None, False, "weight", "static")
# Keys that say how weights were found, or what tensors say better.
TOP = {"quant_method", "format", "config_groups", "ignore", "quantization_status"}
TOP |= {"version", "global_compression_ratio", "run_compressed"}
SCHEME = {"targets", "weights", "format"}
WEIGHTS = {*WANTED, "group_size", "actorder", "block_structure", "dynamic", "observer"}
WEIGHTS |= {"observer_kwargs", "scale_dtype", "zp_dtype"}
# Keys that change what weights are, wherever they have a value.
FOREIGN = {"sparsity_config", "transform_config", "moe_sparsity_config"}
# What is rounded beside weights, which MLX does not do: of the top, of a scheme.
CACHE = "kv_cache_scheme"
ACTIVATIONS = ("input_activations", "output_activations")
REMEDY = "Use the unquantised original."


def check(stated: Mapping[str, Any]) -> list[str]:
    """Refuse a `quantization_config` that is not int4 in groups.

    Returns the keys that are not known and not off. Raises CheckpointError.
    Zero points and reordered groups have no place in MLX's packing.
    """
    foreign = [key for key in sorted(FOREIGN) if _changes(key, stated.get(key))]
    foreign += [CACHE] * _is_no_scheme(stated.get(CACHE))
    if foreign:
        raise CheckpointError(
            f"quantization_config has {_said(stated, foreign)}, which cannot be "
            f"imported. {REMEDY}"
        )
    schemes = stated.get("config_groups")
    if not isinstance(schemes, dict) or not schemes:
        raise CheckpointError("quantization_config has no config_groups.")
    if stated.get("format") != MIXED_FORMAT:
        _check_format(stated.get("format"))
    unknown = unknown_keys(stated, TOP | FOREIGN | {CACHE}, "")
    for name, scheme in schemes.items():
        unknown += _check_scheme(name, scheme)
    return unknown


def rounds(stated: Mapping[str, Any]) -> bool:
    """Whether a configuration that `check` accepts rounds more than weights."""
    schemes = stated["config_groups"].values()
    found = [s.get(key) for s in schemes if isinstance(s, dict) for key in ACTIVATIONS]
    return any(_changes(CACHE, value) for value in [stated.get(CACHE), *found])


def _changes(key: str, value: Any) -> bool:
    """Whether a part of the configuration is on."""
    if isinstance(value, dict):
        stored = {k: v for k, v in value.items() if v not in (None, {}, [])}
        return bool(stored) and not (
            key == "sparsity_config" and stored.get("format") == "dense"
        )
    return value is not None and value is not False


def _is_no_scheme(value: Any) -> bool:
    return not (value in (None, False) or isinstance(value, dict))


def _said(values: Mapping[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key} {values.get(key)!r}" for key in keys)


def _check_format(layout: Any) -> None:
    if layout != FORMAT:
        raise CheckpointError(
            f"The weights are compressed as {layout!r}; of compressed-tensors only "
            f"{FORMAT!r} can be imported. {REMEDY}"
        )


def _check_scheme(name: str, scheme: Any) -> list[str]:
    if isinstance(scheme, list) and name in PRESETS:
        return []
    if not isinstance(scheme, dict):
        raise CheckpointError(f"config_groups.{name} is {scheme!r}. {REMEDY}")
    if scheme.get("format") is not None:
        _check_format(scheme["format"])
    weights = scheme.get("weights")
    wrong = [
        f"{key} {scheme[key]!r}"
        for key in ACTIVATIONS
        if _is_no_scheme(scheme.get(key))
    ]
    if isinstance(weights, dict):
        wrong += _wrong(weights)
    elif weights is not None:
        wrong.append(f"weights {weights!r}")
    if wrong:
        raise CheckpointError(
            f"The quantisation {name!r} has {', '.join(wrong)}; only symmetric "
            f"4-bit weights in groups can be imported. {REMEDY}"
        )
    where = f"config_groups.{name}."
    unknown = unknown_keys(scheme, SCHEME | {*ACTIVATIONS}, where)
    return unknown + unknown_keys(weights or {}, WEIGHTS, f"{where}weights.")


def _wrong(weights: Mapping[str, Any]) -> Iterator[str]:
    """What of the weights' scheme is not the one that can be imported."""
    stated = DEFAULTS | {k: v for k, v in weights.items() if v is not None}
    size = stated.get("group_size")
    stated.setdefault("strategy", "group" if size in GROUPS else None)
    for key, value in WANTED.items():
        if stated[key] != value:
            yield f"{key} {stated[key]!r}"
    if size not in GROUPS:
        yield f"group_size {size!r}"
    if stated.get("actorder") not in UNORDERED:
        yield f"actorder {stated['actorder']!r}"
    if stated.get("dynamic") not in (None, False):
        yield f"dynamic {stated['dynamic']!r}"


def packing_of(packed: StoredTensor, scales: StoredTensor) -> tuple[Packing, int]:
    """How a weight is packed, and its inputs. Raises CheckpointError."""
    inputs = packed.shape[-1] * 32 // BITS if packed.shape else 0
    blocks = scales.shape[-1] if scales.shape[:-1] == packed.shape[:-1] else 0
    group, uneven = divmod(inputs, blocks) if blocks else (0, 1)
    if packed.dtype != "I32" or uneven or group not in GROUPS:
        raise CheckpointError(
            f"{packed.name}, {packed.dtype} {packed.shape} with scales {scales.shape}, "
            f"is not packed as 4 bits in groups. {REMEDY}"
        )
    return Packing(BITS, group, "affine"), inputs


def imported(packed: mx.array, scales: mx.array, dtype: mx.Dtype) -> Codes:
    """int4 codes [rows, inputs / 8] int32 as MLX's.

    Both store code + 8 from the lowest bits up, so the words stay as they are.
    """
    scales = scales.astype(dtype)
    return Codes(packed.view(mx.uint32), scales, scales * -(1 << (BITS - 1)))
