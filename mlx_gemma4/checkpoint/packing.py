"""How a quantised tensor is packed: read off its shapes, checked against config.json.

Weights lie in uint32 words along their inputs. Affine groups have a floating scale and
bias; the other modes a one-byte scale and nothing else. Inputs, words and scales
together leave exactly one reading, so a file cannot be unpacked in a wrong way.
"""

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
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


class Packings:
    """What config.json states: global settings, and overrides by place.

    A place is whatever the caller uses to name one; overrides are settings, True for
    the global ones, or False for "not quantised". Raises CheckpointError for settings
    that are not MLX's.
    """

    def __init__(self, quantization: Mapping[Hashable, Any]):
        self.overrides = {
            key: value
            for key, value in quantization.items()
            if isinstance(value, dict | bool)
        }
        stated = {
            key: value
            for key, value in quantization.items()
            if key not in self.overrides
        }
        if method := stated.get("quant_method"):
            raise CheckpointError(
                f"config.json says the model is quantised by {method!r}, which is not "
                "read: use an MLX conversion, or the unquantised original."
            )
        if unknown := sorted(str(key) for key in stated if key not in KEYS):
            raise CheckpointError(
                f"quantization in config.json has keys that are not known: {unknown}."
            )
        # Conversions older than the other modes do not state one.
        self.default = {"mode": "affine", **stated} if stated else None

    def of(
        self,
        name: str,
        places: tuple[Hashable, ...],
        *,
        inputs: int,
        weight: StoredTensor,
        scales: StoredTensor,
        biases: StoredTensor | None,
    ) -> Packing:
        """The packing of tensor `name`, whose plain weight has `inputs` columns.

        `places` are tried in turn for an override.
        """
        stated = self._stated(places)
        if stated is None:
            raise CheckpointError(
                f"{name} is quantised, but config.json does not say so: quantization "
                "is missing or excludes it."
            )
        packing = _read_off(name, inputs, weight, scales, biases)
        actual = asdict(packing)
        wrong = {
            key: stated[key]
            for key in KEYS
            if stated.get(key) is not None and stated[key] != actual[key]
        }
        if wrong:
            said = ", ".join(f"{key} {value}" for key, value in wrong.items())
            raise CheckpointError(
                f"{name} is packed with {packing}, but config.json says {said}."
            )
        return packing

    def check_unpacked(self, name: str, places: tuple[Hashable, ...]) -> None:
        """Raises where an override says that an unquantised tensor is quantised."""
        for place in places:
            if self.overrides.get(place, False) is not False:
                raise CheckpointError(
                    f"config.json says that {name} is quantised, but it has no scales."
                )

    def _stated(self, places: tuple[Hashable, ...]) -> Mapping[str, Any] | None:
        for place in places:
            override = self.overrides.get(place)
            if override is False:
                return None
            if isinstance(override, dict):
                return override
        return self.default


def _read_off(
    name: str,
    inputs: int,
    weight: StoredTensor,
    scales: StoredTensor,
    biases: StoredTensor | None,
) -> Packing:
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
            f"{'with' if biases else 'without'} biases, for {inputs} inputs."
        )
    return Packing(bits, group_size, mode)
