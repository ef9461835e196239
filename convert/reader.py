"""Rows of source tensors, read from files here or at the Hub; nothing is mapped."""

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.errors import CheckpointError

from .ahead import Ahead, Part

NUMPY = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1"},
    **{"BOOL": "<u1", "F8_E4M3": "<u1", "F8_E5M2": "<u1", "F8_E8M0": "<u1"},
}


def part_of(source: StoredTensor, first: int, count: int, rows: int) -> Part:
    """Where `count` rows of a tensor that has `rows` lie in its file."""
    width = source.nbytes // max(1, rows)
    start = source.offset + first * width
    return Part(source.file, start, start + count * width)


class Reader:
    """Keeps files open, and notices when one changes while it is read.

    hub: reads the files that are not here.
    """

    def __init__(self, hub: Ahead | None = None) -> None:
        self._hub = hub
        self._files: dict[Path, BinaryIO] = {}
        self._states: dict[Path, tuple[int, int]] = {}
        self._lock = Lock()

    def expect(self, parts: Iterable[Part]) -> None:
        """What will be read, in this order: from the Hub it is fetched ahead."""
        if self._hub is not None:
            self._hub.expect(part for part in parts if part.file in self._hub.files)

    def rows(
        self, source: StoredTensor, first: int, count: int, rows: int
    ) -> np.ndarray:
        """`count` rows of a tensor that has `rows`, as [count, columns].

        bfloat16 comes as uint16. May be called in several threads.
        Raises CheckpointError; ModelNotFoundError where the Hub is out of reach.
        """
        dtype = np.dtype(NUMPY[source.dtype])
        part = part_of(source, first, count, rows)
        if self._hub is not None and part.file in self._hub.files:
            data = self._hub.take(part)
        else:
            data = self._read(source, part)
        columns = source.nbytes // dtype.itemsize // max(1, rows)
        return np.frombuffer(data, dtype).reshape(count, columns)

    def _read(self, source: StoredTensor, part: Part) -> memoryview:
        data, read = memoryview(bytearray(len(part))), 0
        try:
            descriptor = self._open(source.file).fileno()
            while read < len(part):
                got = os.preadv(descriptor, [data[read:]], part.start + read)
                if not got:
                    raise CheckpointError(
                        f"{source.file} ends within {source.name}: it was truncated. "
                        "Download it again."
                    )
                read += got
        except OSError as error:
            raise CheckpointError(
                f"{source.file} cannot be read: {error.strerror}."
            ) from None
        return data

    def check(self, sources: Iterable[StoredTensor]) -> None:
        """Raises CheckpointError if a file is not what it was when it was opened."""
        for file in {source.file for source in sources} & self._states.keys():
            try:
                now = _state(os.stat(file))
            except OSError:
                now = None
            if now != self._states[file]:
                raise CheckpointError(f"{file} changed while it was being converted.")

    def close(self) -> None:
        """Reads that are under way in other threads end, too."""
        if self._hub is not None:
            self._hub.close()
        for stream in self._files.values():
            stream.close()
        self._files.clear()

    def _open(self, file: Path) -> BinaryIO:
        with self._lock:
            if file not in self._files:
                # Unbuffered: the blocks are large, and are read once.
                self._files[file] = file.open("rb", buffering=0)  # type: ignore
                self._states[file] = _state(os.fstat(self._files[file].fileno()))
            return self._files[file]


def _state(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


# The bits of infinity; what is not finite has them or more, but for the sign.
INFINITY = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}


def is_finite(raw: np.ndarray, dtype: str) -> bool:
    """Whether no weight is NaN or infinite; comparing bits costs a tenth of asking."""
    if dtype not in INFINITY:
        return True
    bits = raw.view(f"<u{raw.itemsize}")
    return not bits.size or int((bits & ~_sign(raw)).max()) < INFINITY[dtype]


def _sign(raw: np.ndarray) -> np.unsignedinteger:
    bits = np.dtype(f"<u{raw.itemsize}").type
    return bits(1 << (8 * raw.itemsize - 1))
