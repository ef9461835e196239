"""How a tensor is divided for the work: blocks of rows, and where they are read."""

from collections.abc import Iterator
from dataclasses import dataclass

from .ahead import Part
from .plan import TensorPlan
from .reader import part_of

# Bytes of weights per block. Fast caches are small.
BLOCK = 8 * 2**20


@dataclass(frozen=True)
class Block:
    """Rows `first` … of a weight that become rows `to` … of the tensors of `path`."""

    path: str
    first: int
    to: int
    count: int


def module_rows(tensor: TensorPlan) -> int:
    """Rows of each of the tensor's modules."""
    return tensor.rows // len(tensor.modules)


def blocks(tensor: TensorPlan, limit: int) -> Iterator[Block]:
    """All rows of a tensor, path by path, at most `limit` at a time.

    A fused gate and up lie in turn, expert by expert: [experts, 2 f, inputs].
    """
    halves = len(tensor.modules)
    experts = tensor.shape[0] if halves > 1 and len(tensor.shape) > 2 else 1
    run = tensor.rows // halves // experts
    for half, path in enumerate(tensor.paths):
        for expert in range(experts):
            first, to = (expert * halves + half) * run, expert * run
            pieces = -(-run // limit)
            for i in range(pieces):  # of equal size, so that no thread waits long
                start, end = run * i // pieces, run * (i + 1) // pieces
                yield Block(path, first + start, to + start, end - start)


def reads(tensor: TensorPlan, block_bytes: int) -> Iterator[Part]:
    """What is read of a tensor, in turn."""
    for block in blocks(tensor, most_rows(tensor, block_bytes)):
        for source in tensor.sources.values():
            yield part_of(source, block.first, block.count, tensor.rows)


def row_bytes(tensor: TensorPlan) -> int:
    return max(1, tensor.source_bytes // max(1, tensor.rows))


def most_rows(tensor: TensorPlan, block_bytes: int) -> int:
    """The most rows of a block."""
    return max(1, block_bytes // row_bytes(tensor))
