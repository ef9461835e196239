"""What a conversion will do, known before any weight is read.

A `Plan` lists every tensor of the source with what becomes of it. All sizes follow
from the headers, so the plan also says how large the result is and what it needs in
memory.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlx_gemma4.checkpoint.copies import Copy
from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.checkpoint.shards import Target, packed_targets

from .classes import TensorClass


@dataclass(frozen=True)
class Joined:
    """A weight of the source as one thing, however many tensors it is stored in.

    name: as a plain checkpoint has it. sources: by what they are of it ("weight"; or
    "weight_packed", "weight_scale"). packing and grid: those it is stored in, if it is.
    """

    name: str
    sources: Mapping[str, StoredTensor]
    shape: tuple[int, ...]
    packing: Packing | None = None
    grid: str | None = None


class Reason(StrEnum):
    """Why a tensor of the source has no place in the result, as a user reads it."""

    ACTIVATIONS = "scales of activations"
    CACHE = "scales of the cache"
    SHAPES = "shapes of packed weights"
    UNREAD = "that no layer reads"
    TIED = "of a tied head"
    TOWER = "of a tower that has lost others"


@dataclass(frozen=True)
class Dropped:
    source: StoredTensor
    reason: Reason


@dataclass(frozen=True)
class TensorPlan:
    """What becomes of one weight.

    sources: one tensor, "weight"; or the tensors that a packed QAT layout spreads it
        over by what they are, the packed one first.
    shape: of the weight as plain numbers, [..., rows, inputs].
    dtype: of the floating values written (plain weights, affine scales and biases).
    packing: None leaves the weight as it is.
    grid: how groups are found: None fits a grid to each group; a name imports the grid
        that the source was trained on (see `qat`).
    modules: names in the result, without ".weight": one; or gate and up, when a fused
        `gate_up_proj` is split along its rows.
    note: why the packing is not the recipe's, if it is not.
    """

    kind: TensorClass
    sources: Mapping[str, StoredTensor]
    shape: tuple[int, ...]
    dtype: str
    packing: Packing | None
    grid: str | None
    modules: tuple[str, ...]
    note: str | None = None

    @property
    def first(self) -> StoredTensor:
        return next(iter(self.sources.values()))

    @property
    def name(self) -> str:
        return self.first.name

    @property
    def is_plain(self) -> bool:
        """Whether the source has the weight as numbers, not as codes."""
        return tuple(self.sources) == ("weight",)

    @property
    def paths(self) -> tuple[str, ...]:
        """What is written: packed modules, or plain tensors by their whole names."""
        # Experts are bare tensors at the Hub and modules in the result.
        module = self.name.endswith(".weight") or self.kind is TensorClass.EXPERTS
        if self.packing is not None or not module:
            return self.modules
        return tuple(f"{module}.weight" for module in self.modules)

    @property
    def inputs(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Rows of all experts and both halves together."""
        return math.prod(self.shape[:-1])

    @property
    def params(self) -> int:
        return math.prod(self.shape)

    @property
    def source_bytes(self) -> int:
        return sum(source.nbytes for source in self.sources.values())

    def targets(self, path: str) -> dict[str, Target]:
        """Part ("weight", "scales", "biases"; "" if plain) -> the tensor it becomes.

        path: one of `paths`.
        """
        shape = self.shape
        if len(self.modules) == 2:
            shape = (*shape[:-2], shape[-2] // 2, shape[-1])
        if self.packing is None:
            return {"": Target(path, self.dtype, shape)}
        return packed_targets(path, shape, self.dtype, self.packing)

    @property
    def all_targets(self) -> list[Target]:
        return [t for path in self.paths for t in self.targets(path).values()]

    @property
    def out_bytes(self) -> int:
        return sum(target.nbytes for target in self.all_targets)


class _Sums:
    """What some tensors are together."""

    tensors: tuple[TensorPlan, ...]

    @property
    def params(self) -> int:
        return sum(tensor.params for tensor in self.tensors)

    @property
    def source_bytes(self) -> int:
        return sum(tensor.source_bytes for tensor in self.tensors)

    @property
    def out_bytes(self) -> int:
        return sum(tensor.out_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.out_bytes / self.params


@dataclass(frozen=True)
class Line(_Sums):
    """One row of the plan's table: the tensors of a class that are packed alike."""

    kind: TensorClass
    packing: Packing | None
    dtype: str
    grid: str | None
    tensors: tuple[TensorPlan, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes of weights in memory after loading; `table` of the text's are its per-layer
    embeddings, which may stay on disk."""

    text: int
    table: int
    vision: int
    audio: int


@dataclass(frozen=True)
class Plan(_Sums):
    """The whole conversion.

    dropped: what is not in the result. qat: the trained layout that was recognised.
    unclipped: towers' sections of config.json that speak of bounds which the source
        does not hold; the result says so.
    copies: dropped tensors that must repeat others, to be compared before the work.
    """

    recipe: str
    tensors: tuple[TensorPlan, ...]
    dropped: tuple[Dropped, ...]
    qat: str | None
    unclipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()

    @property
    def memory(self) -> Memory:
        def of(kind: TensorClass) -> int:
            return sum(t.out_bytes for t in self.tensors if t.kind is kind)

        vision, audio = of(TensorClass.VISION), of(TensorClass.AUDIO)
        text, table = self.out_bytes - vision - audio, of(TensorClass.PLE_TABLE)
        return Memory(text, table, vision, audio)

    @property
    def table(self) -> list[Line]:
        """Every class in every packing it gets, in the order of the classes."""
        groups = defaultdict[Any, list[TensorPlan]](list)
        for tensor in self.tensors:
            key = tensor.kind, tensor.packing, tensor.dtype, tensor.grid
            groups[key].append(tensor)
        lines = [
            Line(first.kind, first.packing, first.dtype, first.grid, tuple(group))
            for group in groups.values()
            for first in group[:1]
        ]
        order = list(TensorClass)
        return sorted(lines, key=lambda line: (order.index(line.kind), -line.params))
