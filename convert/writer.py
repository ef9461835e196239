"""One output file: written in place, in any order, and read back when complete."""

import errno
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import OutputError
from .shards import Shard

CHUNK = 8 * 2**20
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns errors of writing below `folder` into one clear line."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise OutputError(
                f"The disk is full. What is done is kept in {folder}: make room and "
                "run the same command again."
            ) from None
        what = error.strerror or str(error)
        raise OutputError(f"{folder} cannot be written: {what}.") from None


class ShardFile:
    """A shard under construction, of its final size from the start."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.path, self.shard = folder / shard.name, shard
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)

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
        self._put(self.shard.slots[name].offset + start, data)

    def holds(self, crcs: Mapping[str, int]) -> bool:
        """Whether tensors written by an earlier run are all there, unharmed."""
        return all(
            name in self.shard.slots and self._crc(name) == crc
            for name, crc in crcs.items()
        )

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def _crc(self, name: str) -> int:
        slot, crc = self.shard.slots[name], 0
        for start in range(0, slot.target.nbytes, CHUNK):
            count = min(CHUNK, slot.target.nbytes - start)
            crc = zlib.crc32(
                os.pread(self._descriptor, count, slot.offset + start), crc
            )
        return crc

    def _put(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written


def verified(folder: Path, shard: Shard, crcs: Mapping[str, int]) -> dict[str, Any]:
    """Size and SHA-256 of a complete shard, whose tensors must have these checksums.

    Raises OutputError if the disk did not keep what was written.
    """
    path, digest = folder / shard.name, hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        digest.update(stream.read(len(shard.header)))
        for name, slot in sorted(shard.slots.items(), key=lambda item: item[1].offset):
            crc, left = 0, slot.target.nbytes
            while left:
                data = stream.read(min(CHUNK, left))
                if not data:
                    break
                digest.update(data)
                crc, left = zlib.crc32(data, crc), left - len(data)
            if crc != crcs[name]:
                raise OutputError(
                    f"{name} in {path} is not what was written: check the disk. Run "
                    "the same command again to convert it anew."
                )
    return {"sha256": digest.hexdigest(), "bytes": shard.size}
