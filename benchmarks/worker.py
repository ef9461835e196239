"""One program in a process of its own; `compare.py` starts it and tells it what to do.

    python worker.py NAME FOLDER DTYPE STARTED

It loads the checkpoint and answers each line of JSON on stdin with one on stdout. Times
are seconds: `wall`, and `cpu` of all threads of this process. STARTED is the time at
which it was started, so that the start-up holds the interpreter's own.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from implementations import IMPLEMENTATIONS, Loaded

WARM_UP = 4  # tokens decoded before anything is timed


@dataclass
class Session:
    """What the process does between two lines."""

    loaded: Loaded
    tokens: list[int] = field(default_factory=list)
    answer: Iterator[int] = field(default_factory=lambda: iter(()))

    def first(self, prompt: list[int]) -> dict[str, Any]:
        """The first answer of the process, a short one."""
        spent = self.prefill(prompt, WARM_UP + 2)
        self.decode(WARM_UP)
        return spent

    def prefill(self, prompt: list[int], most: int) -> dict[str, Any]:
        """From the call to the first token. The processor time also holds the step
        after it, which every program computes ahead."""
        import mlx.core as mx

        mx.clear_cache()
        mx.reset_peak_memory()
        wall, cpu = time.perf_counter(), time.process_time()
        self.answer = self.loaded.start(prompt, most)
        self.tokens = [next(self.answer)]
        wall = time.perf_counter() - wall
        self.loaded.synchronize()
        return {"wall": wall, "cpu": time.process_time() - cpu}

    def decode(self, count: int) -> dict[str, Any]:
        """`count` more tokens, waiting for the one computed ahead."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.tokens += [next(self.answer) for _ in range(count)]
        self.loaded.synchronize()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def end(self) -> dict[str, Any]:
        import mlx.core as mx

        return {
            "tokens": self.tokens,
            "mlx_bytes": mx.get_peak_memory(),
            "rss_bytes": peak_rss(),
        }

    def gap(self, prompt: list[int], a: int, b: int) -> dict[str, Any]:
        assert self.loaded.gap is not None
        return {"gap": self.loaded.gap(prompt, a, b)}


def peak_rss() -> int:
    """The most memory this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held before exec
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    name, folder, dtype, started = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a program prints is not an answer
    loaded = IMPLEMENTATIONS[name][1](Path(folder), dtype)
    loaded.synchronize()
    start_up = {"wall": time.time() - float(started), "cpu": time.process_time()}
    print(json.dumps(start_up | {"step": loaded.prefill_step}), file=replies)
    session = Session(loaded)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        print(json.dumps(getattr(session, method)(*arguments)), file=replies)


if __name__ == "__main__":
    main()
