"""Measure what drafts save: the CPU time of answers to held-out prompts, in turns.

`python -m assets.recipe.gain --count 5` runs this project's own decoder: without
drafts, with what `auto` decides, and with 1 to 6 drafts in each round.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from unittest.mock import patch

from mlx_gemma4 import Gemma4, Processor, generate, load
from mlx_gemma4.decoding.drafts import Draft
from mlx_gemma4.decoding.pace import Pace

from .batches import Batches
from .evaluate import SEED, cases
from .heldout import SKILLS
from .render import DEMO

ALONE, OFF, AUTO = "the prompt alone", "off", "auto"
FIXED = range(1, 7)  # drafts of a round
Mode = str | int


@dataclass(frozen=True)
class Run:
    """An answer, the CPU seconds of it and its prompt, and how drafts fared."""

    seconds: float
    tokens: tuple[int, ...]
    drafted: int
    accepted: int


def answer(demo: tuple[Gemma4, Processor], prompt: list[int], mode: Mode) -> Run:
    """The answer to a prompt's tokens; a number is that of drafts in a round."""
    fixed, most = isinstance(mode, int), 1 if mode == ALONE else None
    draft: Draft = "assistant" if fixed else "auto" if mode == AUTO else "off"
    rows = (lambda *_: mode) if fixed else Pace.rows
    start = time.process_time()
    with patch.object(Pace, "rows", rows):
        found = generate(*demo, tokens=prompt, draft=draft, max_tokens=most)
    seconds, stats = time.process_time() - start, found.stats
    assert stats is not None
    return Run(seconds, tuple(found.tokens), stats.drafted, stats.accepted)


def prompts(count: int) -> list[list[int]]:
    """Held-out prompts of each skill in text."""
    batches = Batches(DEMO, 0, 0)
    found = [
        batches.encode(case.prompt)
        for skill in SKILLS
        for case in cases(skill, count, SEED)
    ]
    Random(0).shuffle(found)
    return found


def main() -> None:
    """Print a table: what each number of drafts costs and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5, help="prompts of each skill")
    parser.add_argument("--rounds", type=int, default=3, help="of all of them")
    args = parser.parse_args()
    demo, modes = load(DEMO), (ALONE, OFF, AUTO, *FIXED)
    runs: dict[tuple[Mode, int], list[Run]] = defaultdict(list)
    asked = prompts(args.count)
    for mode in modes:
        answer(demo, asked[0], mode)  # what is done once is done
    for _ in range(args.rounds):
        for i, prompt in enumerate(asked):
            for mode in modes:
                runs[mode, i].append(answer(demo, prompt, mode))
                told = runs[mode, i][-1].tokens
                if mode not in (ALONE, OFF) and told != runs[OFF, i][0].tokens:
                    raise SystemExit(f"{mode} answers otherwise than {OFF}.")
    report(runs, modes, len(asked))


def report(
    runs: dict[tuple[Mode, int], list[Run]], modes: Sequence[Mode], count: int
) -> None:
    """The table; the time of an answer is that behind its first token."""
    whole = {
        mode: sum(median(run.seconds for run in runs[mode, i]) for i in range(count))
        for mode in modes
    }
    print("| drafts | CPU seconds | gain | with the prompt | gain | taken |")
    print("|---|---|---|---|---|---|")
    for mode in modes[1:]:
        both = [(whole[each] - whole[ALONE], whole[each]) for each in (OFF, mode)]
        (off, all_off), (own, all_own) = both
        found = [run for i in range(count) for run in runs[mode, i]]
        drafted = sum(run.drafted for run in found)
        taken = sum(run.accepted for run in found)
        share = f"{100 * taken / drafted:.1f} %" if drafted else ""
        gains = (
            f"{own:.2f} | {off / own:.2f}x | {all_own:.2f} | {all_off / all_own:.2f}x"
        )
        print(f"| {mode} | {gains} | {share} |")


if __name__ == "__main__":
    main()
