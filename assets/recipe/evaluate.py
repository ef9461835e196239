"""Measure the checkpoint: greedy answers to held-out conversations, exact match.

`python -m assets.recipe.evaluate --count 200` prints a table, one row per skill.
"""

import argparse
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
from transformers import Gemma4ForConditionalGeneration

from .batches import Batches
from .heldout import SKILLS
from .network import load, target_logits
from .render import DEMO, render

ROWS = 50  # conversations answered together
SEED = 1_000_003  # of the examination; training uses other seeds
LONGEST = 80  # tokens of an answer; the longest wanted has about 40


def cases(skill: str, count: int, seed: int = SEED) -> list[tuple[str, str]]:
    """Prompts and wanted answers of held-out conversations, the short ones first."""
    rng = Random(f"{seed}/{skill}")
    found: list[tuple[str, str]] = []
    for _ in range(count):
        chat = SKILLS[skill](rng)
        full, prompt = render(chat), render(chat, last=len(chat.messages) - 1)
        if not full.startswith(prompt):
            raise ValueError(f"the template changes its past: {full!r}")
        found.append((prompt, full[len(prompt) :].removesuffix("\n")))
    return sorted(found, key=lambda case: len(case[0]))


@torch.inference_mode()
def complete(
    model: Gemma4ForConditionalGeneration, batches: Batches, prompts: list[str]
) -> list[str]:
    """Greedy answers up to and including the stop token."""
    rows = [batches.encode(prompt) for prompt in prompts]
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
    )
    texts: list[str] = []
    for row in out[:, width:].tolist():
        while row and row[-1] == batches.pad:
            row.pop()
        texts.append(batches.tokenizer.decode(row, skip_special_tokens=False))
    return texts


@torch.inference_mode()
def right_when_forced(
    model: Gemma4ForConditionalGeneration, batches: Batches, case: tuple[str, str]
) -> bool:
    """Whether greedy decoding would give the wanted answer, from one forward pass."""
    prompt, answer = map(batches.encode, case)
    ids = torch.tensor([prompt + answer])
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    wanted[0, len(prompt) - 1 : -1] = True
    logits = target_logits(model, ids, torch.ones_like(ids), wanted)
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
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, batches = load(args.model), Batches(args.model, 0, 0)
    print("| skill | exact match | n |\n|---|---|---|")
    for skill in SKILLS:
        exam = cases(skill, args.count, args.seed)
        answers: list[str] = []
        for i in range(0, len(exam), ROWS):
            prompts = [prompt for prompt, _ in exam[i : i + ROWS]]
            answers += complete(model, batches, prompts)
        pairs = zip(exam, answers, strict=True)
        wrong = [(case, answer) for case, answer in pairs if case[1] != answer]
        share = 100 * (1 - len(wrong) / args.count)
        print(f"| {skill} | {share:.1f} % | {args.count} |", flush=True)
        for (prompt, wanted), answer in wrong[: args.errors]:
            print(f"{prompt!r}\n  wanted   {wanted!r}\n  answered {answer!r}")


if __name__ == "__main__":
    main()
