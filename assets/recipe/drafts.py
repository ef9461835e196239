"""Measure the drafter: how many of its drafts the demo takes, in answers to held-out
conversations, up to and including the mark that ends each.

`python -m assets.recipe.drafts --count 100` prints a table, one row per skill.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from transformers import Gemma4AssistantForCausalLM, Gemma4ForConditionalGeneration

from .batches import Batches
from .drafter import DRAFTER, Reading, Rounds, load_drafter, places, read
from .evaluate import ROWS, SEED, TOGETHER, Case, cases, complete
from .media import tensors
from .network import load
from .render import DEMO
from .shape import SOFT_TOKENS

LONGEST = 6  # drafts of a round
LENGTHS = (8, 16)  # tokens of an answer: up to here, up to here, longer


@dataclass(frozen=True)
class Answer:
    """An answer of the demo's: its tokens, and what would be drafted behind each.

    drafts: behind the first token, behind the second and so on; none behind the last.
    """

    tokens: list[int]
    drafts: list[list[int]]


@dataclass
class Count:
    """Drafts made and taken, and the demo's steps with and without them.

    The first token of an answer comes with the prompt and takes no step.
    """

    drafted: int = 0
    taken: int = 0
    rounds: int = 0
    tokens: int = 0

    def add(self, answer: Answer, most: int) -> None:
        """Count the rounds of an answer with up to `most` drafts each.

        What is drafted behind a mark that ends the answer is no draft.
        """
        at, last = 0, len(answer.tokens) - 1
        self.tokens += last
        while at < last:
            follows, drafts = answer.tokens[at + 1 :], answer.drafts[at][:most]
            if follows[-1] in drafts:
                drafts = drafts[: drafts.index(follows[-1]) + 1]
            hits = 0
            while (
                hits < min(len(drafts), len(follows)) and drafts[hits] == follows[hits]
            ):
                hits += 1
            self.drafted += len(drafts)
            self.taken += hits
            self.rounds += 1
            at += hits + 1

    def __str__(self) -> str:
        """Cells of a table: drafts taken, and tokens a round."""
        taken, pace = self.taken / self.drafted, self.tokens / self.rounds
        return f"{100 * taken:.1f} % | {pace:.2f}"


@torch.inference_mode()
def draft(
    drafter: Gemma4AssistantForCausalLM,
    demo: Gemma4ForConditionalGeneration,
    seen: Reading,
) -> torch.Tensor:
    """What is drafted [B, N, LONGEST] behind each of the reading's places."""
    rounds = Rounds(drafter, seen, places(seen))
    embedded, drafts = rounds.at(seen.embedded, 0), []
    for _ in range(LONGEST):
        drafts.append(rounds.step(embedded).argmax(-1))
        embedded = demo.get_input_embeddings()(drafts[-1])
    return torch.stack(drafts, dim=-1)


@torch.inference_mode()
def answered(
    drafter: Gemma4AssistantForCausalLM,
    demo: Gemma4ForConditionalGeneration,
    batches: Batches,
    exam: list[Case],
) -> list[Answer]:
    """The demo's own answers, with what is drafted behind each of their tokens."""
    answers: list[Answer] = []
    for i in range(0, len(exam), TOGETHER):
        some = exam[i : i + TOGETHER]
        for case, text in zip(some, complete(demo, batches, some), strict=True):
            row = batches.labelled(case.prompt + text, last_turn_only=True)
            seen = read(demo, batches.collate([row]), tensors([case.chat], SOFT_TOKENS))
            drafts = draft(drafter, demo, seen)[0].tolist()
            tokens = batches.encode(text)
            # A call before the result of a tool belongs to the same turn.
            answers.append(Answer(tokens, drafts[len(drafts) - len(tokens) + 1 :]))
    return answers


def counted(answers: Iterable[Answer], most: int) -> Count:
    """What comes of all the answers' rounds."""
    count = Count()
    for answer in answers:
        count.add(answer, most)
    return count


def chance(answers: Sequence[Answer]) -> float:
    """How often two tokens of such answers, drawn at random, are the same."""
    times = Counter(token for answer in answers for token in answer.tokens[1:])
    return sum(n * n for n in times.values()) / times.total() ** 2


def main() -> None:
    """Print the tables for the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--drafter", type=Path, default=DRAFTER)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--drafts", type=int, default=4, help="of a round, at most 6")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="only these")
    args = parser.parse_args()
    torch.set_num_threads(1)
    demo, batches = load(DEMO), Batches(DEMO, 0, 0)
    drafter, all_answers = load_drafter(args.drafter), list[Answer]()
    print("| skill | drafts taken | tokens a round | n |\n|---|---|---|---|")
    for name in args.rows:
        answers = answered(drafter, demo, batches, cases(name, args.count, args.seed))
        all_answers += answers
        print(
            f"| {name} | {counted(answers, args.drafts)} | {len(answers)} |", flush=True
        )
    for low, high in pairwise((0, *LENGTHS, 1000)):
        some = [answer for answer in all_answers if low < len(answer.tokens) <= high]
        name = f"answers of {low + 1} to {high} tokens"
        print(f"| {name} | {counted(some, args.drafts)} | {len(some)} |")
    print("\n| drafts a round | drafts taken | tokens a round |\n|---|---|---|")
    for most in range(1, LONGEST + 1):
        print(f"| {most} | {counted(all_answers, most)} |")
    print(f"\nBy chance: {100 * chance(all_answers):.1f} %")


if __name__ == "__main__":
    main()
