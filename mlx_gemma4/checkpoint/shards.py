"""Writing weights: files laid out before a byte is written, then filled in any order.

Sizes follow from names, types and shapes, so every tensor has its place in its file
from the start. Parts of it are written where they belong, and writing one again changes
nothing: memory holds no more than the part.
"""

import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import mlx.core as mx
import numpy as np

from .files import SINGLE, SIZES, StoredTensor
from .packing import Packing, packed_shapes

SHARD_BYTES = 5 * 10**9
ALIGNMENT = 8
CHUNK = 8 * 2**20


@dataclass(frozen=True)
class Target:
    """One tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True)
class Shard:
    """One file to be written. `size` counts the header; `tensors` go by their names."""

    name: str
    header: bytes
    size: int
    tensors: Mapping[str, StoredTensor]


def packed_targets(
    module: str, weight: tuple[int, ...], dtype: str, packing: Packing
) -> dict[str, Target]:
    """Part -> the tensor it is stored as, of a quantised module.

    weight: the shape of its plain weight. dtype: of affine scales and biases.
    """
    floats = dtype if packing.mode == "affine" else "U8"
    return {
        part: Target(f"{module}.{part}", "U32" if part == "weight" else floats, shape)
        for part, shape in packed_shapes(weight, packing).items()
    }


def lay_out(
    groups: Iterable[Sequence[Target]], made_for: str, limit: int = SHARD_BYTES
) -> list[Shard]:
    """The files for `groups` of tensors, in order, of at most `limit` bytes.

    A group is never divided; one that is larger than the limit has a file of its own.
    made_for: the format that the header states, "mlx" or "pt".
    """
    files: list[list[Target]] = []
    size = 0
    for group in groups:
        more = sum(target.nbytes for target in group)
        if not files or size + more > limit:
            files.append([])
            size = 0
        files[-1] += group
        size += more
    count = len(files)
    names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    names = [SINGLE] if count == 1 else names
    return [_shard(*pair, made_for) for pair in zip(names, files, strict=True)]


def index_of(shards: Iterable[Shard]) -> dict[str, object]:
    """The contents of model.safetensors.index.json."""
    stored = {name: t for shard in shards for name, t in shard.tensors.items()}
    return {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in stored.values())},
        "weight_map": {name: stored[name].file.name for name in sorted(stored)},
    }


def _shard(name: str, targets: Iterable[Target], made_for: str) -> Shard:
    # Wide types first: every tensor is then aligned for its own type.
    order = sorted(targets, key=lambda t: (-SIZES[t.dtype], t.name))
    entries: dict[str, object] = {"__metadata__": {"format": made_for}}
    position = 0
    for target in order:
        entries[target.name] = {
            "dtype": target.dtype,
            "shape": list(target.shape),
            "data_offsets": [position, position + target.nbytes],
        }
        position += target.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    position, tensors = len(header), {}
    for t in order:
        tensors[t.name] = StoredTensor(t.name, Path(name), t.dtype, t.shape, position)
        position += t.nbytes
    return Shard(name, header, position, tensors)


class ShardFile:
    """A shard under construction at `path`, of its final size from the start."""

    def __init__(self, path: Path, shard: Shard) -> None:
        self.path, self.shard = path, shard
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def __enter__(self) -> "ShardFile":
        os.ftruncate(self._descriptor, self.shard.size)
        self._put(0, memoryview(self.shard.header))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def write(self, name: str, start: int, data: memoryview) -> None:
        """`data` as the bytes from `start` on of the tensor `name`."""
        self._put(self.shard.tensors[name].offset + start, data)

    def crc(self, name: str) -> int:
        """The CRC-32 of a tensor as it lies in the file."""
        tensor, crc = self.shard.tensors[name], 0
        end = tensor.offset + tensor.nbytes
        for start in range(tensor.offset, end, CHUNK):
            piece = os.pread(self._descriptor, min(CHUNK, end - start), start)
            crc = zlib.crc32(piece, crc)
        return crc

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def _put(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written


def raw_bytes(array: mx.array | np.ndarray) -> memoryview:
    """The bytes of an array as a file has them."""
    if isinstance(array, mx.array):
        plain = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
        array = np.array(plain, copy=False)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
