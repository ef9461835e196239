"""A progress bar with the time still to go: one line on stderr, terminals only."""

import shutil
import time

from .render import Screen

WIDTH = 24


class Progress:
    """How far a job is. `total` and what is `done` in any unit, shown by `label`."""

    def __init__(self, screen: Screen, label: str, total: float) -> None:
        self.screen = screen
        self.label = label
        self.total = total
        self.done = 0.0
        self.started = time.perf_counter()
        self.show()

    def update(self, done: float) -> None:
        self.done = min(done, self.total)
        self.hide()
        self.show()

    def show(self) -> None:
        if self.screen.as_json:
            return
        columns = shutil.get_terminal_size().columns
        elapsed = time.perf_counter() - self.started
        line = bar_line(self.label, self.done, self.total, elapsed)
        self.screen.passing(line[: columns - 1])  # a second row would stay behind

    def hide(self) -> None:
        self.screen.passed()


def bar_line(label: str, done: float, total: float, elapsed: float) -> str:
    """`talk.mp3 ━━━━━━──────  42 %  0:35 to go`."""
    share = min(done / total, 1.0) if total else 1.0
    full = int(share * WIDTH)
    bar = "━" * full + "─" * (WIDTH - full)
    line = f"{label} {bar} {share:4.0%}"
    if 0 < share < 1:
        line += f"  {clock(elapsed * (1 - share) / share)} to go"
    return line


def clock(seconds: float) -> str:
    """`0:35`, `12:05`, `1:02:03`."""
    whole = round(seconds)
    minutes, rest = whole // 60, whole % 60
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
