"""Heads that are stored although config.json ties them to the embeddings.

Such a head is a copy, which nothing uses. Where it is none, the model was trained with
a head of its own, and leaving it out would change every answer: so its bytes are
compared, at the latest when the weights are read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ..config import AssistantConfig, Config
from ..errors import CheckpointError
from .files import StoredTensor
from .names import place

HEAD, TABLE = "lm_head", "language_model.embed_tokens"
PIECE = 8 * 2**20  # bytes compared at once


@dataclass(frozen=True)
class Copy:
    """A stored tensor that has to repeat `original`, byte by byte."""

    tensor: StoredTensor
    original: StoredTensor

    def __str__(self) -> str:
        return f"{self.tensor.name} repeats {self.original.name}"

    @property
    def untrue(self) -> CheckpointError:
        """What to raise where the values differ."""
        return CheckpointError(
            f"config.json ties {self.tensor.name} to {self.original.name}, but their "
            f"values differ. {_remedy(self.tensor.name)}"
        )


def tied_copies(
    config: Config | AssistantConfig, tensors: Mapping[str, StoredTensor]
) -> list[Copy]:
    """The parts of a stored head that is tied: its weight; scales and biases if packed.

    Only types and shapes are compared. Raises CheckpointError where those differ.
    """
    if not config.text_config.tie_word_embeddings:
        return []
    places = {name: place(name) for name in tensors}
    heads = sorted(
        (name for name, where in places.items() if where.module == HEAD),
        key=lambda name: not name.endswith(".weight"),  # tells most
    )
    tables = {w.parameter: n for n, w in places.items() if w.module == TABLE}
    copies = []
    for name in heads:
        kind = places[name].parameter.removeprefix(HEAD)
        table = tables.get(f"{TABLE}{kind}")
        if table is None:
            raise CheckpointError(
                f"config.json ties {name} to the embeddings, which have no tensor like "
                f"it. {_remedy(name)}"
            )
        copies.append(copy_of(tensors[name], tensors[table]))
    return copies


def copy_of(tensor: StoredTensor, original: StoredTensor) -> Copy:
    """The copy, not read yet. Raises CheckpointError where it cannot be one."""
    if (tensor.dtype, tensor.shape) != (original.dtype, original.shape):
        raise CheckpointError(
            f"config.json ties {tensor.name}, {tensor.dtype} {tensor.shape}, to "
            f"{original.name}, {original.dtype} {original.shape}, but they differ. "
            f"{_remedy(tensor.name)}"
        )
    return Copy(tensor, original)


def check_copies(
    copies: Iterable[Copy], advance: Callable[[int], None] = lambda count: None
) -> None:
    """Compare the bytes of each copy with its original's, in the files.

    advance: called with the bytes of each piece that was compared.
    Raises CheckpointError that names both where they differ.
    """
    for copy in copies:
        if not _is_same(copy, advance):
            raise copy.untrue


def _remedy(name: str) -> str:
    module = name.rpartition(".")[0]
    return (
        f"If {module} was trained on its own, set tie_word_embeddings to false in "
        "config.json; if not, the files do not belong together: download them again."
    )


def _is_same(copy: Copy, advance: Callable[[int], None]) -> bool:
    one, other = copy.tensor, copy.original
    try:
        with one.file.open("rb") as first, other.file.open("rb") as second:
            first.seek(one.offset)
            second.seek(other.offset)
            for start in range(0, one.nbytes, PIECE):
                count = min(PIECE, one.nbytes - start)
                if _read(first, one, count) != _read(second, other, count):
                    return False
                advance(count)
    except OSError as error:
        raise CheckpointError(
            f"{error.filename} cannot be read: {error.strerror}."
        ) from None
    return True


def _read(stream: BinaryIO, tensor: StoredTensor, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise CheckpointError(
            f"{tensor.file} ends within {tensor.name}: it was truncated. Download it "
            "again."
        )
    return data
