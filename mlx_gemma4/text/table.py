"""The table of per-layer embeddings (PLE) where it stays on disk.

A token needs a few kilobytes of a table of gigabytes.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

import mlx.core as mx

from .rows import Packed, Part, StoredRows

KEPT_BYTES = 32 * 2**20  # of rows that were read, the last used ones
THREADS = 4  # that read a prompt's rows: a disk answers several at once
FEW = 16  # rows that are sooner read than given to threads

Row = tuple[bytes, ...]  # of each part


@dataclass(frozen=True)
class Layout:
    """Where the rows of a table lie, and what becomes of them.

    parts: the weight, then scales and biases of one that is `packed`.
    dtype: of the rows as they are given out.
    media: ids of placeholders, which have the row of `pad`.
    """

    rows: int
    parts: Sequence[Part]
    packed: Packed | None
    dtype: mx.Dtype
    pad: int = 0
    media: frozenset[int] = frozenset()

    @property
    def columns(self) -> int:
        """Values of a row."""
        stored = self.parts[0].columns
        return stored if self.packed is None else stored * 32 // self.packed.bits


class RowTable:
    """Stands in the place of an `mlx.nn.Embedding`, and has no parameters.

    It looks at the ids, so no compiled function can call it. Raises CheckpointError
    where a file cannot be opened.
    """

    def __init__(self, layout: Layout):
        self.layout = layout
        self._parts = [
            StoredRows(part, layout.dtype, layout.packed) for part in layout.parts
        ]
        self._kept: OrderedDict[int, Row] = OrderedDict()
        self._most = KEPT_BYTES // sum(part.width for part in layout.parts)
        self._ahead: list[Future[dict[int, Row]]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._lock = Lock()

    def __deepcopy__(self, memo: object) -> "RowTable":
        """It opens the files for itself."""
        return RowTable(self.layout)

    @property
    def nbytes(self) -> int:
        """What the whole table takes on disk."""
        return self.layout.rows * sum(part.width for part in self.layout.parts)

    def __call__(self, tokens: mx.array) -> mx.array:
        """The rows of `tokens` [...], which are waited for: [..., columns].

        Raises CheckpointError where they cannot be read, are damaged, or lie in a file
        that was changed; ValueError for an id without a row.
        """
        ids = self._rows_of(cast(list[int], tokens.flatten().tolist()))
        number = {row: i for i, row in enumerate(dict.fromkeys(ids))}
        with self._lock:
            found = self._found(number)
        rows = self._unpacked(found)
        if len(number) < len(ids):
            rows = rows[mx.array([number[row] for row in ids])]
        return rows.reshape(*tokens.shape, -1)

    def rows(self, numbers: Sequence[int]) -> mx.array:
        """The rows of these numbers as they are, [rows, columns]; none is kept.

        Raises CheckpointError as a call does.
        """
        found = self._read(numbers)
        return self._unpacked([found[number] for number in numbers])

    def prefetch(self, tokens: Iterable[int]) -> None:
        """Start to read the rows of `tokens`, which the next call is for."""
        with self._lock:
            wanted = set(self._rows_of(tokens))
            self._ahead = self._start([i for i in wanted if i not in self._kept])

    def _rows_of(self, tokens: Iterable[int]) -> list[int]:
        pad, media, count = self.layout.pad, self.layout.media, self.layout.rows
        rows = [pad if token in media else token for token in tokens]
        if rows and not (0 <= min(rows) and max(rows) < count):
            raise ValueError(
                f"Token ids {min(rows)} to {max(rows)}: the table of per-layer "
                f"embeddings has rows for 0 to {count - 1}."
            )
        return rows

    def _found(self, wanted: Iterable[int]) -> list[Row]:
        """What is kept, what was read ahead, and what is read now."""
        ahead, self._ahead = self._ahead, []
        read: dict[int, Row] = {}
        for part in ahead:
            if part.exception() is None:  # else it is raised where a row is wanted
                read |= part.result()
        missing = [i for i in wanted if i not in self._kept and i not in read]
        if 0 < len(missing) <= FEW:
            read |= self._read(missing)
        elif missing:
            for part in self._start(missing):
                read |= part.result()
        rows: list[Row] = []
        for i in wanted:
            row = read.get(i) or self._kept[i]
            rows.append(row)
            self._kept[i] = row
            self._kept.move_to_end(i)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return rows

    def _start(self, wanted: Sequence[int]) -> list[Future[dict[int, Row]]]:
        """Reading in threads, each of them its share, in the order of the file."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "rows")
        ordered, share = sorted(wanted), -(-len(wanted) // THREADS) or 1
        starts = range(0, len(ordered), share)
        shares = [ordered[start : start + share] for start in starts]
        return [self._threads.submit(self._read, share) for share in shares]

    def _read(self, wanted: Sequence[int]) -> dict[int, Row]:
        parts = [part.read(wanted) for part in self._parts]
        return dict(zip(wanted, zip(*parts, strict=True), strict=True))

    def _unpacked(self, rows: Sequence[Row]) -> mx.array:
        """[rows, columns] as an embedding in memory gives them."""
        columns = zip(self._parts, zip(*rows, strict=True), strict=True)
        arrays = [part.array(column) for part, column in columns]
        packed = self.layout.packed
        if packed is None:
            return arrays[0]
        mode: Any = packed.mode
        return mx.dequantize(
            *arrays,
            group_size=packed.group_size,
            bits=packed.bits,
            mode=mode,
            dtype=self.layout.dtype,
        )
