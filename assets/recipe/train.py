"""Train the demo checkpoint: `python -m assets.recipe.train --steps 4000`.

The learning rate warms up, stays flat and falls linearly over the last quarter.
A batch depends on seed and step only, so an interrupted run goes on with --resume
and a run may be cut short or prolonged before its last quarter.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import Gemma4ForConditionalGeneration

from .batches import IGNORE, Batches
from .evaluate import score
from .network import build, initialise, save, target_logits
from .render import DEMO
from .shape import write_all

SAVE_EVERY = 250  # steps
WARM_UP = 100
DECAY = 0.25  # share of the run over which the rate falls to zero
MATRIX_RATE = 0.02
OTHER_RATE = 2e-3


@dataclass
class Plan:
    """How long to train: a number of steps, or minutes of wall time."""

    steps: int
    minutes: float | None
    started: float

    def progress(self, step: int) -> float:
        """The share of the run that is done, 0 to 1."""
        if self.minutes is None:
            return step / self.steps
        return (time.monotonic() - self.started) / (60 * self.minutes)

    def rate(self, step: int) -> float:
        """The factor on the learning rates at `step`."""
        return rate_at(step, self.progress(step))


def rate_at(step: int, done: float) -> float:
    """The factor on the learning rates when a share `done` of the run is over."""
    return min(1.0, (step + 1) / WARM_UP, max(0.0, 1 - done) / DECAY)


def optimisers(model: nn.Module, scale: float = 1.0) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for tables, experts, norms and scalars.

    scale: of both learning rates.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        matrix = p.ndim == 2 and "embed_tokens" not in name and "router" not in name
        (matrices if matrix else others).append(p)
    muon = torch.optim.Muon(
        matrices, lr=scale * MATRIX_RATE, weight_decay=0.0, momentum=0.95, ns_steps=5
    )
    adam = torch.optim.AdamW(
        others, lr=scale * OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0
    )
    return [muon, adam]


def update(
    model: nn.Module,
    loss: torch.Tensor,
    optimizers: list[torch.optim.Optimizer],
    rate: float,
    share: Callable[[nn.Module], None] | None = None,
) -> None:
    """One step down the gradient of `loss`, its norm at most 1.

    share: called on the fresh gradients, to average them over processes.
    """
    loss.backward()
    if share:
        share(model)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def train_step(
    model: Gemma4ForConditionalGeneration,
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    optimizers: list[torch.optim.Optimizer],
    rate: float,
) -> tuple[float, float]:
    """One update; returns the loss and the share of target tokens predicted."""
    inputs, labels, mask = batch
    wanted = labels != IGNORE
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, labels = target_logits(model, inputs, mask, wanted), labels[wanted]
    loss = nn.functional.cross_entropy(logits.float(), labels)
    update(model, loss, optimizers, rate)
    right = (logits.argmax(-1) == labels).float().mean()
    return loss.item(), right.item()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, help="wall time instead of --steps")
    parser.add_argument("--tokens", type=int, default=768, help="per batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DEMO)
    parser.add_argument("--state", type=Path, help="file to resume from and save to")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--report-every", type=int, default=500)
    parser.add_argument("--report-count", type=int, default=30)
    return parser.parse_args()


def main() -> None:
    """Train, report held-out skills on the way, and write the checkpoint."""
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    if args.out != DEMO or not (args.out / "tokenizer.json").exists():
        write_all(args.out)
    model = build(args.out)
    initialise(model)
    batches, rules = Batches(args.out, args.seed, args.tokens), optimisers(model)
    step, plan = 0, Plan(args.steps, args.minutes, time.monotonic())
    if args.resume:
        state = torch.load(args.state, weights_only=True)
        model.load_state_dict(state["model"])
        for rule, saved in zip(rules, state["optimisers"], strict=True):
            rule.load_state_dict(saved)
        step = state["step"]
    loss = right = 0.0
    while plan.progress(step) < 1:
        result = train_step(model, batches(step), rules, plan.rate(step))
        step += 1
        loss += 0.02 * (result[0] - loss)
        right += 0.02 * (result[1] - right)
        if step % 50 == 0:
            cpu = time.process_time() / 60
            print(f"{step} loss {loss:.4f} right {right:.4f} cpu {cpu:.2f}", flush=True)
        if args.state and step % SAVE_EVERY == 0:
            saved = [rule.state_dict() for rule in rules]
            content = {"model": model.state_dict(), "optimisers": saved}
            torch.save(content | {"step": step}, args.state)
        if step % args.report_every == 0:
            print(step, score(model, batches, args.report_count), flush=True)
    save(model, args.out)
    print(f"{step} steps, {time.process_time() / 60:.1f} CPU minutes", flush=True)


if __name__ == "__main__":
    main()
