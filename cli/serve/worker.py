"""One thread computes, for several at once; whoever else asks waits in line, and what
comes is handed over."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .engine import Engine
from .errors import BUSY, FAILED, Refused

if TYPE_CHECKING:
    from mlx_gemma4.decoding.batch import Batch, Row

T = TypeVar("T")
LINE = 32  # requests that wait at most
AWAKE = 0.25  # seconds that the worker sleeps at most
RETRY = 5  # seconds, which a client is told to wait where the line is full


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class _End:
    error: Exception | None


class Job(Generic[T]):
    """What was asked of the worker; `take` what comes of it.

    read, of: tokens of the prompt that are read, and of how many.
    """

    def __init__(self, work: Callable[[Engine], Iterator[T]]) -> None:
        self.work = work
        self.read = self.of = 0
        self.ended = False
        self._out: SimpleQueue[T | _End] = SimpleQueue()
        self._cancelled = threading.Event()
        self._why: Refused | None = None

    def take(self, seconds: float) -> T | None:
        """The next item; None where none came in that time, and where all have come,
        which `ended` tells apart. Raises what the work raised."""
        if self.ended:
            return None
        try:
            item = self._out.get(timeout=seconds)
        except Empty:
            return None
        if not isinstance(item, _End):
            return item
        self.ended = True
        if item.error is not None:
            raise item.error
        return None

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self, why: Refused | None = None) -> None:
        """The work ends before its next token or part of the prompt, and is forgotten
        if it has not begun: pictures may be in it. `why`: what is told to one who still
        waits."""
        self._why = self._why or why
        self._cancelled.set()
        self.work = _nothing

    def progress(self, read: int, of: int) -> None:
        """As `stream_generate` tells it. Raises Cancelled."""
        self.read, self.of = read, of
        if self._cancelled.is_set():
            raise Cancelled

    def begin(self, engine: Engine, batch: "Batch[Any]") -> "Row[T] | None":
        """Joins the batch, in the thread of the engine; None where it ended at once."""
        engine.progress = self.progress
        try:
            self.progress(0, 0)
            return batch.add(self.work(engine))
        except Exception as error:
            self.end(error)
            return None

    def hand(self, row: "Row[T]") -> None:
        """Hands over what has come."""
        for item in row.take():
            self.read = self.of
            self._out.put(item)
        if row.ended:
            self.end(row.error)

    def end(self, error: Exception | None = None) -> None:
        self._out.put(_End(self._why if isinstance(error, Cancelled) else error))


def _nothing(engine: Engine) -> Iterator[Any]:
    return iter(())


class Worker:
    """Runs jobs in the thread that calls `run`: as many at once as its engine has rows,
    the others in the order in which they came."""

    def __init__(self, line: int = LINE) -> None:
        self._line = line
        # Its `put` may interrupt itself, as a signal's handler does.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: list[Job] = []  # those in line that somebody waits for
        self._running: dict[Row[Any], Job] = {}
        self._stopping = False

    def submit(self, work: Callable[[Engine], Iterator[T]]) -> Job[T]:
        """Puts work in line. Raises Refused where too many wait or the server stops."""
        job = Job(work)
        with self._lock:
            if self._stopping:
                raise stopped()
            self._waiting = [each for each in self._waiting if not each.cancelled]
            if len(self._waiting) >= self._line:
                raise Refused(
                    429,
                    f"{self._line} requests are waiting already: try again later.",
                    BUSY,
                    code="busy",
                    retry_after=RETRY,
                )
            self._waiting.append(job)
            self._jobs.put(job)
        return job

    def run(self, engine: Engine) -> None:
        """Works until `stop`; who is in line then is refused."""
        batch = engine.batch()
        while self._running or not self._stopping:
            while not batch.full and (job := self._next()) is not None:
                row = job.begin(engine, batch)
                if row is not None:
                    self._running[row] = job
            for row in batch.step():
                self._running[row].hand(row)
                if row.ended:
                    del self._running[row]
            self._forget(batch)
        with self._lock:  # who still comes is told by `submit`
            for job in self._waiting:
                job.end(stopped())
            self._waiting.clear()

    def _forget(self, batch: "Batch[Any]") -> None:
        """Those that nobody waits for. One that gives way as another leaves has ended,
        which the next step tells."""
        for row, job in list(self._running.items()):
            if job.cancelled and not row.ended:
                batch.remove(row)
                job.end(Cancelled())
                del self._running[row]

    def _next(self) -> "Job | None":
        """The next one in line; None where there is none, and all goes on without."""
        while not self._stopping:
            try:
                # In parts: Python hears of a signal that came as it began to wait.
                job = self._jobs.get(not self._running, AWAKE)
            except Empty:
                if self._running:
                    return None
                continue
            if job is None or self._stopping:
                self._stopping = True
                return None
            with self._lock:
                self._waiting = [each for each in self._waiting if each is not job]
            return job
        return None

    def stop(self, at_once: bool = False) -> None:
        """No more work is taken. What runs goes on to its end, unless `at_once`. May be
        called by a signal's handler."""
        if not self._stopping:
            self._stopping = True
            self._jobs.put(None)
        if at_once:
            for job in list(self._running.values()):
                job.cancel(stopped())


def stopped() -> Refused:
    return Refused(503, "The server is stopping.", FAILED, code="stopping")
