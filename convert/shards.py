"""The files of the result, laid out before a byte is written.

Sizes follow from the plan, so every tensor has its place in its file from the start:
blocks are written where they belong, in any order, and writing one again changes
nothing.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from .plan import Plan, Target, TensorPlan

SHARD_BYTES = 5 * 10**9
ALIGNMENT = 8


@dataclass(frozen=True)
class Slot:
    """A tensor's place: its first byte, counted from the start of the file."""

    target: Target
    offset: int


@dataclass(frozen=True)
class Shard:
    """One output file. `size` counts the header."""

    name: str
    header: bytes
    size: int
    tensors: tuple[TensorPlan, ...]
    slots: dict[str, Slot]  # by the name of the tensor


def lay_out(plan: Plan, limit: int = SHARD_BYTES) -> list[Shard]:
    """The shards of a plan: whole tensors, in order, of at most `limit` bytes.

    A tensor larger than the limit has a shard of its own.
    """
    groups: list[list[TensorPlan]] = []
    size = 0
    for tensor in plan.tensors:
        if not groups or size + tensor.out_bytes > limit:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.out_bytes
    count = len(groups)
    return [_shard(_name(i + 1, count), group) for i, group in enumerate(groups)]


def targets(tensor: TensorPlan) -> Iterable[Target]:
    for module in tensor.modules:
        yield from tensor.targets(module).values()


def index(shards: Iterable[Shard]) -> dict[str, object]:
    """The contents of model.safetensors.index.json."""
    shards = list(shards)
    sizes = [slot.target.nbytes for shard in shards for slot in shard.slots.values()]
    files = {name: shard.name for shard in shards for name in shard.slots}
    return {
        "metadata": {"total_size": sum(sizes)},
        "weight_map": dict(sorted(files.items())),
    }


def _name(number: int, count: int) -> str:
    if count == 1:
        return "model.safetensors"
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def _shard(name: str, tensors: list[TensorPlan]) -> Shard:
    # Wide types first: every tensor is then aligned for its own type.
    found = [target for tensor in tensors for target in targets(tensor)]
    order = sorted(found, key=lambda t: (-_width(t), t.name))
    entries: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    position = 0
    places: dict[str, int] = {}
    for target in order:
        places[target.name] = position
        end = position + target.nbytes
        entries[target.name] = {
            "dtype": target.dtype,
            "shape": list(target.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    slots = {t.name: Slot(t, len(header) + places[t.name]) for t in order}
    return Shard(name, header, len(header) + position, tuple(tensors), slots)


def _width(target: Target) -> int:
    from mlx_gemma4.checkpoint.files import SIZES

    return SIZES[target.dtype]
