"""The tensors of a checkpoint folder as its files state them, before any is read.

Only safetensors files are read. Their headers are checked here (length, JSON, offsets
against the file's size), so that a damaged file is named before MLX opens it, and so
that names and shapes can be compared with the model for the price of the headers.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..config import ConfigWarning
from ..errors import CheckpointError
from ..reading.listing import listed
from ..reading.pointers import START, refuse_pointer
from .folders import INDEX, PICKLES, SINGLE, stale_index, weight_files, weight_map

__all__ = [
    "FLOATS",
    "INDEX",
    "PICKLES",
    "SINGLE",
    "SIZES",
    "WHOLE",
    "StoredTensor",
    "gathered",
    "header_of",
    "listed",
    "read_header",
    "read_tensors",
    "weight_files",
]

# Bytes per element, by the name the format gives a type.
SIZES = {
    **{"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "BOOL": 1, "I8": 1, "U8": 1},
    **{"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1},
}
FLOATS = ("F32", "F16", "BF16")
WHOLE = ("I64", "I32", "U32")  # of ids
LENGTH = 8  # bytes that state how long a header is
MAX_HEADER = 100_000_000  # the limit of the format's own implementation


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as the header of its file states it.

    file: its path; where it would lie, of one that is read from the Hub.
    dtype: as safetensors spells it, "BF16".
    offset: of its first byte, from the start of the file.
    """

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.dtype]


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Name -> tensor of all weight files in `folder`.

    Raises CheckpointError for a missing, damaged or escaping file; warns with
    ConfigWarning of an index that is passed over.
    """
    promised = weight_map(folder)
    if stale_index(folder):
        promised = {}
        warnings.warn(
            f"{folder / INDEX} names files that are not there: it is passed over, and "
            f"{SINGLE} is taken for the whole model.",
            ConfigWarning,
            stacklevel=2,
        )
    headers = {file: read_header(file) for file in weight_files(folder)}
    return gathered(folder, promised, headers)


def gathered(
    folder: Path,
    promised: Mapping[str, str],
    headers: Mapping[Path, Mapping[str, StoredTensor]],
) -> dict[str, StoredTensor]:
    """The tensors of all files, by the header of each.

    promised: tensor -> file as the index states it.
    Raises CheckpointError where two files hold the same, or one lacks what is promised.
    """
    tensors: dict[str, StoredTensor] = {}
    for file, stored in headers.items():
        if twice := sorted(stored.keys() & tensors.keys()):
            other = tensors[twice[0]].file.name
            raise CheckpointError(
                f"{file.name} and {other} in {folder} both hold {listed(twice)}."
            )
        tensors |= stored
    _check_index(folder, promised, tensors)
    return tensors


def _check_index(
    folder: Path, promised: Mapping[str, str], tensors: Mapping[str, StoredTensor]
) -> None:
    """What an index promises is there; files may hold more, which is named later."""
    absent = [
        f"{name} (in {file})"
        for name, file in sorted(promised.items())
        if name not in tensors or tensors[name].file != folder / file
    ]
    if absent:
        raise CheckpointError(
            f"{folder / INDEX} names tensors that are not there: {listed(absent)}. The "
            "files are of another version than their index: download all of them again."
        )


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file. Raises CheckpointError if it is damaged."""
    try:
        with file.open("rb") as stream:
            return header_of(file, stream, file.stat().st_size)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}.") from None


def header_of(file: Path, stream: BinaryIO, size: int) -> dict[str, StoredTensor]:
    """The same of a file of `size` bytes that begins as `stream` does."""
    header, start = _header(file, stream, size)
    tensors = {
        name: _entry(file, name, entry, start)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    _check_offsets(file, tensors.values(), start, size)
    return tensors


def _header(file: Path, stream: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The parsed header, and where the data behind it begin."""
    refuse_pointer(file, stream.read(len(START)))
    stream.seek(0)
    length = int.from_bytes(stream.read(LENGTH), "little")
    if size < LENGTH or length > min(size - LENGTH, MAX_HEADER):
        raise CheckpointError(
            f"{file} is truncated or no safetensors file: its header does not fit "
            f"into {size} bytes. Download it again."
        )
    raw = stream.read(length)
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{file} is damaged: its header is not valid JSON. Download it again."
        )
    return header, LENGTH + length


def _entry(file: Path, name: str, entry: Any, start: int) -> StoredTensor:
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise CheckpointError(
            f"{file} is damaged: its entry for {name} is malformed."
        ) from None
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise CheckpointError(f"{file}: {name} has the unknown type {dtype!r}.")
    tensor = StoredTensor(name, file, dtype, shape, start + begin)
    if end - begin != tensor.nbytes:
        raise CheckpointError(
            f"{file} is damaged: {name} has {end - begin} bytes for {dtype} {shape}."
        )
    return tensor


def _check_offsets(
    file: Path, tensors: Iterable[StoredTensor], start: int, size: int
) -> None:
    """Tensors follow each other without gap or overlap and fill the file."""
    position = start
    for tensor in sorted(tensors, key=lambda t: (t.offset, t.nbytes)):
        if tensor.offset != position:
            raise CheckpointError(f"{file} is damaged: its tensors overlap or gape.")
        position += tensor.nbytes
    if position > size:
        raise CheckpointError(
            f"{file} is truncated: {size - start} of {position - start} bytes of "
            "tensors are there. Download it again."
        )
    if position < size:
        raise CheckpointError(f"{file} is damaged: {size - position} bytes too many.")
