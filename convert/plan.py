"""What a conversion will do, known before any weight is read.

A `Plan` lists every tensor of the source with what becomes of it. All sizes follow
from the headers, so the plan also says how large the result is and what it needs in
memory.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlx_gemma4.checkpoint.files import SIZES
from mlx_gemma4.checkpoint.packing import Packing

# Classes of tensors, in the order of tables.
EMBEDDING = "embedding"  # embed_tokens; the head too where they are tied
HEAD = "head"  # lm_head of an untied model
PLE_TABLE = "per-layer table"
PLE_PROJECTION = "per-layer projection"
ATTENTION = "attention"
MLP = "mlp"
EXPERTS = "experts"
ROUTER = "router"
NORM = "norm"  # norms, scalars, per-expert scales
VISION = "vision"  # the tower and its projector
AUDIO = "audio"
KINDS = (
    EMBEDDING,
    HEAD,
    PLE_TABLE,
    PLE_PROJECTION,
    ATTENTION,
    MLP,
    EXPERTS,
    ROUTER,
    NORM,
    VISION,
    AUDIO,
)


@dataclass(frozen=True)
class Source:
    """One tensor in one source file.

    file: on disk, or the file's name in a Hub repository that is not downloaded yet.
    dtype: as safetensors spells it, "BF16".
    offset: of its first byte, from the start of the file.
    """

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True)
class Joined:
    """A weight of the source as one thing, however many tensors it is stored in.

    name: as a plain checkpoint has it. roles: what each of `sources` is ("weight"; or
    "weight_packed", "weight_scale"). packing and grid: those it is stored in, if it is.
    """

    name: str
    sources: tuple[Source, ...]
    roles: tuple[str, ...]
    shape: tuple[int, ...]
    packing: Packing | None = None
    grid: str | None = None


@dataclass(frozen=True)
class Target:
    """One tensor of the result."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True)
class TensorPlan:
    """What becomes of one weight.

    sources: one tensor, `weight`; or the tensors that a packed QAT layout spreads it
        over, the packed one first.
    roles: beside `sources`, what each of them is: ("weight",), or for example
        ("weight_packed", "weight_scale").
    shape: of the weight as plain numbers, [..., rows, inputs].
    dtype: of the floating values written (plain weights, affine scales and biases).
    packing: None leaves the weight as it is.
    grid: how groups are found: None fits a grid to each group; a name imports the grid
        that the source was trained on (see `qat`).
    modules: names in the result, without ".weight": one; or gate and up, when a fused
        `gate_up_proj` is split along its rows.
    note: why the packing is not the recipe's, if it is not.
    """

    kind: str
    sources: tuple[Source, ...]
    roles: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    packing: Packing | None
    grid: str | None
    modules: tuple[str, ...]
    note: str | None = None

    @property
    def name(self) -> str:
        return self.sources[0].name

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
        return sum(source.nbytes for source in self.sources)

    def targets(self, module: str) -> dict[str, Target]:
        """Part ("weight", "scales", "biases"; "" for a bare tensor) -> its tensor."""
        shape = self.shape
        if len(self.modules) == 2:
            shape = (*shape[:-2], shape[-2] // 2, shape[-1])
        return module_targets(module, shape, self.dtype, self.packing)

    @property
    def out_bytes(self) -> int:
        return sum(
            target.nbytes
            for module in self.modules
            for target in self.targets(module).values()
        )


def module_targets(
    module: str, shape: tuple[int, ...], dtype: str, packing: Packing | None
) -> dict[str, Target]:
    """The tensors a weight of `shape` is stored as.

    Without a packing `module` is the whole name of the tensor.
    """
    if packing is None:
        return {"": Target(module, dtype, shape)}
    *outer, inputs = shape
    groups = (*outer, inputs // packing.group_size)
    scales = dtype if packing.mode == "affine" else "U8"
    words = (*outer, inputs * packing.bits // 32)
    parts = {
        "weight": Target(f"{module}.weight", "U32", words),
        "scales": Target(f"{module}.scales", scales, groups),
    }
    if packing.mode == "affine":
        parts["biases"] = Target(f"{module}.biases", dtype, groups)
    return parts


@dataclass(frozen=True)
class Line:
    """One row of the plan's table: a class of tensors in one packing."""

    kind: str
    packing: Packing | None
    dtype: str
    grid: str | None
    tensors: int
    params: int
    source_bytes: int
    out_bytes: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.out_bytes / self.params


@dataclass(frozen=True)
class Memory:
    """Bytes of weights in memory after loading."""

    text: int
    vision: int
    audio: int
    table: int  # the per-layer table, which can stay on disk; part of `text`


@dataclass(frozen=True)
class Plan:
    """The whole conversion. `dropped` are source tensors that no model reads."""

    recipe: str
    tensors: tuple[TensorPlan, ...]
    dropped: tuple[Source, ...]
    qat: str | None  # the trained layout that was recognised
    warnings: tuple[str, ...] = ()

    @property
    def source_bytes(self) -> int:
        return sum(tensor.source_bytes for tensor in self.tensors)

    @property
    def out_bytes(self) -> int:
        return sum(tensor.out_bytes for tensor in self.tensors)

    @property
    def params(self) -> int:
        return sum(tensor.params for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.out_bytes / self.params

    @property
    def memory(self) -> Memory:
        def of(*kinds: str) -> int:
            return sum(t.out_bytes for t in self.tensors if t.kind in kinds)

        text = self.out_bytes - of(VISION, AUDIO)
        return Memory(text, of(VISION), of(AUDIO), of(PLE_TABLE))

    @property
    def table(self) -> list[Line]:
        """Every class in every packing it gets, in the order of `KINDS`."""
        groups: dict[tuple[str, Packing | None, str, str | None], list[TensorPlan]] = {}
        for tensor in self.tensors:
            key = (tensor.kind, tensor.packing, tensor.dtype, tensor.grid)
            groups.setdefault(key, []).append(tensor)
        lines = [_line(*key, group) for key, group in groups.items()]
        return sorted(lines, key=lambda line: (KINDS.index(line.kind), -line.params))


def _line(
    kind: str,
    packing: Packing | None,
    dtype: str,
    grid: str | None,
    tensors: Iterable[TensorPlan],
) -> Line:
    group = list(tensors)
    return Line(
        kind=kind,
        packing=packing,
        dtype=dtype,
        grid=grid,
        tensors=len(group),
        params=sum(tensor.params for tensor in group),
        source_bytes=sum(tensor.source_bytes for tensor in group),
        out_bytes=sum(tensor.out_bytes for tensor in group),
    )
