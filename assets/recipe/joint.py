"""Join the stages: `python -m assets.recipe.joint --text T --seeing S --hearing H`.

One step reads a batch of text conversations, one with pictures and one with
recordings. The audio tower stands still, the vision tower moves slowly, and text is
replayed all the while so that it is not forgotten. A batch depends on seed, step and
rank only, so an interrupted run goes on with --resume. For two processors start it
with `torchrun --nproc-per-node 2 -m` instead of `python -m`.
"""

import argparse
import os
import time
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file
from torch import distributed, nn
from transformers import Gemma4ForConditionalGeneration

from .batches import IGNORE, Batches, Tensors
from .conversation import Conversation
from .ears import channels_last
from .media import Sight, closed, opened, picture_turn, sound_turn, tensors, written
from .network import (
    build,
    calibrated,
    clamp,
    initialise,
    save,
    target_logits,
    vision_tower,
)
from .render import DEMO
from .scenes import SIZES
from .train import Plan, optimisers, rate_at, update

SCALE, TOWER_SCALE = 0.4, 0.2  # of the learning rates of the text stage
BUDGETS = (70,) * 8 + (140, 280)
PICTURES, CLIPS = 12, 6  # conversations in a batch; fewer at large budgets
TEXT_TOKENS = 512
TEXT_SEED = 1000  # other conversations than the text stage has seen
SAVE_EVERY = 100  # steps
Feed = tuple[Tensors, dict[str, torch.Tensor]]


