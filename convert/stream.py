"""The conversion itself: tensor by tensor, in blocks of rows.

Memory holds a few blocks and nothing else, whatever the size of the model. Every block
goes straight to its place in the output file; a finished tensor is entered in the
journal with its checksums, and a finished file is read back and compared with them.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.shards import Shard, ShardFile, raw_bytes
from mlx_gemma4.errors import CheckpointError

from . import qat
from .blocks import BLOCK, Block, blocks, module_rows, most_rows, reads, row_bytes
from .classes import TensorClass
from .journal import Done, Journal
from .plan import Plan, TensorPlan
from .quantize import DTYPES, encode, encode_fitted, is_fitted
from .reader import Reader, is_finite
from .writer import verified

# Blocks being computed at once. MLX on a GPU takes them one after the other.
IN_FLIGHT = 2
WORKERS = min(8, os.cpu_count() or 1)
# Half of all weights in E2B, and the least sensitive: fitting would double the time.
UNFITTED = (TensorClass.PLE_TABLE,)
CACHE = 64 * 2**20  # bytes of freed buffers that MLX may keep

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Read:
    """A block as it is in the source; bfloat16 as uint16. `finite`: no NaN in it."""

    block: Block
    raw: list[np.ndarray]
    finite: bool


@dataclass(frozen=True)
class Computed:
    """A block being computed. `finite`: whether all its weights are."""

    block: Block
    parts: Mapping[str, mx.array | np.ndarray]
    finite: bool
    on_grid: int = 0
    groups: int = 0


def convert(
    plan: Plan,
    shards: Iterable[Shard],
    folder: Path,
    journal: Journal,
    advance: Advance,
    reader: Reader,
    block_bytes: int = BLOCK,
) -> None:
    """Writes what is missing of the `shards` of `plan` into `folder`.

    reader: of the source; it is closed at the end.
    advance: called with the source bytes of each block.
    Raises CheckpointError for a damaged source, OutputError where the result cannot be
    written.
    """
    before = mx.set_cache_limit(CACHE)
    try:
        of_shards = [(shard, _tensors(plan, shard)) for shard in shards]
        todo = [t for _, of in of_shards for t in of if t.name not in journal.tensors]
        reader.expect(part for t in todo for part in reads(t, block_bytes))
        for shard, tensors in of_shards:
            if _is_done(shard, folder, journal):
                continue
            with ShardFile(folder / shard.name, shard) as file:
                _write(tensors, file, journal, reader, advance, block_bytes)
            crcs: dict[str, int] = {}
            for tensor in tensors:
                crcs |= journal.tensors[tensor.name].crcs
            journal.file(shard.name, verified(folder, shard, crcs))
    finally:
        reader.close()
        mx.set_cache_limit(before)


def _tensors(plan: Plan, shard: Shard) -> list[TensorPlan]:
    return [t for t in plan.tensors if t.all_targets[0].name in shard.tensors]


def _is_done(shard: Shard, folder: Path, journal: Journal) -> bool:
    path = folder / shard.name
    return (
        shard.name in journal.files
        and path.is_file()
        and path.stat().st_size == shard.size
    )


def _write(
    tensors: Iterable[TensorPlan],
    file: ShardFile,
    journal: Journal,
    reader: Reader,
    advance: Advance,
    block_bytes: int,
) -> None:
    for tensor in tensors:
        before = journal.tensors.get(tensor.name)
        if before and _is_there(before, file):
            continue
        done = _convert_tensor(tensor, file, reader, advance, block_bytes)
        reader.check(tensor.sources.values())
        journal.tensor(tensor.name, done)
    file.sync()


def _is_there(done: Done, file: ShardFile) -> bool:
    """Whether what an earlier run wrote is in the file, unharmed."""
    return all(
        name in file.shard.tensors and file.crc(name) == crc
        for name, crc in done.crcs.items()
    )


def _convert_tensor(
    tensor: TensorPlan,
    file: ShardFile,
    reader: Reader,
    advance: Advance,
    block_bytes: int,
) -> Done:
    crcs = {target.name: 0 for target in tensor.all_targets}
    on_grid = groups = 0
    width = row_bytes(tensor)
    for done in computed(tensor, reader, most_rows(tensor, block_bytes)):
        if not done.finite:
            raise CheckpointError(
                f"NaN or infinite values in {tensor.name}: the source is damaged."
            )
        places = tensor.targets(done.block.path)
        for part, array in done.parts.items():
            target = places[part]
            data = raw_bytes(array)
            start = done.block.to * (target.nbytes // module_rows(tensor))
            file.write(target.name, start, data)
            crcs[target.name] = zlib.crc32(data, crcs[target.name])
        on_grid, groups = on_grid + done.on_grid, groups + done.groups
        advance(done.block.count * width)
    return Done(crcs, on_grid, groups)


def computed(tensor: TensorPlan, reader: Reader, limit: int) -> Iterator[Computed]:
    """The blocks in order, with the next ones being read and computed meanwhile."""
    waiting: deque[Callable[[], Computed]] = deque()
    fitted = _is_fitted(tensor)
    with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(WORKERS) as workers:
        try:
            for i, read in enumerate(_ahead(tensor, reader, limit, readers)):
                if fitted:
                    waiting.append(workers.submit(_fit, tensor, read).result)
                else:
                    waiting.append(_begun(tensor, read, i))
                if len(waiting) >= (WORKERS + 1 if fitted else IN_FLIGHT):
                    yield waiting.popleft()()
            for done in waiting:
                yield done()
        except BaseException:
            reader.close()  # else a read under way would be waited for
            workers.shutdown(wait=False, cancel_futures=True)
            raise


def packed(tensor: TensorPlan, raw: list[np.ndarray]) -> Computed:
    """Some rows alone, as they are in the sources of `tensor`."""
    read = Read(Block(tensor.paths[0], 0, 0, len(raw[0])), raw, True)
    return _fit(tensor, read) if _is_fitted(tensor) else _compute(tensor, read)


def _is_fitted(tensor: TensorPlan) -> bool:
    plain = tensor.grid is None and tensor.kind not in UNFITTED
    return plain and tensor.packing is not None and is_fitted(tensor.packing)


def _fit(tensor: TensorPlan, read: Read) -> Computed:
    assert tensor.packing is not None
    parts = encode_fitted(read.raw[0], tensor.packing, DTYPES[tensor.dtype])
    return Computed(read.block, parts, read.finite)


def _begun(tensor: TensorPlan, read: Read, number: int) -> Callable[[], Computed]:
    with _stream(number):
        done = _compute(tensor, read)
        arrays = done.parts.values()
        mx.async_eval([a for a in arrays if isinstance(a, mx.array)])
    return lambda: done


def _ahead(
    tensor: TensorPlan, reader: Reader, limit: int, pool: ThreadPoolExecutor
) -> Iterator[Read]:
    """The blocks as they are in the files, each read while the one before is used."""

    def read(block: Block) -> Read:
        raw = [
            reader.rows(source, block.first, block.count, tensor.rows)
            for source in tensor.sources.values()
        ]
        finite = tensor.packing is None or is_finite(raw[0], tensor.first.dtype)
        return Read(block, raw, finite)

    before: Future[Read] | None = None
    for block in blocks(tensor, limit):
        reading = pool.submit(read, block)
        if before is not None:
            yield before.result()
        before = reading
    if before is not None:
        yield before.result()


_streams: list[mx.Stream] = []


@contextmanager
def _stream(number: int) -> Iterator[None]:
    """On the CPU a stream is a thread: the blocks in flight have one each."""
    if mx.default_device().type != mx.DeviceType.cpu:
        yield
        return
    while len(_streams) < min(IN_FLIGHT, os.cpu_count() or 1):
        _streams.append(mx.new_stream(mx.cpu))
    with mx.stream(_streams[number % len(_streams)]):
        yield


def _compute(tensor: TensorPlan, read: Read) -> Computed:
    block, raw = read.block, read.raw
    dtype = DTYPES.get(tensor.dtype)
    same = tensor.first.dtype == tensor.dtype
    if tensor.packing is None and same and not tensor.grid:
        return Computed(block, {"": raw[0]}, True)
    assert dtype is not None
    rows = {
        part: as_array(numbers, source)
        for numbers, (part, source) in zip(raw, tensor.sources.items(), strict=True)
    }
    if tensor.packing is None and tensor.grid is not None:
        return Computed(block, {"": qat.decode(rows, tensor.inputs, dtype)}, True)
    if tensor.packing is None:
        return Computed(block, {"": rows["weight"].astype(dtype)}, True)
    if tensor.grid is None:
        parts = encode(rows["weight"], tensor.packing, dtype)
        return Computed(block, parts, read.finite)
    found = qat.encode(rows, tensor.packing, tensor.grid, dtype)
    parts = found.codes._asdict()
    return Computed(block, parts, read.finite, found.exact, found.groups)


def as_array(raw: np.ndarray, source: StoredTensor) -> mx.array:
    """Rows as MLX's type; numpy has no bfloat16."""
    array = mx.array(raw)
    return array.view(mx.bfloat16) if source.dtype == "BF16" else array
