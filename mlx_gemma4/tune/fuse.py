"""Fusing: a checkpoint whose weights have an adapter in them.

Every weight is made and written in pieces: beside the model, memory holds one piece.

The result is in the Hub's names, in bfloat16 or quantised to 8 bits. It is never put
back on the 4 bits of its base: a merged weight lies between the steps, and a base that
was trained for its steps (QAT) would lose just what that training gave it.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from ..checkpoint.files import INDEX
from ..checkpoint.folders import FUSED, copy_files
from ..checkpoint.names import hub_name
from ..checkpoint.packing import Packing
from ..checkpoint.plan import TABLE
from ..checkpoint.shards import (
    Shard,
    ShardFile,
    Target,
    index_of,
    lay_out,
    packed_targets,
    raw_bytes,
)
from ..hub.drafters import origin
from ..model import Gemma4
from ..reading.json_file import read_json
from ..text.table import RowTable
from .adapters import Adapter
from .errors import AdapterError
from .lora import PACKED, Adapted, Matrix, plain_weight, sizes
from .replacing import replacing

FORMS = ("bf16", "8bit")
EIGHT = Packing(8, 64, "affine")
PIECE = 16 * 2**20  # weights made at once
REQUANTISED = (
    "A fused model is written as bf16 or 8bit. {form} would round every merged weight "
    "to a coarse step again and lose a part of what was learned; if the base was "
    "trained for its steps (QAT), it would lose them as well. Keep the adapter apart "
    "(--adapter), which loses nothing, or convert the bf16 result at your own risk."
)


@dataclass(frozen=True)
class _Weight:
    """A parameter of the result. `rows`: some of its first axis, as floats."""

    name: str
    shape: tuple[int, ...]
    packing: Packing | None
    rows: Callable[[slice], mx.array]

    def targets(self, text_only: bool) -> list[Target]:
        """The tensors it is stored as: one, or weight, scales and biases."""
        if self.packing is None:
            return [Target(hub_name(self.name, text_only), "BF16", self.shape)]
        module = hub_name(self.name.removesuffix(".weight"), text_only)
        return [*packed_targets(module, self.shape, "BF16", self.packing).values()]

    def arrays(self, rows: slice) -> list[mx.array]:
        """The same rows of each of them."""
        if self.packing is None:
            return [self.rows(rows).astype(mx.bfloat16)]
        words, *grid = mx.quantize(self.rows(rows), self.packing.group_size, 8)
        return [words, *(part.astype(mx.bfloat16) for part in grid)]


def fuse(
    model: Gemma4,
    adapter: Adapter,
    source: Path,
    out: Path,
    form: str,
    overwrite: bool = False,
) -> None:
    """Write `model` with `adapter` in its weights to `out`; `source` is its folder.

    Low-rank adapters that are on are left out. overwrite: replace a model in `out` that
    was fused or converted here.
    Raises AdapterError for another form than "bf16" and "8bit", and for a folder that
    cannot be written; TakenError for one that is not empty; BusyError, DiskFullError.
    """
    if form not in FORMS:
        raise AdapterError(REQUANTISED.format(form=form))
    text_only = model.config.text_only
    weights = {
        target.name: weight
        for weight in _weights(model, adapter, form)
        for target in weight.targets(text_only)[:1]
    }
    shards = lay_out([w.targets(text_only) for w in weights.values()], "pt")
    with replacing(out, source, overwrite) as work:
        copy_files(source, work)
        for shard in shards:
            _write_shard(work / shard.name, shard, weights, text_only)
        if len(shards) > 1:
            text = json.dumps(index_of(shards), indent=2) + "\n"
            (work / INDEX).write_text(text, encoding="utf-8")
        _write_config(source, work, form)
        files = sorted(file.name for file in work.iterdir())
        record = {"form": form, "files": files, "source": origin(source)}
        text = json.dumps(record, indent=2) + "\n"
        (work / FUSED).write_text(text, encoding="utf-8")


def _weights(model: Gemma4, adapter: Adapter, form: str) -> Iterator[_Weight]:
    """All parameters of the model with this adapter and no other, nothing computed."""
    modules = dict(model.named_modules())
    inside = tuple(f"{p}." for p, m in modules.items() if isinstance(m, Adapted))
    matrices: set[str] = set()
    for path, module in modules.items():
        if path.startswith(inside):
            continue
        matrix = module.linear if isinstance(module, Adapted) else module
        if isinstance(matrix, Matrix):
            matrices.add(path)
            yield _matrix(path, matrix, adapter, form)
            own: dict[str, mx.array] = dict(matrix)
            if "bias" in own:
                name = f"{path}.bias"
                yield _plain(name, adapter.weights.get(name, own["bias"]))
    named: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    for name, array in named.items():
        if name.rpartition(".")[0] not in matrices and not name.startswith(inside):
            yield _plain(name, adapter.weights.get(name, array))
    if (table := model.language_model.table) is not None:
        yield _on_disk(table, form)


def _on_disk(table: RowTable, form: str) -> _Weight:
    """What is no parameter of the model."""
    shape = table.layout.rows, table.layout.columns
    packing = EIGHT if form == "8bit" and _is_packed(TABLE, shape[1]) else None

    def rows(some: slice) -> mx.array:
        return table.rows(range(*some.indices(shape[0]))).astype(mx.bfloat16)

    return _Weight(f"{TABLE}.weight", shape, packing, rows)


def _matrix(path: str, module: Matrix, adapter: Adapter, form: str) -> _Weight:
    """The weight of a linear map or a table, with the adapter merged in."""
    name, layer = f"{path}.weight", adapter.layers.get(path)
    inputs, _ = sizes(module)
    shape = (*module.weight.shape[:-1], inputs)
    packing = EIGHT if form == "8bit" and _is_packed(path, inputs) else None
    if layer is None and not isinstance(module, PACKED):
        plain = _plain(name, adapter.weights.get(name, module.weight))
        return replace(plain, packing=packing)
    made = partial(plain_weight, module) if layer is None else layer.merged
    return _Weight(name, shape, packing, lambda rows: made(rows).astype(mx.bfloat16))


def _plain(name: str, array: mx.array) -> _Weight:
    if not array.ndim:
        return _Weight(name, (), None, lambda rows: array)
    return _Weight(name, array.shape, None, lambda rows: array[rows])


def _is_packed(path: str, inputs: int) -> bool:
    """Whether 8 bits suit a module: the router decides on small differences."""
    decoder = path.startswith("language_model.") and not path.endswith("router.proj")
    return decoder and inputs % EIGHT.group_size == 0


def _write_shard(
    file: Path, shard: Shard, weights: Mapping[str, _Weight], text_only: bool
) -> None:
    with ShardFile(file, shard) as writing:
        for name in shard.tensors:
            if name in weights:
                _write_weight(weights[name], writing, text_only)


def _write_weight(weight: _Weight, file: ShardFile, text_only: bool) -> None:
    targets = weight.targets(text_only)
    count = weight.shape[0] if weight.shape else 1
    step = max(1, PIECE * count // math.prod(weight.shape))
    for first in range(0, count, step):
        arrays = weight.arrays(slice(first, first + step))
        mx.eval(arrays)
        for target, array in zip(targets, arrays, strict=True):
            file.write(target.name, first * (target.nbytes // count), raw_bytes(array))
        arrays.clear()
        mx.clear_cache()


def _write_config(source: Path, out: Path, form: str) -> None:
    config = read_json(source / "config.json")
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    if form == "8bit":
        config["quantization"] = {"group_size": EIGHT.group_size, "bits": EIGHT.bits}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (out / "config.json").write_text(text, encoding="utf-8")
