"""What is converted: a folder, or a repository at the Hub of which only a part is here.

Of a repository the small files are in the Hub's cache, and so may weights be. The rest
is read from the Hub tensor by tensor and never stored.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlx_gemma4.checkpoint.copies import PIECE, Copy
from mlx_gemma4.checkpoint.files import StoredTensor, read_tensors
from mlx_gemma4.hub.cache import HubFile

from . import qat
from .ahead import Ahead
from .journal import Journal, fingerprint
from .ranges import Ranges
from .reader import Reader, part_of
from .stream import as_array

SAMPLED = 2**14  # weights of a tensor: hundreds of groups


@dataclass(frozen=True)
class Source:
    """folder: of all files; those at the Hub would lie there.

    repo and commit: at the Hub, if it is one. at_hub: the weight files that are read
    from there, by the path that they would have here. licence: as the Hub names it.
    """

    folder: Path
    tensors: Mapping[str, StoredTensor]
    repo: str | None = None
    commit: str | None = None
    at_hub: Mapping[Path, HubFile] = field(default_factory=dict)
    licence: str | None = None

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def fingerprints(self) -> dict[str, list[Any]]:
        """By file, what tells in a later run that it is the same one.

        Raises CheckpointError.
        """
        found = {
            path.name: [file.size, 0, file.digest] for path, file in self.at_hub.items()
        }
        here = {tensor.file for tensor in self.tensors.values()} - self.at_hub.keys()
        return found | {file.name: fingerprint(file) for file in sorted(here)}

    def reader(self, note: Callable[[str], None] = lambda text: None) -> Reader:
        """note: told of connections that are lost."""
        if self.repo is None or self.commit is None:
            return Reader()
        return Reader(Ahead(Ranges(self.repo, self.commit, note), self.at_hub))


def local(folder: Path) -> Source:
    """Raises CheckpointError."""
    return Source(folder, read_tensors(folder))


def measured(source: Source) -> dict[str, float]:
    """The share of each matrix's groups that lie on the Q4_0 grid, by a sample of it.

    Raises CheckpointError; ModelNotFoundError where the Hub is out of reach.
    """
    reader, samples = source.reader(), list[tuple[StoredTensor, int, int, int]]()
    for tensor in source.tensors.values():
        if len(tensor.shape) > 1 and tensor.shape[-1] % qat.GROUP == 0:
            rows = math.prod(tensor.shape[:-1])
            count = min(rows, max(1, SAMPLED // tensor.shape[-1]))
            # From the middle: the first rows of a table belong to unused tokens.
            samples.append((tensor, (rows - count) // 2, count, rows))
    try:
        reader.expect(part_of(*sample) for sample in samples)
        return {
            sample[0].name: _on_grid(sample[0], reader.rows(*sample))
            for sample in samples
        }
    finally:
        reader.close()


def _on_grid(tensor: StoredTensor, raw: np.ndarray) -> float:
    return qat.grid_share(as_array(raw, tensor)).on_grid


def compare_at_hub(
    copies: Iterable[Copy],
    source: Source,
    journal: Journal,
    note: Callable[[str], None],
) -> None:
    """`check_copies` of what is not here; the journal spares doing it once more.

    Raises CheckpointError, and ModelNotFoundError where the Hub is out of reach.
    """
    for copy in copies:
        if copy.tensor.name in journal.copies:
            continue
        note(f"Reading {copy.tensor.name}: it has to repeat {copy.original.name}.")
        reader, rows = source.reader(note), copy.tensor.shape[0]
        step = max(1, rows * PIECE // max(1, copy.tensor.nbytes))
        pieces = [(first, min(step, rows - first)) for first in range(0, rows, step)]
        pair = copy.tensor, copy.original
        reader.expect(part_of(t, *piece, rows) for piece in pieces for t in pair)
        try:
            for piece in pieces:
                one, other = (reader.rows(tensor, *piece, rows) for tensor in pair)
                if one.tobytes() != other.tobytes():
                    raise copy.untrue
        finally:
            reader.close()
        journal.copy(copy.tensor.name)
