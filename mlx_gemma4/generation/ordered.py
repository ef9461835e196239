"""Many answers, made several at once, in the order in which they are asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..decoding.batch import ROWS, Batch, Row
from ..decoding.needs import GaveWay
from ..model import Gemma4
from ..prompt.processor import Processor
from .answer import Chunk
from .loop import stream_generate

AHEAD = 64  # answers begun while one before them is not at its end

Ask = Callable[[], Mapping[str, Any]]


def in_order(
    model: Gemma4, processor: Processor, asked: Iterable[Ask], rows: int = ROWS
) -> Iterator[Iterator[Chunk]]:
    """The chunks of each answer; what is left of one is given up for the next.

    asked: gives the options of `stream_generate`, `messages` or `tokens` among them,
        once there is a row for the answer. What it raises, its answer raises.
    rows: how many answers are made at once, as far as there is memory. One that gave
        way to those before it is made again behind them.
    """
    line = _Line(model, processor, iter(asked), rows)
    try:
        while (one := line.first()) is not None:
            yield line.chunks(one)
            line.leave(one)
    finally:
        for one in line.coming:
            line.end(one)


@dataclass(eq=False)
class _One:
    """An answer.

    chunks: those that nobody has taken yet.
    options: what it is made with, as long as it may have to be made again.
    again: whether it has.
    """

    options: Mapping[str, Any] | None = None
    again: bool = False
    row: Row[Chunk] | None = None
    chunks: deque[Chunk] = field(default_factory=deque)
    error: Exception | None = None


class _Line:
    def __init__(
        self, model: Gemma4, processor: Processor, asked: Iterator[Ask], rows: int
    ) -> None:
        self.coming: deque[_One] = deque()
        self._model, self._processor = model, processor
        self._asked: Iterator[Ask] | None = asked
        self._batch: Batch[Chunk] = Batch(model, rows)
        self._broken: Exception | None = None  # what asking raised

    def first(self) -> _One | None:
        """The next answer; None behind the last. Raises what asking raised."""
        self._fill()
        if self.coming:
            return self.coming[0]
        if self._broken is not None:
            raise self._broken
        return None

    def chunks(self, one: _One) -> Iterator[Chunk]:
        """Those of an answer, as they come."""
        while True:
            while one.chunks:
                yield one.chunks.popleft()
            if one.row is None and not one.again:
                break
            self._fill()
            self._step()
        if one.error is not None:
            raise one.error

    def leave(self, one: _One) -> None:
        self.end(one)
        self.coming.remove(one)

    def end(self, one: _One) -> None:
        if one.row is not None:
            self._batch.remove(one.row)

    def _fill(self) -> None:
        """Lets answers begin while there are rows for them. One that gave way begins
        again where no other is in its way, and so does not give way again."""
        gave_way = next((one for one in self.coming if one.again), None)
        if gave_way is not None:
            if not self._batch:
                gave_way.again = False
                self._begin(gave_way)
            return
        while self._asked and not self._batch.full and len(self.coming) < AHEAD:
            try:
                ask = next(self._asked, None)
            except Exception as error:  # said once those before it have their answers
                ask, self._broken = None, error
            if ask is None:
                self._asked = None
                return
            one = _One()
            self.coming.append(one)
            self._begin(one, ask)

    def _begin(self, one: _One, ask: Ask | None = None) -> None:
        try:
            one.options = options = one.options if ask is None else ask()
            assert options is not None
            stream = stream_generate(self._model, self._processor, **options)
            one.row = self._batch.add(stream)
        except Exception as error:
            one.error = error

    def _step(self) -> None:
        rows = {one.row: one for one in self.coming if one.row is not None}
        for row in self._batch.step():
            one = rows[row]
            one.chunks += row.take()
            if not row.ended:
                continue
            one.row, one.again = None, isinstance(row.error, GaveWay)
            if one.again:
                one.chunks.clear()
            else:
                one.options, one.error = None, row.error
