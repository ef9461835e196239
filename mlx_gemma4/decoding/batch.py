"""Several answers at once: each asks for what it needs, and all get it in one step.

Weights are read once for all rows. Each row attends on caches of its own, so that none
is padded, rows come and go at any time, and each is what it would be alone. Where there
is no memory for all, those that came last wait.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import mlx.core as mx

from ..errors import CacheError
from ..model import Gemma4
from .needs import GaveWay, Need, fitting
from .prefix import PrefixCache
from .step import Found, Step, Together, step_of, together_of
from .stream import Given, Pause, Stream, Wanted, advance

T = TypeVar("T")
ROWS = 8  # at once, unless told otherwise


class Row(Generic[T]):
    """Work in a batch.

    items: what has come of it since you took them away last.
    ended: whether no more will come; then error is what it raised, if it did.
    """

    def __init__(self, work: Iterator[T]) -> None:
        self.items: list[T] = []
        self.ended = False
        self.error: Exception | None = None
        self.wanted: Wanted | None = None
        self._work: Iterator[T] = work
        self._begun = False

    @property
    def need(self) -> Need | None:
        return self._work.need if isinstance(self._work, Stream) else None

    @property
    def prefix(self) -> PrefixCache | None:
        return self.need.prefix if self.need else None

    def take(self) -> list[T]:
        """The items, which are yours."""
        items, self.items = self.items, []
        return items

    def go_on(self, given: Given | None = None) -> None:
        """To where it asks again, or pauses."""
        self.wanted, self._begun = None, True
        try:
            if isinstance(self._work, Stream):
                self._follow(self._work, given)
            elif (item := next(self._work, None)) is not None:
                self.items.append(item)
            else:
                self.ended = True
        except Exception as error:
            self.error, self.ended = error, True

    def _follow(self, stream: Stream[T], given: Given | None) -> None:
        item = advance(stream.steps, given)
        while item is not None and not isinstance(item, Wanted | Pause):
            self.items.append(item)
            item = advance(stream.steps)
        self.ended = item is None
        self.wanted = item if isinstance(item, Wanted) else None

    def fail(self, error: Exception) -> None:
        """What it waits for could not be computed."""
        assert isinstance(self._work, Stream)
        self.error, self.ended = error, True
        try:
            self._work.steps.throw(error)
        except Exception as raised:
            self.error = raised

    def give_way(self) -> bool:
        """Gives up what it has read, and ends if it had begun; whether that was any."""
        if self.prefix is None or not self.prefix.nbytes:
            return False
        if self._begun:
            self.fail(GaveWay())
        self.prefix.clear()
        return True

    def leave(self) -> None:
        """Nothing is kept of the work, whoever keeps the row."""
        if self.prefix is not None:
            self.prefix.busy = False
        self.wanted, self._work = None, iter(())

    def close(self) -> None:
        close = getattr(self._work, "close", None)
        if close is not None:
            close()
        self.ended = True


class Batch(Generic[T]):
    """Answers of one model, computed together.

        batch = Batch(model)
        rows = [batch.add(stream_generate(model, processor, q)) for q in questions]
        while batch:
            for row in batch.step():
                print(rows.index(row), *(chunk.text for chunk in row.take()))

    rows: how many there may be at once. As many of them go on as there is memory for,
        in the order in which they came; the first always does. One that has begun, and
        whose memory one before it cannot do without, ends with a RoomError.
    """

    def __init__(self, model: Gemma4, rows: int = ROWS) -> None:
        self._model, self._most = model, rows
        self._rows: list[Row[T]] = []
        self._others: deque[Row[T]] = deque()  # which ask for no step: in turn
        self._held_up: list[Row[T]] = []  # for which there is no memory now
        self._one: Step | None = None
        self._all: Together | None = None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Whether there is no place for another row, or no memory."""
        return len(self) >= self._most or bool(self._held_up)

    def add(self, work: Iterator[T]) -> Row[T]:
        """More work: a stream of `stream_generate` that nobody has begun to read. Any
        other iterator has its turn as well, an item each time.

        Raises ValueError where the batch has all its rows, and CacheError for a stream
        whose prefix cache another row has.
        """
        if len(self) >= self._most:
            raise ValueError(f"This batch has its {self._most} rows: take one out.")
        row = Row(work)
        if row.prefix is not None:
            if row.prefix.busy:
                raise CacheError("This prefix cache is in use by another answer.")
            row.prefix.busy = True
        if not self._rows:
            self._one = self._all = None  # weights may have been replaced
        self._rows.append(row)
        self._others.append(row)
        self._share()
        return row

    def remove(self, row: Row[T]) -> None:
        """Ends a row, wherever it is."""
        if row in self._rows:
            row.close()
            self._leave(row)

    def step(self) -> list[Row[T]]:
        """All rows that wait for the model get their next token; of those that read
        their prompts, or do other work, one goes on. Returns the rows that have items,
        or have ended and are out."""
        if any(row.need and row.need.outgrown for row in self._rows):
            self._share()
        going = [row for row in self._rows if self._goes(row)]
        waiting = [row for row in going if row.wanted]
        other = next(filter(self._goes, self._others), None)
        if other is not None:
            self._others.remove(other)
            other.go_on()
            if not other.wanted and not other.ended:
                self._others.append(other)
        self._give(waiting, len(going) == 1)
        told = [row for row in self._rows if row.items or row.ended]
        for row in told:
            if row.ended:
                self._leave(row)
        return told

    def _share(self) -> None:
        """Finds out for whom there is memory."""
        rows = [row for row in self._rows if row.need and not row.ended]
        while not (count := fitting([row.need for row in rows if row.need])):
            if not any(row.give_way() for row in reversed(rows[1:])):
                break
            rows = [row for row in rows if not row.ended]
        self._held_up = rows[max(1, count) :]

    def _goes(self, row: Row[T]) -> bool:
        return not row.ended and row not in self._held_up

    def _give(self, waiting: list[Row[T]], alone: bool) -> None:
        """Those of one token are computed at once; drafts are no row's but the last."""
        short = [r for r in waiting if r.wanted and r.wanted.tokens.shape[1] == 1]
        if len(short) < 2:
            short = []
        try:
            found = self._together([row.wanted for row in short if row.wanted])
        except Exception as error:
            for row in short:
                row.fail(error)
            short, found = [], []
        given = dict(zip(map(id, short), found, strict=True))
        for row in waiting:
            if row.ended or row.wanted is None:
                continue
            try:
                each = given.get(id(row)) or self._single(row.wanted)
            except Exception as error:
                row.fail(error)
                continue
            row.go_on(Given(each, alone))
            if not row.wanted and not row.ended:
                self._others.append(row)

    def _single(self, wanted: Wanted) -> Found:
        if self._one is None:
            self._one = step_of(self._model)
        return self._one(wanted.tokens, wanted.cache)

    def _together(self, wanted: list[Wanted]) -> list[Found]:
        if not wanted:
            return []
        if self._all is None:
            self._all = together_of(self._model)
        tokens = mx.concatenate([each.tokens for each in wanted])
        logits, hidden = self._all(tokens, [each.cache for each in wanted])
        return [(logits[i : i + 1], hidden[i : i + 1]) for i in range(len(wanted))]

    def _leave(self, row: Row[T]) -> None:
        self._rows.remove(row)
        if row in self._others:
            self._others.remove(row)
        row.leave()
        self._share()