class Feeds:
    """The batches of a step, one per kind."""

    def __init__(self, seed: int, sound: bool, rank: int) -> None:
        self.text = Batches(DEMO, TEXT_SEED * (rank + 1) + seed, TEXT_TOKENS)
        self.seed, self.sound, self.rank = f"{seed}/{rank}", sound, rank

    def pictures(self, step: int) -> Feed:
        """Conversations with pictures of one size."""
        rng = Random(f"{self.seed}/{step}/pictures")
        sight = Sight(rng.choice(SIZES), rng.choice(BUDGETS))
        chats = [opened(rng) for _ in range(max(2, PICTURES * 70 // sight.budget))]
        for chat in chats:
            picture_turn(chat, sight)
        return self._feed(chats, sight.budget)

    def clips(self, step: int) -> Feed:
        """Conversations with recordings."""
        rng = Random(f"{self.seed}/{step}/clips")
        chats = [opened(rng) for _ in range(CLIPS)]
        for chat in chats:
            sound_turn(chat)
        return self._feed(chats, 0)

    def _feed(self, chats: list[Conversation], budget: int) -> Feed:
        texts = [written(closed(chat), budget) for chat in chats]
        rows = self.text.collate([self.text.labelled(text) for text in texts])
        return rows, tensors(chats, budget)

    def __call__(self, step: int) -> list[Feed]:
        """Text, pictures and, where there is sound, recordings."""
        feeds = [(self.text(step), {}), self.pictures(step)]
        return [*feeds, self.clips(step)] if self.sound else feeds


def start_ranks() -> int:
    """Join the other processes that `torchrun` has started; returns the own number."""
    if "RANK" not in os.environ:
        return 0
    distributed.init_process_group("gloo")
    return distributed.get_rank()


def agreed(done: float) -> float:
    """The first process's clock, for all of them."""
    if not distributed.is_initialized():
        return done
    clock = torch.tensor([done], dtype=torch.float64)
    distributed.broadcast(clock, 0)
    return clock.item()


def share(model: nn.Module) -> None:
    """Average the gradients over all processes."""
    if not distributed.is_initialized():
        return
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def forward(
    model: Gemma4ForConditionalGeneration, feed: Feed
) -> tuple[torch.Tensor, float]:
    """The loss of a batch, and the share of target tokens predicted."""
    (inputs, labels, mask), media = feed
    wanted = labels != IGNORE
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = target_logits(model, inputs, mask, wanted, media).float()
    labels = labels[wanted]
    right = (logits.argmax(-1) == labels).float().mean().item()
    return nn.functional.cross_entropy(logits, labels), right


def assemble(args: argparse.Namespace) -> Gemma4ForConditionalGeneration:
    """The text stage's language model with the towers of the other two stages."""
    whole = build(DEMO)
    initialise(whole)
    model, name = whole.model, "model.language_model."
    stored = load_file(args.text)
    text = {key.removeprefix(name): t for key, t in stored.items() if name in key}
    model.language_model.load_state_dict(text, strict=True)
    seen = torch.load(args.seeing, weights_only=True)
    vision_tower(whole).load_state_dict(seen["tower"], strict=True)
    projector = model.get_submodule("embed_vision.embedding_projection")
    projector.load_state_dict(seen["projector"], strict=True)
    if args.hearing:
        take_hearing(whole, args.hearing)
    return whole


def take_hearing(whole: Gemma4ForConditionalGeneration, path: Path) -> None:
    """Take the audio tower and its projector out of the state of the hearing stage."""
    heard = torch.load(path, weights_only=True)["model"]
    for name in ("audio_tower", "embed_audio"):
        start = f"{name}."
        part = {k.removeprefix(start): t for k, t in heard.items() if start in k}
        whole.model.get_submodule(name).load_state_dict(part, strict=True)


def rules_for(whole: Gemma4ForConditionalGeneration) -> list[torch.optim.Optimizer]:
    """Optimisers of the language model with the projectors, and of the vision tower.

    The audio tower is frozen: it already says which word comes after which.
    """
    model = whole.model
    model.get_submodule("audio_tower").requires_grad_(False)
    names = ("language_model", "embed_vision", "embed_audio")
    readers = {name: model.get_submodule(name) for name in names}
    tower = model.get_submodule("vision_tower")
    return [*optimisers(nn.ModuleDict(readers), SCALE), *optimisers(tower, TOWER_SCALE)]


@torch.no_grad()
def measure(whole: Gemma4ForConditionalGeneration, feeds: Feeds) -> None:
    """Set the clip bounds of both towers from fresh pictures and recordings."""
    with calibrated(whole):
        for step in range(20):
            for (inputs, _, mask), media in feeds(step)[1:]:
                whole.model(input_ids=inputs, attention_mask=mask, **media)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--seeing", type=Path, required=True)
    parser.add_argument("--hearing", type=Path)
    parser.add_argument("--minutes", type=float, default=53)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, help="file to resume from and save to")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train all parts together, and write the checkpoint."""
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = assemble(args)
    clamp(model, False)
    channels_last(model.get_submodule("model.audio_tower"))
    sound = args.hearing is not None
    rules, feeds = rules_for(model), Feeds(args.seed, sound, start_ranks())
    step, done = 0, 0.0
    if args.resume:
        state = torch.load(args.state, weights_only=True)
        model.load_state_dict(state["model"])
        for rule, saved in zip(rules, state["optimisers"], strict=True):
            rule.load_state_dict(saved)
        step, done = state["step"], state["done"]
        if sound and not state["sound"]:  # the hearing stage has ended since
            take_hearing(model, args.hearing)
    plan = Plan(0, args.minutes, time.monotonic() - 60 * done * args.minutes)
    means = [[0.0, 0.0] for _ in range(3)]
    while (done := agreed(plan.progress(step))) < 1:
        losses: list[torch.Tensor] = []
        for mean, feed in zip(means, feeds(step), strict=False):
            loss, right = forward(model, feed)
            losses.append(loss)
            for i, value in enumerate((loss.item(), right)):
                mean[i] += max(0.04, 1 / (step % 1000 + 1)) * (value - mean[i])
        update(model, torch.stack(losses).mean(), rules, rate_at(step, done), share)
        step += 1
        if feeds.rank:
            continue
        if step % 20 == 0:
            report(step, means)
        if args.state and step % SAVE_EVERY == 0:
            where = {"step": step, "done": done, "sound": sound}
            keep(args.state, model, rules, where)
    if feeds.rank:
        return
    measure(model, Feeds(args.seed + 1, sound, 0))
    save(model, DEMO)
    print(f"{step} steps, {time.process_time() / 60:.1f} CPU minutes", flush=True)


def report(step: int, means: list[list[float]]) -> None:
    """Loss and share of tokens right, of text, pictures and recordings."""
    shares = ", ".join(f"{loss:.3f} {right:.3f}" for loss, right in means)
    cpu = time.process_time() / 60
    print(f"{step} text, pictures, clips: {shares} cpu {cpu:.2f}", flush=True)


def keep(
    path: Path,
    model: nn.Module,
    rules: list[torch.optim.Optimizer],
    where: dict[str, float],
) -> None:
    """Save everything to resume from, and only whole files."""
    saved = [rule.state_dict() for rule in rules]
    content = {"model": model.state_dict(), "optimisers": saved, **where}
    torch.save(content, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


if __name__ == "__main__":
    main()
