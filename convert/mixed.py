"""The mixed recipe: bits where they matter most, within a size.

Every matrix starts at the bottom of its ladder. The step that lowers the expected harm
most per byte is taken until the size is reached. Harm is measured (see `sensitivity`);
from headers alone it is estimated: the error of the packing on normally distributed
weights, times the number of weights, times how much an error in this class of tensor
has been seen to hurt (`HARM`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mlx_gemma4.checkpoint.names import in_layer
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.reading.sizes import size

from .classes import TensorClass
from .errors import RecipeError
from .overrides import overridden
from .plan import TensorPlan
from .recipes import Override, affine, fitted

# Relative squared error of affine packings on normal weights, (bits, group): fitted
# grids up to four bits, spans of the group above.
ERROR = {
    (2, 64): 0.11,
    (2, 32): 0.093,
    (3, 64): 0.029,
    (4, 128): 0.0090,
    (4, 64): 0.0074,
    (4, 32): 0.0057,
    (5, 64): 0.0020,
    (6, 64): 0.00053,
    (8, 64): 0.00005,
}
LADDER = tuple(ERROR)
LOWEST = 2
# None of these starts lower: there is little to gain.
FLOOR = {TensorClass.PLE_PROJECTION: 4, TensorClass.ROUTER: 8}
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

Harm = Callable[[TensorPlan], float]  # of a tensor in the packing that it has


def mix(
    tensors: Sequence[TensorPlan],
    target_bytes: int | None,
    harm: Harm | None = None,
    overrides: tuple[Override, ...] = (),
) -> list[TensorPlan]:
    """Packings for all matrices so that the whole stays within `target_bytes`.

    tensors: those on a grid that they were trained for can stay there.
    harm: None estimates it. overrides: what they name has the packing that they say.

    Raises RecipeError without a target, or with one below the smallest result.
    """
    if target_bytes is None:
        raise RecipeError("The recipe mixed needs a size, such as --target-gb 4.5.")
    harm = harm or _estimate(tensors)
    result, steps = list(tensors), list[tuple[float, int, TensorPlan]]()
    for i, packings in enumerate(choices(tensors, overrides)):
        rungs = _worthwhile(packings, harm)
        result[i] = rungs[0]
        for before, after in zip(rungs, rungs[1:], strict=False):
            steps.append((_gain(before, after, harm), i, after))
    count = sum(map(_bytes, result))
    if count > target_bytes:
        told = " with these overrides" if overrides else ""
        raise RecipeError(
            f"No mix is as small as {size(target_bytes)}{told}; the smallest takes "
            f"--target-gb {_gigabytes(count)}."
        )
    full = set[int]()  # whose next step had no room
    for _, i, better in sorted(steps, key=lambda step: -step[0]):
        growth = better.out_bytes - result[i].out_bytes
        if i in full or count + growth > target_bytes:
            full.add(i)
            continue
        count += growth
        result[i] = better
    return result


def refuse_ample(
    tensors: Sequence[TensorPlan],
    target_bytes: int,
    overrides: tuple[Override, ...],
    whole: int,
) -> None:
    """Raises RecipeError for a size that a recipe without a mix fits in.

    whole: bytes of the source.
    """
    most = sum(map(_bytes, (each[-1] for each in choices(tensors, overrides))))
    if target_bytes < min(most, whole):
        return
    on_grid = any(tensor.grid for tensor in tensors)
    recipe = "4bit, which keeps the grid of the source" if on_grid else "8bit"
    fits = f"Eight bits take {size(most)}, which fits in {size(target_bytes)}"
    if target_bytes >= whole:
        fits = f"The source has {size(whole)}, which fits in {size(target_bytes)} as is"
    raise RecipeError(f"{fits}: no mix is needed. Use --recipe {recipe}.")


def _bytes(tensor: TensorPlan) -> int:
    return tensor.out_bytes


def choices(
    tensors: Sequence[TensorPlan], overrides: tuple[Override, ...]
) -> list[list[TensorPlan]]:
    """Each in the packings that it can have, fewest bytes first; one that an override
    names in no other."""
    stated = overridden([*tensors], overrides)
    return [
        [own] if own is not tensor else ladder(tensor) or [tensor]
        for tensor, own in zip(tensors, stated, strict=True)
    ]


def ladder(tensor: TensorPlan) -> list[TensorPlan]:
    """A matrix in all packings that it can have, fewest bytes first; none of others."""
    if len(tensor.shape) < 2 or tensor.kind not in HARM or not tensor.is_plain:
        return []
    floor = FLOOR.get(tensor.kind, LOWEST)
    found = [tensor] if tensor.grid else []
    seen = {tensor.packing} if tensor.grid else set[Packing | None]()
    for bits, group in LADDER:
        packing, _ = fitted(affine(bits, group), tensor.inputs)
        if bits >= floor and packing is not None and packing not in seen:
            seen.add(packing)
            found.append(replace(tensor, packing=packing, grid=None, note=None))
    return sorted(found, key=lambda rung: rung.out_bytes)


def _worthwhile(rungs: Sequence[TensorPlan], harm: Harm) -> list[TensorPlan]:
    """Those of a ladder from each of which a step gains less than the one before."""
    kept: list[TensorPlan] = []
    for rung in rungs:
        if kept and _gain(kept[-1], rung, harm) <= 0:
            continue
        while len(kept) > 1 and _gain(kept[-2], kept[-1], harm) <= _gain(
            kept[-1], rung, harm
        ):
            kept.pop()
        kept.append(rung)
    return kept


def _gain(before: TensorPlan, after: TensorPlan, harm: Harm) -> float:
    """Harm avoided per byte of a step."""
    growth = after.out_bytes - before.out_bytes
    return (harm(before) - harm(after)) / max(1, growth)


def _estimate(tensors: Sequence[TensorPlan]) -> Harm:
    depth = max((layer_of(tensor) or 0 for tensor in tensors), default=0)

    def harm(tensor: TensorPlan) -> float:
        if tensor.grid or tensor.packing is None:
            return 0.0
        bits, group = tensor.packing.bits, tensor.packing.group_size
        error = ERROR.get((bits, group), ERROR[(bits, 64)])
        return _weight(tensor, depth) * tensor.params * error

    return harm


def _weight(tensor: TensorPlan, depth: int) -> float:
    weight, layer = HARM[tensor.kind], layer_of(tensor)
    if is_keys_or_values(tensor):
        weight *= KEYS_AND_VALUES
    if layer is not None and (layer < 2 or layer > depth - 2):
        weight *= ENDS
    return weight


def is_keys_or_values(tensor: TensorPlan) -> bool:
    return tensor.modules[0].endswith((".k_proj", ".v_proj"))


def layer_of(tensor: TensorPlan) -> int | None:
    """The decoder layer that it belongs to."""
    found = in_layer(tensor.modules[0])
    return found[0] if found else None


def _gigabytes(count: int) -> str:
    """Rounded up to what is enough, as --target-gb reads it."""
    for digits in (2, 3, 4, 5, 6):
        rounded = -(-count * 10**digits // 10**9) / 10**digits
        if rounded * 10**9 < 1.01 * count:
            return f"{rounded:g}"
    return f"{count / 1e9:.9f}"
