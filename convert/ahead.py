"""Bytes of the Hub's files, fetched before they are asked for, some pieces at a time.

A fast line is idle while one answer is waited for, and one connection seldom fills it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread

from mlx_gemma4.hub.cache import HubFile

from .ranges import Ranges, Stopped

CONNECTIONS = 8
PIECE = 8 * 2**20  # bytes at most, but for a longer part
JUMPS = 32  # parts of a piece that lie apart, each an answer to wait for
AHEAD = 12  # pieces in memory; a stop loses them


@dataclass(frozen=True, order=True)
class Part:
    """Bytes `start` to `end` of a file."""

    file: Path
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(eq=False)
class Piece:
    """Parts that are taken one after the other, and what has come of them."""

    parts: list[Part]
    data: dict[Part, memoryview] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def runs(self) -> list[Part]:
        """The same bytes in as few parts as possible."""
        runs: list[Part] = []
        for part in sorted(self.parts):
            if runs and (runs[-1].file, runs[-1].end) == (part.file, part.start):
                runs[-1] = Part(part.file, runs[-1].start, part.end)
            else:
                runs.append(part)
        return runs


class Ahead:
    """Fetches what is expected in threads of its own.

    files: at the Hub, by the path that parts of them bear.
    """

    def __init__(self, ranges: Ranges, files: Mapping[Path, HubFile]) -> None:
        self.files = files
        self._ranges = ranges
        self._changed = Condition()
        self._expected: dict[Part, Piece] = {}
        self._coming: Iterator[Piece] = iter(())
        self._held = 0  # pieces that are fetched or being fetched
        self._closed = False

    def expect(self, parts: Iterable[Part]) -> None:
        """Begins to fetch `parts`, in the order in which they will be taken."""
        pieces, size, jumps, end = list[Piece](), PIECE, 0, None
        for part in parts:
            if not len(part):
                continue
            size += len(part)
            jumps += (part.file, part.start) != end
            end = part.file, part.end
            if size > PIECE or jumps > JUMPS:
                pieces.append(Piece([]))
                size, jumps = len(part), 0
            pieces[-1].parts.append(part)
            self._expected[part] = pieces[-1]
        self._coming = iter(pieces)
        for _ in range(min(CONNECTIONS, len(pieces))):
            # Such a thread is not waited for when the program ends.
            Thread(target=self._work, daemon=True).start()

    def take(self, part: Part) -> memoryview:
        """The bytes, once each; what was not expected is fetched now.

        Raises what `Ranges.read` does.
        """
        piece = self._expected.pop(part, None)
        if piece is None:
            return self._fetched(part)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or piece.data or piece.error)
            if piece.error is not None:
                raise piece.error
            if self._closed:
                raise Stopped
            data = piece.data.pop(part)
            if not piece.data:
                self._held -= 1
                self._changed.notify_all()
        return data

    def close(self) -> None:
        """Wakes whoever waits, with `Stopped`, and fetches no more."""
        self._ranges.stop()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (piece := self._next()) is not None:
            data, error = dict[Part, memoryview](), None
            try:
                for run in piece.runs:
                    fetched = self._fetched(run)
                    for part in piece.parts:
                        if part.file == run.file and run.start <= part.start < run.end:
                            begin = part.start - run.start
                            data[part] = fetched[begin : begin + len(part)]
            except Exception as found:  # told to whoever takes it
                error = found
            with self._changed:
                piece.data, piece.error = data, error
                self._changed.notify_all()

    def _next(self) -> Piece | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._held < AHEAD)
            if self._closed or (piece := next(self._coming, None)) is None:
                return None
            self._held += 1
            return piece

    def _fetched(self, part: Part) -> memoryview:
        file = self.files[part.file]
        return memoryview(self._ranges.read(file, part.start, len(part)))
