"""How the tensors of a checkpoint fit the model, from names, types and shapes alone.

What `names` does not cover is an error, and so is what is missing or misshapen. Left
out on purpose are tensors that no layer uses. Convolutions may be stored with their
channels last, as MLX has them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..assistant.model import Assistant
from ..config import AssistantConfig, Config
from ..errors import CheckpointError
from ..model import Gemma4
from .copies import Copy, tied_copies
from .files import FLOATS, WHOLE, StoredTensor, listed
from .names import Place, is_unused, place
from .packing import Packing, packed_shapes, read_packing


@dataclass(frozen=True)
class Fit:
    """Which tensors make up each parameter, ordered by expert, then gate before up.

    channels_last: parameters to be turned to channels first.
    copies: a tied head's tensors, which nothing uses. They are not compared yet.
    """

    sources: Mapping[str, list[tuple[Place, str]]]
    packings: Mapping[str, Packing]
    channels_last: frozenset[str]
    copies: Sequence[Copy] = ()


def fit_weights(model: Gemma4 | Assistant, tensors: Mapping[str, StoredTensor]) -> Fit:
    """Fit `tensors` to `model`, which may still be unevaluated.

    Raises CheckpointError that lists what is missing, unexpected or misshapen, or that
    names a tensor that MLX cannot unpack.
    """
    parameters: dict[str, Any] = dict(tree_flatten(model.parameters()))
    shapes = {name: tuple(array.shape) for name, array in parameters.items()}
    whole = {n for n, array in parameters.items() if array.dtype == mx.int32}
    copies = tied_copies(model.config, tensors)
    repeated = {copy.tensor.name for copy in copies}
    used = {name: t for name, t in tensors.items() if name not in repeated}
    found = _sort_out(model.config, used)
    packings = _packings(model.config, shapes, found, tensors)
    expected = dict(shapes)
    for module, packing in packings.items():
        parts = packed_shapes(shapes[f"{module}.weight"], packing)
        expected |= {f"{module}.{part}": shape for part, shape in parts.items()}
    problems = [
        *_misfits(expected, found, tensors, packings, whole),
        *_gaps(expected, found, model.config.text_config.num_experts or 0),
    ]
    if problems:
        raise CheckpointError(
            f"{len(problems)} problem(s) between the tensors and config.json: "
            f"{listed(problems, '; ')}."
        )
    sources: dict[str, list[tuple[Place, str]]] = {name: [] for name in expected}
    for where, name in sorted(found.items(), key=_order):
        sources[where.parameter].append((where, name))
    turned = {
        where.parameter
        for where, name in found.items()
        if _is_channels_last(
            tensors[name].shape, where.shape(expected[where.parameter])
        )
    }
    return Fit(sources, packings, frozenset(turned), copies)


def _order(item: tuple[Place, str]) -> tuple[str, int, int]:
    where = item[0]
    return where.parameter, where.expert or 0, where.half or 0


def _sort_out(
    config: Config | AssistantConfig, tensors: Mapping[str, StoredTensor]
) -> dict[Place, str]:
    """Place -> tensor name of what the model needs."""
    found: dict[Place, str] = {}
    for name in tensors:
        where = place(name)
        if is_unused(config, where.parameter):
            continue
        if where in found:
            raise CheckpointError(
                f"The tensors {found[where]} and {name} are the same parameter."
            )
        found[where] = name
    return found


def _packings(
    config: Config | AssistantConfig,
    shapes: Mapping[str, tuple[int, ...]],
    found: Mapping[Place, str],
    tensors: Mapping[str, StoredTensor],
) -> dict[str, Packing]:
    """How each quantised module of the model is packed, by its path."""
    stated = _by_place(config.quantization or {})
    readings: dict[str, set[Packing | None]] = {}
    for where, name in found.items():
        weight = shapes.get(where.parameter, ())
        if len(weight) < 2 or not where.parameter.endswith(".weight"):
            continue  # scales without a weight to match are unexpected tensors
        scales = found.get(where.sibling("scales"))
        biases = found.get(where.sibling("biases"))
        packing = scales and read_packing(
            name,
            weight[-1],
            tensors[name],
            tensors[scales],
            tensors[biases] if biases else None,
            stated.get(where) or stated.get(Place(where.parameter)) or stated[None],
        )
        readings.setdefault(where.module, set()).add(packing or None)
    if mixed := sorted(module for module, found in readings.items() if len(found) > 1):
        raise CheckpointError(
            f"The parts of {listed(mixed)} are quantised differently from each other "
            "and cannot be joined. Convert the model again."
        )
    packed = {module: packing for module, (packing,) in readings.items()}
    return {module: packing for module, packing in packed.items() if packing}


def _by_place(
    quantization: Mapping[str, Any],
) -> dict[Place | None, Mapping[str, Any]]:
    """What config.json says of all (None) and of single modules, in any naming."""
    modules = {
        place(f"{key}.weight"): value
        for key, value in quantization.items()
        if isinstance(value, Mapping)
    }
    return {None: quantization, **modules}


def _misfits(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[Place, str],
    tensors: Mapping[str, StoredTensor],
    packings: Mapping[str, Packing],
    whole: Collection[str],
) -> list[str]:
    problems = []
    for where, name in found.items():
        stored, shape = tensors[name], expected.get(where.parameter)
        if shape is None:
            problems.append(f"unexpected {name}")
        elif stored.shape != (part := where.shape(shape)) and not _is_channels_last(
            stored.shape, part
        ):
            problems.append(f"{name} has shape {stored.shape} instead of {part}")
        elif stored.dtype not in (
            WHOLE if where.parameter in whole else _dtypes(where, packings)
        ):
            problems.append(f"{name} has the type {stored.dtype}")
    return problems


def _is_channels_last(stored: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a convolution of `shape` (outputs, inputs, …) has its inputs last."""
    return stored != shape and stored == (shape[0], *shape[2:], *shape[1:2])


def _dtypes(where: Place, packings: Mapping[str, Packing]) -> tuple[str, ...]:
    packing, kind = packings.get(where.module), where.parameter.rpartition(".")[2]
    if packing is None or kind == "bias":
        return FLOATS
    if kind == "weight":
        return ("U32",)
    return FLOATS if packing.mode == "affine" else ("U8",)


def _gaps(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[Place, str], experts: int
) -> list[str]:
    """Parameters without any tensor, or without all their experts and halves."""
    places: dict[str, set[Place]] = {name: set() for name in expected}
    for where in found:
        places.setdefault(where.parameter, set()).add(where)
    problems = []
    for name, have in places.items():
        if name not in expected:
            continue
        each = [None] if not any(p.expert is not None for p in have) else range(experts)
        halves = [None] if not any(p.half is not None for p in have) else (0, 1)
        need = {Place(name, expert, half) for expert in each for half in halves}
        if not have:
            problems.append(f"missing {name}")
        elif have != need:
            lacking, extra = len(need - have), len(have - need)
            problems.append(f"{name} lacks {lacking} parts and has {extra} too many")
    return problems
