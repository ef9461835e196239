"""Rounds of measurements, taken in turns.

A machine is never quiet: what is compared has to run at the same time. In each round
every program gets a fresh process; they start one after the other, read the prompt one
after the other, and then decode in turns of a few tokens. Who comes first changes with
every round and every turn. Only one of them works at a time.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implementations import OURS

TURN = 8  # tokens decoded before the next program's turn
SHORT = 16  # tokens of the first prompt
WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Spent:
    """Seconds: on the clock, and of processors."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Sample:
    """What one process measured. `decode` is that of all tokens but the first."""

    start_up: Spent
    first: Spent
    prefill: Spent
    decode: Spent
    tokens: list[int]
    mlx_bytes: int
    rss_bytes: int
    prefill_step: int


@dataclass(frozen=True)
class Agreement:
    """How far the tokens equal ours: `same` of them, then `gap` is by how much our
    logit of ours exceeds that of theirs."""

    same: int
    gap: float | None = None


@dataclass(frozen=True)
class Round:
    samples: dict[str, Sample]
    agreement: dict[str, Agreement]


class WorkerError(RuntimeError):
    """A program failed; the message ends with what it printed last."""


class Worker:
    """A process that runs `script`."""

    script = WORKER

    def __init__(self, name: str, python: str, folder: Path, dtype: str):
        self.name = name
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, str(self.script), name, str(folder), dtype, repr(time.time())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            ready = self._reply()
        except BaseException:
            self.close()
            raise
        self.prefill_step: int = ready.pop("step")
        self.start_up = Spent(**ready)

    def ask(self, method: str, *arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        last = self._log.read().strip()[-2000:]
        raise WorkerError(f"{self.name} ended without an answer.\n{last}")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()
        self._log.close()


def run_round(
    pythons: Mapping[str, str],
    folder: Path,
    dtype: str,
    prompt: Sequence[int],
    decode: int,
) -> Round:
    """One round of all programs in the order of `pythons` (name -> interpreter)."""
    workers: dict[str, Worker] = {}
    try:
        for name, python in pythons.items():
            workers[name] = Worker(name, python, folder, dtype)
        return _take_turns(list(workers.values()), list(prompt), decode)
    finally:
        for worker in workers.values():
            worker.close()


def _take_turns(workers: list[Worker], prompt: list[int], decode: int) -> Round:
    first = {w.name: Spent(**w.ask("first", prompt[:SHORT])) for w in workers}
    most = decode + 2  # never the last one: some then compute a step less
    prefill = {w.name: Spent(**w.ask("prefill", prompt, most)) for w in workers}
    decoding = {w.name: Spent(0, 0) for w in workers}
    for turn, done in enumerate(range(0, decode, TURN)):
        for worker in workers[:: -1 if turn % 2 else 1]:
            spent = Spent(**worker.ask("decode", min(TURN, decode - done)))
            before = decoding[worker.name]
            decoding[worker.name] = Spent(
                before.wall + spent.wall, before.cpu + spent.cpu
            )
    samples = {
        w.name: Sample(
            w.start_up,
            first[w.name],
            prefill[w.name],
            decoding[w.name],
            prefill_step=w.prefill_step,
            **w.ask("end"),
        )
        for w in workers
    }
    return Round(samples, _agreement(workers, prompt, samples))


def _agreement(
    workers: list[Worker], prompt: list[int], samples: Mapping[str, Sample]
) -> dict[str, Agreement]:
    """How each program's tokens compare with ours."""
    (judge,) = (worker for worker in workers if worker.name == OURS)
    ours = samples[OURS].tokens
    agreement: dict[str, Agreement] = {}
    for name, sample in samples.items():
        if name == OURS:
            continue
        pairs = zip(ours, sample.tokens, strict=True)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(ours))
        gap = None
        if same < len(ours):
            seen = prompt + ours[:same]
            gap = judge.ask("gap", seen, ours[same], sample.tokens[same])["gap"]
        agreement[name] = Agreement(same, gap)
    return agreement


def has_module(python: str, module: str) -> bool:
    """Whether the interpreter `python` could import `module`."""
    look = f"import importlib.util as u, sys; sys.exit(not u.find_spec({module!r}))"
    try:
        return subprocess.run([python, "-c", look]).returncode == 0
    except OSError as error:
        raise WorkerError(f"{python} does not run: {error.strerror}.") from None


THIS_PYTHON = sys.executable
