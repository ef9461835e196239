"""One round of the programs of `compare.py`.

Every program gets a fresh process; they start one after the other, read the prompt one
after the other, and then decode in turns of a few tokens. Only one of them works at a
time.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

from programs import OURS, start

from mlx_gemma4.bench.child import Spent
from mlx_gemma4.bench.rounds import in_turn
from mlx_gemma4.bench.worker import Worker

TURN = 8  # tokens decoded before the next program's turn
SHORT = 16  # tokens of the first prompt


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


def run_round(
    pythons: Mapping[str, str], folder: Path, dtype: str, prompt: list[int], decode: int
) -> Round:
    """One round of all programs in the order of `pythons` (name -> interpreter)."""
    with ExitStack() as stack:
        workers = {}
        for name, python in pythons.items():
            begun = repr(time.time())
            worker = start(name, "text", name, folder, dtype, begun, python=python)
            workers[name] = stack.enter_context(worker)
        first = {n: Spent(**w.ask("first", prompt[:SHORT])) for n, w in workers.items()}
        most = decode + 2  # never the last one: some then compute a step less
        prefill = {
            n: Spent(**w.ask("prefill", prompt, most)) for n, w in workers.items()
        }
        decoding = decode_in_turns(workers, decode)
        samples = {
            name: Sample(
                Spent(**worker.ready["start_up"]),
                first[name],
                prefill[name],
                decoding[name],
                prefill_step=worker.ready["step"],
                **worker.ask("end"),
            )
            for name, worker in workers.items()
        }
        return Round(samples, _agreement(workers[OURS], prompt, samples))


def decode_in_turns(workers: Mapping[str, Worker], decode: int) -> dict[str, Spent]:
    spent: dict[str, list[Spent]] = {name: [] for name in workers}
    for turn, done in enumerate(range(0, decode, TURN), 1):
        for name in in_turn(workers, turn):
            took = workers[name].ask("decode", min(TURN, decode - done))
            spent[name].append(Spent(**took))
    return {name: reduce(add, each) for name, each in spent.items()}


def _agreement(
    judge: Worker, prompt: list[int], samples: Mapping[str, Sample]
) -> dict[str, Agreement]:
    """How each program's tokens compare with ours."""
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
            gap = judge.ask("gap", seen, ours[same], sample.tokens[same])
        agreement[name] = Agreement(same, gap)
    return agreement
