"""Errors of writing in one line, and a complete file read back."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_gemma4.checkpoint.shards import CHUNK, Shard
from mlx_gemma4.errors import DiskFullError, ModelNotFoundError
from mlx_gemma4.state import FULL

from .errors import OutputError


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns errors of writing below `folder` into one clear line."""
    try:
        yield
    except (OutputError, DiskFullError, ModelNotFoundError):
        raise
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"The disk is full. What is done is kept in {folder}: make room and "
                "run the same command again."
            ) from None
        what = error.strerror or str(error)
        raise OutputError(f"{folder} cannot be written: {what}.") from None


def verified(folder: Path, shard: Shard, crcs: Mapping[str, int]) -> dict[str, Any]:
    """Size and SHA-256 of a complete shard, whose tensors must have these checksums.

    Raises OutputError if the disk did not keep what was written.
    """
    path, digest = folder / shard.name, hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        digest.update(stream.read(len(shard.header)))
        for name, tensor in shard.tensors.items():  # in their order in the file
            crc, left = 0, tensor.nbytes
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
