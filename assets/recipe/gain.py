"""Measure what drafts save: the CPU time of answers to held-out prompts, in turns.

`python -m assets.recipe.gain --count 5` runs this project's own decoder: without
drafts, with what `auto` decides, and with 1 to 6 drafts in each round.
"""

import argparse
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random
from statistics import median
from unittest.mock import patch

from mlx_gemma4 import load, stream_generate
from mlx_gemma4.decoding.pace import Pace

from .batches import Batches
from .evaluate import SEED, cases
from .heldout import SKILLS
from .render import DEMO

OFF, AUTO = "off", "auto"
FIXED = range(1, 7)  # drafts of a round


@dataclass(frozen=True)
class Run:
    """An answer: its CPU seconds with the prompt, and from the first token on."""

    whole: float
    decoding: float
    tokens: tuple[int, ...]
    drafted: int
    accepted: int


class Runs:
    """Answers of the demo, one mode after another."""

    def __init__(self) -> None:
        self.model, self.processor = load(DEMO)

    def answer(self, prompt: list[int], mode: str | int) -> Run:
        """The answer to a prompt's tokens; a number is that of drafts in a round."""
        fixed = isinstance(mode, int)
        draft = "assistant" if fixed else mode
        start = first = time.process_time()
        tokens: list[int] = []
        rows = (lambda *_: mode) if fixed else Pace.rows
        with patch.object(Pace, "rows", rows):
            chunks = stream_generate(
                self.model, self.processor, tokens=prompt, draft=draft
            )
            for chunk in chunks:
                if not tokens:
                    first = time.process_time()
                tokens.append(chunk.token)
                stats = chunk.stats
        end = time.process_time()
        assert stats is not None
        done = tuple(tokens), stats.drafted, stats.accepted
        return Run(end - start, end - first, *done)


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
    runs, modes = Runs(), (OFF, AUTO, *FIXED)
    whole: dict[tuple[str | int, int], list[float]] = defaultdict(list)
    decoding: dict[tuple[str | int, int], list[float]] = defaultdict(list)
    taken, drafted = Counter[str | int](), Counter[str | int]()
    asked = prompts(args.count)
    for mode in modes:
        runs.answer(asked[0], mode)  # what is done once is done
    for _ in range(args.rounds):
        for i, prompt in enumerate(asked):
            found = {mode: runs.answer(prompt, mode) for mode in modes}
            for mode, run in found.items():
                if run.tokens != found[OFF].tokens:
                    raise SystemExit(f"{mode} answers otherwise than {OFF}.")
                whole[mode, i].append(run.whole)
                decoding[mode, i].append(run.decoding)
                taken[mode] += run.accepted
                drafted[mode] += run.drafted
    print("| drafts | CPU seconds | gain | with the prompt | gain | taken |")
    print("|---|---|---|---|---|---|")
    totals: dict[tuple[str | int, int], float] = {}
    for mode in modes:
        cells: list[str] = []
        for n, times in enumerate((decoding, whole)):
            total = sum(median(times[mode, i]) for i in range(len(asked)))
            totals[mode, n] = total
            cells += [f"{total:.2f}", f"{totals[OFF, n] / total:.2f}x"]
        share = f"{100 * taken[mode] / drafted[mode]:.1f} %" if drafted[mode] else ""
        print(f"| {mode} | {' | '.join(cells)} | {share} |")


if __name__ == "__main__":
    main()
