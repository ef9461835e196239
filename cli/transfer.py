"""A bar on stderr for work that is counted in bytes."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from .render import ERASE_LINE, size

WIDTH = 28
INTERVAL = 0.2  # seconds between two drawings
STEPS = 10  # lines in all, where stderr is no terminal


class Bar:
    """`label [#####-----] 3.2 of 9.3 GB · 410 MB/s · 0:15 left`.

    Where stderr is no terminal, a line now and then instead. quiet: nothing at all.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.quiet = label, max(1, total), quiet
        self.done = self.skipped = 0
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._start = clock()
        self._drawn = -INTERVAL
        self._step = 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal and not self.quiet:
            print(ERASE_LINE, end="", file=sys.stderr, flush=True)

    def advance(self, count: int) -> None:
        self.done += count
        if self.quiet:
            return
        now = self._clock()
        if self._terminal:
            if now - self._drawn >= INTERVAL:
                self._drawn = now
                line = self.line(now - self._start)
                print(f"{ERASE_LINE}{line}", end="", file=sys.stderr, flush=True)
        elif self.done * STEPS // self.total > self._step:
            self._step = self.done * STEPS // self.total
            print(self.line(now - self._start), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        share = min(1.0, self.done / self.total)
        filled = round(share * WIDTH)
        bar = "#" * filled + "-" * (WIDTH - filled)
        text = f"{self.label} [{bar}] {size(self.done)} of {size(self.total)}"
        if seconds <= 0 or not self.done:
            return text
        speed = self.done / seconds
        left = (self.total - self.done) / speed
        return f"{text} · {size(round(speed))}/s · {duration(left)} left"


def duration(seconds: float) -> str:
    """`0:15`, `12:03`, `1:04:10`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
