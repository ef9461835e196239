"""Train the demo's drafter: `python -m assets.recipe.drafting --minutes 20`.

It reads what the demo makes of conversations of trained combinations: of text, of
pictures, of recordings, and of its own answers to questions in the wrong order of
words. What is right is what the demo would say next.
"""

import argparse
import time
from pathlib import Path
from random import Random

import torch
from transformers import Gemma4ForConditionalGeneration

from .batches import Batches, Row, Tensors
from .conversation import Conversation, training_conversation
from .drafter import DRAFTER, Reading, build, initialise, loss_of, read, write_config
from .evaluate import Case, complete
from .joint import Feed, Feeds
from .media import written
from .network import load, save
from .render import DEMO
from .shape import SOFT_TOKENS
from .train import Plan, optimisers, update

STEPS = 6  # drafts of a round
TOKENS = 1280  # of text in a batch
TEXT_SEED = 7000  # other conversations than the demo was trained on
KINDS = ("text", "pictures", "text", "own", "text", "pictures", "text", "clips")
# Batches that are read once and come again; text is always new.
KEPT = {"pictures": 64, "clips": 48}
ANSWERED, TOGETHER = 360, 30  # conversations with answers of the demo's own


class Lessons:
    """What the demo makes of a batch, for each step."""

    def __init__(self, demo: Gemma4ForConditionalGeneration, seed: int) -> None:
        self.demo = demo
        self.text = Batches(DEMO, TEXT_SEED + seed, TOKENS)
        self.media = Feeds(TEXT_SEED + seed, True, 0)
        self.own = own_answers(demo, self.text, Random(f"{seed}/own"))
        self._kept: dict[tuple[str, int], Reading] = {}

    def __call__(self, step: int) -> Reading:
        """The reading for a step."""
        kind = KINDS[step % len(KINDS)]
        times = step // len(KINDS) * KINDS.count(kind)
        n = times + KINDS[: step % len(KINDS)].count(kind)
        if kind == "text":
            return read(self.demo, self.text(n), {})
        if kind == "own":
            return read(self.demo, self.own[n % len(self.own)], {})
        key = kind, n % KEPT[kind]
        if key not in self._kept:
            self._kept[key] = read(self.demo, *self._medium(*key))
        return self._kept[key]

    def _medium(self, kind: str, n: int) -> Feed:
        return self.media.pictures(n) if kind == "pictures" else self.media.clips(n)


def asked_wrongly(rng: Random) -> Conversation:
    """A conversation whose last question has its words in another order."""
    while True:
        chat = training_conversation(rng)
        if chat.messages[-2]["role"] == "user" and len(chat.messages[-1]) == 2:
            break
    words = str(chat.messages[-2]["content"]).split()
    rng.shuffle(words)
    chat.messages[-2]["content"] = " ".join(words)
    return chat


def own_answers(
    demo: Gemma4ForConditionalGeneration, batches: Batches, rng: Random
) -> list[Tensors]:
    """Batches of such conversations with what the demo answers."""
    chats = [asked_wrongly(rng) for _ in range(ANSWERED)]
    prompts = [
        written(chat, SOFT_TOKENS, last=len(chat.messages) - 1) for chat in chats
    ]
    exam = [Case(prompt, "", chat) for prompt, chat in zip(prompts, chats, strict=True)]
    exam.sort(key=lambda case: len(case.prompt))
    found: list[list[Row]] = []
    for i in range(0, len(exam), TOGETHER):
        some = exam[i : i + TOGETHER]
        both = zip(some, complete(demo, batches, some), strict=True)
        rows = [
            batches.labelled(c.prompt + text, last_turn_only=True) for c, text in both
        ]
        size = max(1, TOKENS // max(len(row[0]) for row in rows))
        found += [rows[i : i + size] for i in range(0, len(rows), size)]
    rng.shuffle(found)
    return [batches.collate(rows) for rows in found]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="of wall time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DRAFTER)
    return parser.parse_args()


def main() -> None:
    """Train, and write config.json and model.safetensors."""
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    demo, drafter = load(DEMO).requires_grad_(False), build()
    initialise(drafter, demo)
    rules, lessons = optimisers(drafter), Lessons(demo, args.seed)
    step, plan = 0, Plan(0, args.minutes, time.monotonic())
    means: dict[str, list[float]] = {kind: [0.0] * (STEPS + 1) for kind in KINDS}
    while plan.progress(step) < 1:
        loss, shares = loss_of(drafter, lessons(step), STEPS)
        update(drafter, loss, rules, plan.rate(step))
        mean = means[KINDS[step % len(KINDS)]]
        for i, value in enumerate((loss.item(), *shares)):
            mean[i] += max(0.05, 1 / (step // 8 + 1)) * (value - mean[i])
        step += 1
        if step % 80 == 0:
            print(step, f"cpu {time.process_time() / 60:.2f}")
            for kind, values in means.items():
                print(" ", kind, *(f"{value:.3f}" for value in values), flush=True)
    write_config(args.out)
    save(drafter, args.out)
    print(f"{step} steps, {time.process_time() / 60:.1f} CPU minutes", flush=True)


if __name__ == "__main__":
    main()
