"""What runs in the process of a `Worker`: answers, and what they cost.

The process calls `answers` before anything can print, answers once when it is ready,
and may let `serve` answer what it is asked then. This file needs nothing of this
project, so that other programs can be measured without it in their process.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def answers() -> Callable[[object], None]:
    """What sends an answer. Whatever else prints from now on does so on stderr."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda value: print(json.dumps(value, default=vars), file=replies)


def serve(session: object, answer: Callable[[object], None]) -> None:
    """Answers what is asked with the methods of `session`, until stdin ends."""
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        answer(getattr(session, method)(*arguments))


@dataclass(frozen=True)
class Spent:
    """Seconds: by the clock, and of the processors, of all threads."""

    wall: float
    cpu: float

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


class Stopwatch:
    """Runs from the moment it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Spent:
        wall, cpu = time.perf_counter(), time.process_time()
        return Spent(wall - self._wall, cpu - self._cpu)


def start_up(started: float) -> Spent:
    """Of this process until now; `started` is the `time.time()` of its parent when it
    was started, so that the interpreter's own start counts."""
    return Spent(time.time() - started, time.process_time())


def peak_rss() -> int:
    """The most memory this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held before exec
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
