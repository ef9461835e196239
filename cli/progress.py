"""A bar for work that takes a while: one line on stderr that goes away again.

It is drawn on a terminal only. What is counted in bytes is told elsewhere too, in a
line now and then. rich is imported once a bar is drawn: it costs 40 ms.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlx_gemma4.reading.sizes import size

from .render import ERASE_LINE, Screen, printable

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 28  # of the bar
NARROW = 60  # columns of a terminal that has no room for the speed
INTERVAL = 0.1  # seconds between two drawings
STEPS = 10  # lines in all, where stderr is no terminal


class Progress:
    """How far a job is. `total`, 0 where nobody knows, and what is `done` in any unit,
    shown by `label`."""

    def __init__(
        self, screen: Screen, label: str, total: float, in_bytes: bool = False
    ) -> None:
        self.screen = screen
        self.label = label
        self.total = total
        self.in_bytes = in_bytes
        self.done = 0.0
        self._started = time.perf_counter()
        self._drawn = -INTERVAL
        self._told = 0  # of STEPS
        self._line = bar_line(in_bytes) if screen.draws else None
        self.show()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hide()

    def update(self, done: float) -> None:
        self.done = min(done, self.total)
        self.show()

    def advance(self, count: float) -> None:
        """However often: it is not drawn each time."""
        self.done += count
        if self._line is None:
            self._tell()
        elif time.perf_counter() - self._drawn >= INTERVAL:
            self.show()

    def show(self) -> None:
        if self._line is not None:
            self._drawn = time.perf_counter()
            line = self._line(printable(self.label), self.done, self.total)
            print(f"{ERASE_LINE}{line}", end="", file=sys.stderr, flush=True)

    def hide(self) -> None:
        if self._line is not None:
            self.screen.passed()

    def note(self, text: str) -> None:
        """A line beside the answer; the bar moves on below it."""
        self.hide()
        self.screen.note(text)
        self.show()

    def _tell(self) -> None:
        step = int(self.done * STEPS // max(1, self.total))
        if self.in_bytes and not self.screen.as_json and step > self._told:
            self._told = step
            seconds = time.perf_counter() - self._started
            line = transfer_line(self.label, self.done, self.total, seconds)
            print(line, file=sys.stderr, flush=True)


def bar_line(in_bytes: bool) -> Callable[[str, float, float], str]:
    """What makes a line of label, done and total, by calls from the start on."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    console = Console(stderr=True, highlight=False)
    room = console.width // 3
    label = Column(no_wrap=True, overflow="ellipsis", max_width=room)
    figure = Column(no_wrap=True)
    progress = Progress(
        TextColumn("{task.description}", markup=False, table_column=label),
        BarColumn(WIDTH),
        (DownloadColumn if in_bytes else TaskProgressColumn)(table_column=figure),
        *([TransferSpeedColumn(figure)] if in_bytes and console.width > NARROW else []),
        TimeRemainingColumn(compact=True, table_column=figure),
        console=console,
        auto_refresh=False,
    )
    task = progress.add_task("", total=None)

    def line(text: str, done: float, total: float) -> str:
        progress.update(task, description=text, completed=done, total=total or None)
        return _one_line(console, progress.get_renderable())

    return line


def _one_line(console: "Console", content: Any) -> str:
    """Below the full width, with room for ^C, which a terminal shows: it would go on in
    a second row, and the first would stay."""
    with console.capture() as captured:
        console.print(content, width=console.width - 3, height=1, no_wrap=True)
    return captured.get().rstrip("\n")


def transfer_line(label: str, done: float, total: float, seconds: float) -> str:
    """`Converting [#####-----] 3.20 GB of 9.30 GB · 410 MB/s · 0:15 left`."""
    filled = round(min(1.0, done / max(1, total)) * WIDTH)
    bar = "#" * filled + "-" * (WIDTH - filled)
    text = f"{label} [{bar}] {size(done)} of {size(total)}"
    if seconds <= 0 or not done:
        return text
    speed = done / seconds
    return f"{text} · {size(speed)}/s · {clock((total - done) / speed)} left"


def clock(seconds: float) -> str:
    """`0:35`, `12:05`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
