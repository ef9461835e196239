"""The tensors of a checkpoint folder as its files state them, before any is read.

Only safetensors files are read. Their headers are checked here (length, JSON, offsets
against the file's size), so that a damaged file is named before MLX opens it, and so
that names and shapes can be compared with the model for the price of the headers.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

from ..errors import CheckpointError
from ..reading.json_file import read_object

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
# Formats that run code when they are opened.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Bytes per element, by the name the format gives a type.
SIZES = {
    **{"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "BOOL": 1, "I8": 1, "U8": 1},
    **{"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1},
}
FLOATS = ("F32", "F16", "BF16")
MAX_HEADER = 100_000_000  # the limit of the format's own implementation
LFS_POINTER = b"version https://git-lfs"
SHOWN = 8
LONGEST_NAME = 255


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as the header of its file states it.

    file: its path, or its name in a Hub repository that is not downloaded yet.
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


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """The first few items, and how many more there are."""
    shown = separator.join(items[:SHOWN])
    rest = len(items) - SHOWN
    return f"{shown}{separator}and {rest} more" if rest > 0 else shown


def read_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Name -> tensor of all weight files in `folder`.

    Raises CheckpointError for a missing, damaged or escaping file.
    """
    promised = _weight_map(folder)
    tensors: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        stored = read_header(file)
        if twice := sorted(stored.keys() & tensors.keys()):
            other = tensors[twice[0]].file.name
            raise CheckpointError(
                f"{file.name} and {other} in {folder} both hold {listed(twice)}."
            )
        tensors |= stored
    absent = [
        f"{name} (in {file})"
        for name, file in sorted(promised.items())
        if name not in tensors or tensors[name].file != folder / file
    ]
    if absent:
        raise CheckpointError(
            f"{folder / INDEX} names tensors that are not there: {listed(absent)}."
        )
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of `folder`, all present and inside it.

    Symbolic links may only lead to the blobs of the same Hub cache entry.
    Raises CheckpointError.
    """
    if (folder / INDEX).is_file():
        names = sorted(set(_weight_map(folder).values()))
    elif (folder / SINGLE).is_symlink() or (folder / SINGLE).is_file():
        names = [SINGLE]
    else:
        _refuse_without_weights(folder)
    for name in names:
        _check_name(folder, name)
        check_inside(folder, name)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {listed(missing)}. Download the model again."
        )
    return [folder / name for name in names]


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor -> file as the index states it; empty without an index."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    found = read_object(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path} has no weight_map.")
    if wrong := [name for name, file in found.items() if not isinstance(file, str)]:
        raise CheckpointError(f"{path} names no file for {listed(wrong)}.")
    return found


def _check_name(folder: Path, name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise CheckpointError(
            f"{folder / INDEX} names a file with {len(name)} characters: none can have "
            "as many."
        )
    parts = PurePosixPath(name)
    absolute = parts.is_absolute() or PureWindowsPath(name).anchor
    if absolute or ".." in parts.parts or "\\" in name:
        _refuse_outside(folder, name)
    if parts.suffix != ".safetensors":
        raise CheckpointError(
            f"{folder / INDEX} names {name!r}; weights must be .safetensors files."
        )


def check_inside(folder: Path, name: str) -> None:
    """Raises CheckpointError for a file of `folder` that is a link out of it.

    Links to the blobs of the same Hub cache entry are not.
    """
    root = folder.resolve()
    allowed = [root]
    if root.parent.name == "snapshots":  # the Hub's cache links files to its blobs
        allowed.append(root.parent.parent / "blobs")
    try:
        target = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):  # too long; half a character; a loop
        _refuse_outside(folder, name)
    if not any(target.is_relative_to(place) for place in allowed):
        _refuse_outside(folder, name)


def _refuse_outside(folder: Path, name: str) -> NoReturn:
    raise CheckpointError(f"{folder}: {name!r} leads out of the model's folder.")


def _refuse_without_weights(folder: Path) -> NoReturn:
    pickles = sorted(path.name for p in PICKLES for path in folder.glob(p))
    if pickles:
        raise CheckpointError(
            f"{folder} has weights only as {listed(pickles)}. Such files can run code "
            "and are not read: use a safetensors version of the model."
        )
    if shards := sorted(path.name for path in folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has {listed(shards)}, but neither {SINGLE} nor {INDEX}. "
            "Download the model again."
        )
    raise CheckpointError(f"{folder} has no weights ({SINGLE} or {INDEX}).")


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file. Raises CheckpointError if it is damaged."""
    try:
        size = file.stat().st_size
        header, start = _header(file, size)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}.") from None
    tensors = {
        name: _entry(file, name, entry, start)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    _check_offsets(file, tensors.values(), start, size)
    return tensors


def _header(file: Path, size: int) -> tuple[dict[str, Any], int]:
    """The parsed header, and where the data behind it begin."""
    with file.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if LFS_POINTER.startswith(start) and len(start) == 8:
            raise CheckpointError(
                f"{file} is a Git LFS pointer, not the weights: run `git lfs pull`."
            )
        if size < 8 or length > min(size - 8, MAX_HEADER):
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
    return header, 8 + length


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
