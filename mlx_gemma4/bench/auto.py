"""Checks, once for a machine and a kind of model, which kernels do there.

It happens in a process of its own (check.py) that gets little time: whatever a kernel
does there, the worst is that it is left out.
"""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import mlx.core as mx

from ..checkpoint.load import Prepared, prepare_model
from ..errors import BenchError
from ..hub.resolve import resolve
from ..kernels.choice import Answer, Note, is_auto, recall, remember
from ..kernels.launch import parse, setting
from .worker import running

SECONDS = 40.0  # for all of it
SILENCE = 10.0  # seconds that one use may take
START, ALL = "start", "all"  # in place of a use
ENDLESS = "does not come to an end"
CHECK = "mlx_gemma4.bench.check"


def check_kernels(path_or_repo: str | Path, dtype: mx.Dtype | None = None) -> Answer:
    """Find out which kernels are right and not slower here with a model like this one,
    and remember it: `load` uses them from then on.

    path_or_repo, dtype: as `load` takes them. Weights are not read.

    Takes some seconds, in a process of its own. Returns the uses that are on, and why
    others are not. Raises BenchError where there is no Metal, what `load` raises, and
    OSError where nothing can be remembered.
    """
    if not mx.metal.is_available():
        raise BenchError("MLX has no Apple GPU here, so there are no kernels to check.")
    prepared = prepare_model(resolve(path_or_repo), dtype)
    answer = examined(prepared)
    notes: list[str] = []
    remember(prepared.conditions, answer, notes.append)
    if notes:
        raise OSError(notes[0])
    return answer


def check_setting() -> None:
    """Raises ChatError where GEMMA4_KERNELS names a kernel that does not exist."""
    parse(setting())


def check_if_new(prepared: Prepared, note: Note) -> None:
    """With `auto` and Metal: check what is not known yet. Raises MemoryError for a
    model that would not fit."""
    if is_auto() and recall(prepared.conditions, lambda text: None) is None:
        prepared.check_memory()
        check_again(prepared, note)


def check_again(prepared: Prepared, note: Note) -> None:
    """With `auto` and Metal: check and remember, whatever was known. Nothing fails
    because of it."""
    if not is_auto():
        return
    note(
        "Checking which Metal kernels are right and not slower here with a model like "
        f"this one: a few seconds, {SECONDS:.0f} at most."
    )
    try:
        answer = examined(prepared)
    except OSError as error:
        note(f"Kernels are off: the check cannot be started. {error}.")
        return
    note(f"Kernels: {answer.text}.")
    remember(prepared.conditions, answer, note)


def examined(prepared: Prepared, command: Sequence[str] | None = None) -> Answer:
    """What the process finds out; another one goes on behind a use that ends it.
    Raises OSError where it cannot be started."""
    dtype = str(prepared.dtype).removeprefix("mlx.core.")
    start = [*(command or running(CHECK)), str(prepared.folder), dtype]
    out: dict[str, str] = {}
    ends = monotonic() + SECONDS
    while True:
        told = _listened([*start, *out], ends)
        out |= told.out
        if told.on is not None:
            return Answer(tuple(told.on), out)
        if told.trying == START:
            return Answer((), {ALL: f"the check {told.end}"})
        if monotonic() >= ends:
            return Answer((), out | {ALL: f"the check takes over {SECONDS:.0f} s"})
        out[told.trying] = told.end
        if told.trying == ALL:
            return Answer((), out)


@dataclass
class _Told:
    """What a process said until its end, and what that was like."""

    trying: str = START
    out: dict[str, str] = field(default_factory=dict)
    on: list[str] | None = None
    end: str = ""

    def take(self, line: str) -> None:
        what, *rest = json.loads(line)
        if what == "trying":
            (self.trying,) = rest
        elif what == "out":
            self.out[rest[0]] = rest[1]
        else:
            (self.on,) = rest


def _listened(command: Sequence[str], ends: float) -> _Told:
    told = _Told()
    with tempfile.TemporaryFile("w+") as words, _running(command, words) as process:
        buffer = ""
        while told.on is None:
            wait = ends - monotonic()
            if told.trying != START:
                wait = min(wait, SILENCE)
            read = _read(process, wait)
            if read is None:
                told.end = ENDLESS
                break
            if not read:
                told.end = f"ends the process: {_last(words)}"
                break
            *lines, buffer = (buffer + read).split("\n")
            for line in lines:
                with suppress(ValueError, TypeError):  # of what another program says
                    told.take(line)
    return told


@contextmanager
def _running(command: Sequence[str], words: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that ends with the context."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words
    )
    try:
        yield process
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # which a GPU that hangs may hold
            process.wait(SILENCE)
        assert process.stdout is not None
        process.stdout.close()


def _read(process: "subprocess.Popen[bytes]", seconds: float) -> str | None:
    """What it says next; nothing where it ended, None where it takes longer."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], max(0.0, seconds))[0]:
        return None
    return os.read(process.stdout.fileno(), 1 << 16).decode(errors="replace")


def _last(words: Any) -> str:
    words.seek(0)
    said = words.read().split("\n")
    return next((line.strip() for line in reversed(said) if line.strip()), "no word")
