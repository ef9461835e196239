"""Answers without drafts and with them, in turns: what they gain, and what they lose.

    python benchmarks/drafts.py [--case demo quoting] [--bits 4] [--runs 5]

The table goes to stdout, progress to stderr. See README.md here.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from checkpoint import make
from programs import BUILD, say
from shapes import FIRST_WORD

from mlx_gemma4 import load
from mlx_gemma4.bench.drafting import NEW, OFF, Answered, Task, contenders
from mlx_gemma4.bench.rounds import ratios, spread, take_rounds
from mlx_gemma4.bench.timing import prompt_of
from mlx_gemma4.cache import LayerCache
from mlx_gemma4.convert import job
from mlx_gemma4.convert.survey import Wishes
from mlx_gemma4.decoding.drafts import DRAFTS
from mlx_gemma4.hub.resolve import resolve
from mlx_gemma4.model import Gemma4

ASK = {"role": "user", "content": "What is the capital of France?"}
SAY = {"role": "assistant", "content": "The capital of France is Paris."}


@dataclass(frozen=True)
class Case:
    """wrong: with a drafter that is never right and costs nothing itself."""

    model: str
    told: str
    wrong: bool = False


KINDS = (*DRAFTS, NEW)
CASES = {
    "demo": Case("demo", "the demo model rambles at temperature 3, without an end"),
    "demo-wrong": Case("demo", "the same, with a drafter that is never right", True),
    "quoting": Case("demo", "the demo model repeats an answer that it gave before"),
    "random": Case("e2b-like", "random weights of E2B's shape at temperature 1"),
    "random-wrong": Case(
        "e2b-like", "the same, with a drafter that is never right", True
    ),
}


class Wrong:
    """A drafter whose drafts are hardly ever right."""

    def propose(
        self,
        model: Gemma4,
        token: int,
        hidden: mx.array,
        cache: Sequence[LayerCache],
        count: int,
    ) -> mx.array:
        words = model.config.text_config.token_rows
        drafts = [(7919 * (cache[0].offset + i) + token) % words for i in range(count)]
        return mx.array([drafts], mx.int32)


def task_of(name: str, case: Case, most: int, rows: int) -> Task:
    if case.model != "demo":
        prompt = prompt_of(64, rows, FIRST_WORD)
        return Task(name, None, most, prompt, temperature=1, endless=True)
    if name == "quoting":
        return Task(name, [ASK, SAY] * 6 + [ASK], most, temperature=0, endless=True)
    return Task(name, [ASK], most, temperature=3, endless=True)


def folder_of(model: str, bits: int | None, work: Path) -> Path:
    """The checkpoint, converted where bits are told."""
    folder = resolve(model) if model == "demo" else make(BUILD, model, "float32", None)
    if bits is None:
        return folder
    plan = job.plan_folder(folder, Wishes(), model)
    job.run(folder, work / model, plan, model, lambda count: None)
    return work / model


def measure(
    name: str,
    kinds: Sequence[str],
    bits: int | None,
    most: int,
    runs: int,
    work: Path,
) -> dict[str, list[Answered]]:
    case = CASES[name]
    model, processor = load(folder_of(case.model, bits, work))
    if case.wrong:
        stand_in: Any = Wrong()
        model.drafter = stand_in
    task = task_of(name, case, most, model.config.text_config.token_rows)
    every = contenders(model, processor, task, unlearned=True)
    compared = {kind: run for kind, run in every.items() if kind in (OFF, *kinds)}

    def progress(contender: str, number: int) -> None:
        say(f"{name}: {contender}, {f'round {number}' if number else 'warm-up'}")

    found = take_rounds(compared, range(runs + 1), progress)
    return {contender: answers[1:] for contender, answers in found.items()}


def lines(found: Mapping[str, Sequence[Answered]]) -> list[str]:
    """Processor time of each kind of drafts, and how many times less it is than without
    any, round by round."""
    spent = {
        name: [1e3 * each.processor / (len(each.tokens) - 1) for each in answers]
        for name, answers in found.items()
    }
    text = []
    for name, answers in found.items():
        line = f"{name:10} {spread(spent[name]).text()} CPU ms a token"
        if name != OFF:
            gain = ratios(spent[OFF], spent[name]).text("{:.2f}".format)
            accepted = sum(each.accepted for each in answers)
            drafted = sum(each.drafted for each in answers)
            line += f", {gain} of {OFF}'s rate, {accepted} of {drafted} drafts accepted"
        text.append(line)
    said = {tuple(each.tokens for each in answers) for answers in found.values()}
    return text if len(said) == 1 else [*text, "They do not say the same!"]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--bits", type=int, choices=[4], help="convert them first")
    parser.add_argument("--decode", type=int, default=300, metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    options = parser.parse_args()
    for name in options.case:
        with tempfile.TemporaryDirectory() as work:
            found = measure(
                name,
                options.kind,
                options.bits,
                options.decode,
                options.runs,
                Path(work),
            )
        weights = f"{options.bits} bits" if options.bits else "float32"
        print(f"{name}, {weights}: {CASES[name].told}; {options.decode} tokens")
        print("\n".join([*lines(found), ""]), flush=True)


if __name__ == "__main__":
    main()
