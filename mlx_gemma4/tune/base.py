"""Which weights a folder holds: whether two models are the same, whatever their names.

Cheap for large models: of each tensor its name, type, shape and three of its pages
count. Training changes all of a tensor, so that no other model is taken for this one;
a few numbers changed by hand would not be seen.
"""

import hashlib
from pathlib import Path

from ..checkpoint.files import StoredTensor, read_tensors
from ..errors import CheckpointError

PAGE = 4096


def weights_digest(folder: Path) -> str:
    """A digest of a model's weights, into however many files they are divided.

    Raises CheckpointError where they cannot be read.
    """
    digest = hashlib.sha256()
    tensors = read_tensors(folder)
    by_file: dict[Path, list[StoredTensor]] = {}
    for tensor in tensors.values():
        by_file.setdefault(tensor.file, []).append(tensor)
    found: dict[str, bytes] = {}
    for file, stored in by_file.items():
        try:
            with file.open("rb", buffering=0) as stream:
                for tensor in stored:
                    content = hashlib.sha256()
                    for position in _positions(tensor.nbytes):
                        stream.seek(tensor.offset + position)
                        content.update(stream.read(min(PAGE, tensor.nbytes)))
                    found[tensor.name] = content.digest()
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}.") from None
    for name in sorted(found):
        stated = (name, tensors[name].dtype, tensors[name].shape)
        digest.update(repr(stated).encode() + found[name])
    return digest.hexdigest()


def _positions(size: int) -> list[int]:
    """Of the first, the middle and the last page of `size` bytes."""
    last = max(0, size - PAGE)
    return sorted({0, last // 2, last})
