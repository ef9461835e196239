"""The mixed recipe: bits where they matter most, within a size.

Every tensor starts at the bottom of its ladder. The step that lowers the expected harm
most per byte is taken until the size is reached. Harm is the error of the packing, as
measured on normally distributed weights, times the number of weights, times how much an
error in this class of tensor has been seen to hurt (`HARM`).
"""

import heapq
from dataclasses import replace

from mlx_gemma4.checkpoint.names import in_layer
from mlx_gemma4.checkpoint.packing import Packing

from .classes import TensorClass
from .errors import RecipeError
from .plan import TensorPlan
from .recipes import affine, fitted

# Relative squared error of affine packings on normal weights, (bits, group): fitted
# grids up to four bits, spans of the group above.
ERROR = {
    (3, 64): 0.029,
    (4, 128): 0.0090,
    (4, 64): 0.0074,
    (4, 32): 0.0057,
    (5, 64): 0.0020,
    (6, 64): 0.00053,
    (8, 64): 0.00005,
}
LADDER = tuple(ERROR)
# None of these starts lower.
FLOOR = {
    TensorClass.EMBEDDING: 4,
    TensorClass.HEAD: 4,
    TensorClass.PLE_TABLE: 4,
    TensorClass.PLE_PROJECTION: 4,
}
# Rounded from quantising one class alone in the demo checkpoint: divergence per weight,
# that of the feed-forward layers being 1.
HARM = {
    TensorClass.EMBEDDING: 16.0,
    TensorClass.HEAD: 16.0,
    TensorClass.PLE_TABLE: 0.5,
    TensorClass.PLE_PROJECTION: 12.0,
    TensorClass.ATTENTION: 8.0,
    TensorClass.MLP: 1.0,
    TensorClass.EXPERTS: 0.5,
    TensorClass.ROUTER: 100.0,
}
KEYS_AND_VALUES = 6.0  # times that of attention
ENDS = 2.0  # the first and the last two layers


def mix(tensors: list[TensorPlan], target_bytes: int | None) -> list[TensorPlan]:
    """Packings for all matrices so that the whole stays within `target_bytes`.

    Raises RecipeError without a target, or with one below the smallest result.
    """
    if target_bytes is None:
        raise RecipeError("The recipe mixed needs a size, such as --target-gb 4.5.")
    depth = max((_layer(t) or 0 for t in tensors), default=0)
    result = list(tensors)
    ladders = {i: _ladder(t) for i, t in enumerate(tensors) if t.kind in HARM}
    ladders = {i: ladder for i, ladder in ladders.items() if ladder}
    for i, ladder in ladders.items():
        result[i] = _packed(tensors[i], ladder[0])
    size = sum(tensor.out_bytes for tensor in result)
    if size > target_bytes:
        raise RecipeError(
            f"No mix is as small as {target_bytes:,} bytes; the smallest has {size:,}."
        )
    queue = [
        (-gain, i, 1)
        for i, ladder in ladders.items()
        if (gain := _gain(tensors[i], ladder, 1, depth)) is not None
    ]
    heapq.heapify(queue)
    while queue:
        _, i, step = heapq.heappop(queue)
        better = _packed(tensors[i], ladders[i][step])
        growth = better.out_bytes - result[i].out_bytes
        if size + growth > target_bytes:
            continue
        size += growth
        result[i] = better
        gain = _gain(tensors[i], ladders[i], step + 1, depth)
        if gain is not None:
            heapq.heappush(queue, (-gain, i, step + 1))
    return result


def _ladder(tensor: TensorPlan) -> list[Packing]:
    """What a matrix can have, fewest bytes first."""
    if len(tensor.shape) < 2:
        return []
    floor = FLOOR.get(tensor.kind, 3)
    found: list[Packing] = []
    for bits, group in LADDER:
        packing, _ = fitted(affine(bits, group), tensor.inputs)
        if bits >= floor and packing is not None and packing not in found:
            found.append(packing)
    return found


def _gain(
    tensor: TensorPlan, ladder: list[Packing], step: int, depth: int
) -> float | None:
    """Harm avoided per byte of the next step; None at the top."""
    if step >= len(ladder):
        return None
    before, after = ladder[step - 1], ladder[step]
    bytes_more = _packed(tensor, after).out_bytes - _packed(tensor, before).out_bytes
    if bytes_more <= 0:
        return float("inf")
    avoided = _error(before) - _error(after)
    return _weight(tensor, depth) * tensor.params * avoided / bytes_more


def _error(packing: Packing) -> float:
    return ERROR.get((packing.bits, packing.group_size), ERROR[(packing.bits, 64)])


def _weight(tensor: TensorPlan, depth: int) -> float:
    weight, module = HARM[tensor.kind], tensor.modules[0]
    if module.endswith((".k_proj", ".v_proj")):
        weight *= KEYS_AND_VALUES
    layer = _layer(tensor)
    if layer is not None and (layer < 2 or layer > depth - 2):
        weight *= ENDS
    return weight


def _layer(tensor: TensorPlan) -> int | None:
    """The decoder layer that it belongs to."""
    found = in_layer(tensor.modules[0])
    return found[0] if found else None


def _packed(tensor: TensorPlan, packing: Packing) -> TensorPlan:
    return replace(tensor, packing=packing, grid=None, note=None)
