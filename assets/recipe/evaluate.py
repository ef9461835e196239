"""Measure the checkpoint: greedy answers to held-out conversations, exact match.

`python -m assets.recipe.evaluate --count 200` prints a table, one row per skill.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
from transformers import Gemma4ForConditionalGeneration

from .batches import Batches
from .conversation import Conversation
from .heldout import HEARING, SEEING, SKILLS
from .listening import error_rate
from .media import tensors, written
from .network import load, target_logits
from .render import DEMO
from .shape import SOFT_TOKENS

TOGETHER = 50  # conversations answered together
ROWS = SKILLS | SEEING | HEARING
SEED = 1_000_003  # of the examination; training uses other seeds
END = "<turn|>"
LONGEST = 80  # tokens of an answer; the longest wanted has about 40


@dataclass(frozen=True)
class Case:
    """A prompt, the answer that is wanted, and the conversation with its media."""

    prompt: str
    answer: str
    chat: Conversation


def cases(
    skill: str, count: int, seed: int = SEED, budget: int = SOFT_TOKENS
) -> list[Case]:
    """Held-out conversations of a skill, the short ones first."""
    rng = Random(f"{seed}/{skill}")
    found: list[Case] = []
    for _ in range(count):
        chat = ROWS[skill](rng)
        full = written(chat, budget)
        prompt = written(chat, budget, last=len(chat.messages) - 1)
        if not full.startswith(prompt):
            raise ValueError(f"the template changes its past: {full!r}")
        found.append(Case(prompt, full[len(prompt) :].removesuffix("\n"), chat))
    return sorted(found, key=lambda case: len(case.prompt))


@torch.inference_mode()
def complete(
    model: Gemma4ForConditionalGeneration,
    batches: Batches,
    exam: list[Case],
    budget: int = SOFT_TOKENS,
) -> list[str]:
    """Greedy answers up to and including the stop token."""
    rows = [batches.encode(case.prompt) for case in exam]
    width = max(map(len, rows))
    inputs = torch.full((len(rows), width), batches.pad)
    mask = torch.zeros_like(inputs)
    for i, row in enumerate(rows):
        inputs[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    # The reference annotates `generate` for a protocol no model of its satisfies.
    out = cast(Any, model).generate(
        input_ids=inputs,
        attention_mask=mask,
        max_new_tokens=LONGEST,
        do_sample=False,
        pad_token_id=batches.pad,
        eos_token_id=[1, batches.turn_end, batches.response],
        **tensors([case.chat for case in exam], budget),
    )
    texts: list[str] = []
    for row in out[:, width:].tolist():
        while row and row[-1] == batches.pad:
            row.pop()
        texts.append(batches.tokenizer.decode(row, skip_special_tokens=False))
    return texts


@torch.inference_mode()
def right_when_forced(
    model: Gemma4ForConditionalGeneration,
    batches: Batches,
    case: Case,
    budget: int = SOFT_TOKENS,
) -> bool:
    """Whether greedy decoding would give the wanted answer, from one forward pass."""
    prompt, answer = batches.encode(case.prompt), batches.encode(case.answer)
    ids = torch.tensor([prompt + answer])
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    wanted[0, len(prompt) - 1 : -1] = True
    media = tensors([case.chat], budget)
    logits = target_logits(model, ids, torch.ones_like(ids), wanted, media)
    return logits.argmax(-1).tolist() == answer


def score(
    model: Gemma4ForConditionalGeneration, batches: Batches, count: int
) -> dict[str, float]:
    """Exact match in percent per skill, the quick way; for the training log."""
    shares: dict[str, float] = {}
    for skill in SKILLS:
        hits = [right_when_forced(model, batches, c) for c in cases(skill, count, 1)]
        shares[skill] = round(100 * sum(hits) / count, 1)
    return shares


def main() -> None:
    """Print the table for the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--errors", type=int, default=0, help="print some per skill")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="only these")
    parser.add_argument("--budget", type=int, default=SOFT_TOKENS, help="of pictures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, batches = load(args.model), Batches(args.model, 0, 0)
    print("| skill | measured | n |\n|---|---|---|")
    for row in args.rows:
        exam = cases(row, args.count, args.seed, args.budget)
        examine = heard if row in HEARING else exact
        result, wrong = examine(model, batches, exam, args.budget)
        print(f"| {row} | {result} | {args.count} |", flush=True)
        if args.errors and wrong:
            shown = wrong[: args.errors]
            answers = complete(model, batches, shown, args.budget)
            for case, answer in zip(shown, answers, strict=True):
                print(f"{case.prompt!r}\n  wanted   {case.answer!r}")
                print(f"  answered {answer!r}")


def exact(
    model: Gemma4ForConditionalGeneration,
    batches: Batches,
    exam: list[Case],
    budget: int,
) -> tuple[str, list[Case]]:
    """The share of answers that are exact, and the cases that are not."""
    wrong = [c for c in exam if not right_when_forced(model, batches, c, budget)]
    return f"{100 * (1 - len(wrong) / len(exam)):.1f} %", wrong


def heard(
    model: Gemma4ForConditionalGeneration,
    batches: Batches,
    exam: list[Case],
    budget: int,
) -> tuple[str, list[Case]]:
    """The word error rate of recordings, and the cases with errors."""
    answers: list[str] = []
    for i in range(0, len(exam), TOGETHER):
        answers += complete(model, batches, exam[i : i + TOGETHER], budget)
    both = list(zip(exam, answers, strict=True))
    pairs = [(c.answer.removesuffix(END), a.removesuffix(END)) for c, a in both]
    wrong = [case for case, answer in both if case.answer != answer]
    return f"{error_rate(pairs):.1f} % word errors", wrong


if __name__ == "__main__":
    main()
