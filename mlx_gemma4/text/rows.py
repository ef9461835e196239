"""Rows of a tensor, read from its file one by one.

They are read by their place in the file, not mapped: mapped pages would count as the
process's own.
"""

import fcntl
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from ..errors import CheckpointError

# What is as large as this, or larger, becomes infinite.
LARGEST = {
    mx.float16: 65520.0,
    mx.bfloat16: float.fromhex("0x1.FFp+127"),
    mx.float32: float("inf"),
}


@dataclass(frozen=True)
class Part:
    """A tensor of a table: `columns` values of type `stored` a row, the first row at
    `offset` bytes of `file`."""

    name: str
    file: Path
    offset: int
    stored: mx.Dtype
    columns: int

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return self.columns * self.stored.size


@dataclass(frozen=True)
class Packed:
    """How a quantised table is packed, in the words of `mlx.core.dequantize`."""

    group_size: int
    bits: int
    mode: str


def not_finite(what: str, dtype: mx.Dtype) -> CheckpointError:
    """Of what should be used as `dtype`."""
    reason = "the checkpoint is damaged: download it again, or make it anew"
    if dtype == mx.float16:
        reason += "; or its values do not fit into float16"
    return CheckpointError(f"NaN or infinite values in {what}: {reason}.")


class StoredRows:
    """The rows of `part`, whose floating values are used as `dtype`.

    The file stays open: one that is deleted or replaced is read on, one that is changed
    is noticed. Raises CheckpointError where it cannot be opened.
    """

    def __init__(self, part: Part, dtype: mx.Dtype, packed: Packed | None):
        self.part = part
        floating = mx.issubdtype(part.stored, mx.floating)
        self.dtype = dtype if floating else part.stored
        self._plain = _plain_bytes(part.stored, dtype, packed)
        try:
            self._file = os.open(part.file, os.O_RDONLY)
        except OSError as error:
            raise self._unreadable(error) from None
        weakref.finalize(self, os.close, self._file)
        _read_nothing_ahead(self._file)
        self._state = self._state_now()

    def read(self, numbers: Sequence[int]) -> list[bytes]:
        """The rows of these numbers, which must be rows of the tensor.

        Raises CheckpointError where they cannot be read, or hold NaN or infinities, and
        where the file is not what it was.
        """
        width, start = self.part.width, self.part.offset
        try:
            rows = [os.pread(self._file, width, start + i * width) for i in numbers]
            state = self._state_now()
        except OSError as error:
            raise self._unreadable(error) from None
        if state != self._state or any(len(row) < width for row in rows):
            raise CheckpointError(
                f"{self.part.file} was changed after the model was loaded, which reads "
                f"rows of {self.part.name} as it needs them: load the model again."
            )
        for i, row in zip(numbers, rows, strict=True):
            if not self._is_finite(row):
                raise not_finite(f"row {i} of {self.part.name}", self.dtype)
        return rows

    def array(self, rows: Sequence[bytes]) -> mx.array:
        """Rows that were read as one array [rows, columns]."""
        joined = memoryview(b"".join(rows)).cast("B", (len(rows), self.part.width))
        return mx.array(joined).view(self.part.stored).astype(self.dtype)

    def _is_finite(self, row: bytes) -> bool:
        """At the speed of memory, but where a value is huge. Threads ask this: nothing
        of MLX, which would keep a stream for each."""
        size = self.part.stored.size
        if not row[size - 1 :: size].translate(None, self._plain):
            return True
        if self.part.stored not in (mx.bfloat16, mx.float32):
            return False  # the highest byte says all
        whole = bytearray(len(row) // size * 4)
        for i in range(size):
            whole[4 - size + i :: 4] = row[i::size]
        largest = LARGEST[self.dtype]
        return all(abs(value) < largest for value in memoryview(whole).cast("f"))

    def _state_now(self) -> tuple[int, int]:
        found = os.fstat(self._file)
        return found.st_size, found.st_mtime_ns

    def _unreadable(self, error: OSError) -> CheckpointError:
        return CheckpointError(f"{self.part.file} cannot be read: {error.strerror}.")


def _plain_bytes(stored: mx.Dtype, dtype: mx.Dtype, packed: Packed | None) -> bytes:
    """What the highest byte of a value may be without a closer look: in floating types
    a sign and most of the exponent. One-byte scales are judged whole."""
    if stored == mx.uint8:  # E4M3 spells NaN in seven bits, E8M0 in eight
        nan = (0x7F, 0xFF) if packed and packed.mode == "nvfp4" else (0xFF,)
        return bytes(each for each in range(256) if each not in nan)
    if not mx.issubdtype(stored, mx.floating):
        return bytes(range(256))
    largest = 0x7C if stored == mx.float16 else 0x47 if dtype == mx.float16 else 0x7F
    return bytes(each for each in range(256) if each & 0x7F < largest)


def _read_nothing_ahead(file: int) -> None:
    """Tell the system that rows are far apart. What it keeps of them are clean pages,
    which it can drop at once."""
    if hasattr(fcntl, "F_RDAHEAD"):  # macOS
        fcntl.fcntl(file, fcntl.F_RDAHEAD, 0)
    elif hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
