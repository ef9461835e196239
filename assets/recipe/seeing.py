"""Teach the vision tower to see: `python -m assets.recipe.seeing --state seeing.pt`.

The tower alone, with three linear heads that are thrown away: which shape and colour
covers each soft token, and in which cell it is. One answer per soft token instead of
one sentence per picture is what makes it quick. Budgets and picture sizes are mixed
from the first step. At the end the clip bounds and the standardisation are measured.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Gemma4VisionModel

from .batches import Batches
from .network import build, calibrated, clamp, initialise, vision_tower
from .render import DEMO
from .scenes import COLOURS, PLACES, SHAPES, SIZES, draw, labels, patches, things
from .train import Plan, optimisers, update

KINDS = (len(SHAPES) + 1, len(COLOURS) + 1, len(PLACES) + 1)
NOTHING = 0.3  # weight of a soft token that nothing covers
# Soft tokens and pictures per batch; 30 is no budget of the processor, only cheap.
BUDGETS = ((30, 16), (30, 16), (70, 8), (70, 8), (140, 4))
CROWDED = 0.7  # share of batches with four to nine shapes
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def batch(rng: Random) -> Batch:
    """Pixels [B, P, 768], positions [B, P, 2] and labels [B * S, 3] of one size."""
    budget, count = rng.choice(BUDGETS)
    size, most = rng.choice(SIZES), rng.random() < CROWDED
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _ in range(count):
        drawn = draw(rng, things(rng, rng.randint(*((4, 9) if most else (1, 3)))), size)
        rows.append((*patches(drawn.image, budget), labels(drawn, budget)))
    pixels, positions, wanted = zip(*rows, strict=True)
    return (
        torch.from_numpy(np.stack(pixels)),
        torch.from_numpy(np.stack(positions)),
        torch.from_numpy(np.concatenate(wanted)),
    )


@torch.no_grad()
def whiten(tower: Gemma4VisionModel, rng: Random) -> None:
    """Start the patch embedding at the whitened principal components of patches."""
    pixels = torch.cat([batch(rng)[0].flatten(0, 1) for _ in range(16)]) * 2 - 1
    pixels = pixels[(pixels.std(1) > 0.02) | (torch.rand(len(pixels)) < 0.05)]
    values, vectors = torch.linalg.eigh((pixels.T @ pixels / len(pixels)).double())
    weight = tower.patch_embedder.input_proj.weight
    values, vectors = values.flip(0)[: len(weight)], vectors.flip(1)[:, : len(weight)]
    weight.copy_((vectors / (values + 2e-4 * values[0]).sqrt()).T)


def soft_tokens(tower: Gemma4VisionModel, data: Batch) -> torch.Tensor:
    """What the language model's projector gets: normalised soft tokens [B * S, 128]."""
    out = tower(pixel_values=data[0], pixel_position_ids=data[1]).last_hidden_state
    return nn.functional.rms_norm(out.float(), out.shape[-1:])


def loss_of(
    tower: Gemma4VisionModel, heads: nn.ModuleList, data: Batch
) -> tuple[torch.Tensor, list[float]]:
    """The loss, and the share of covered soft tokens right per head."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = soft_tokens(tower, data)
        guesses = [head(hidden).float() for head in heads]
    total, right = torch.zeros(()), []
    for guess, wanted in zip(guesses, data[2].T, strict=True):
        weight = torch.ones(guess.shape[1])
        weight[0] = NOTHING
        total = total + nn.functional.cross_entropy(guess, wanted, weight)
        covered = wanted > 0
        right.append((guess.argmax(-1) == wanted)[covered].float().mean().item())
    return total, right


@torch.no_grad()
def measure(tower: Gemma4VisionModel, rng: Random) -> None:
    """Standardise the soft tokens, and set the clip bounds."""
    with calibrated(tower):
        found = [tower(*batch(rng)[:2]).last_hidden_state for _ in range(60)]
    everything = torch.cat(found)
    tower.std_bias.copy_(everything.mean(0))
    tower.std_scale.copy_(1 / everything.std(0))


def word_targets(folder: Path) -> list[torch.Tensor]:
    """Per kind of label, the decoder's input for its words, [labels, hidden].

    The first row stands for nothing: the word "empty", and a space for the other kinds.
    """
    batches = Batches(folder, 0, 0)
    table = load_file(folder / "model.safetensors")
    weight = table["model.language_model.embed_tokens.weight"].float()

    def rows(words: Sequence[str], nothing: str) -> torch.Tensor:
        split = [batches.encode(f"a {word}")[1:] for word in (nothing, *words)]
        return (
            torch.stack([weight[ids].sum(0) for ids in split]) * weight.shape[1] ** 0.5
        )

    places = [place.removeprefix("at ").split("the ")[-1] for place in PLACES]
    return [rows(SHAPES, "empty"), rows(list(COLOURS), ""), rows(places, "")]


@torch.no_grad()
def fit_projector(
    tower: Gemma4VisionModel,
    projector: nn.Linear,
    words: list[torch.Tensor],
    rng: Random,
) -> None:
    """Start the projector where a soft token reads most like the words for it.

    Linear least squares, with a little ridge; no training.
    """
    found, wanted = [], []
    for _ in range(60):
        data = batch(rng)
        found.append(soft_tokens(tower, data))
        parts = [table[label] for table, label in zip(words, data[2].T, strict=True)]
        wanted.append(torch.stack(parts).sum(0))
    x, y = torch.cat(found), torch.cat(wanted)
    square = x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1])
    projector.weight.copy_(torch.linalg.solve(square, x.T @ y).T)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=17)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, required=True, help="written; resumed")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train the tower and write its state."""
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = build(DEMO)
    initialise(model)
    tower = vision_tower(model)
    heads = nn.ModuleList(nn.Linear(128, count) for count in KINDS)
    whiten(tower, Random(f"{args.seed}/whiten"))
    clamp(tower, False)
    both = nn.ModuleDict({"tower": tower, "heads": heads})
    step, done = 0, 0.0
    if args.resume:
        state = torch.load(args.state, weights_only=True)
        both.load_state_dict(state["both"])
        step, done = state["step"], state["done"]
    rules = optimisers(both)
    plan = Plan(0, args.minutes, time.monotonic() - 60 * done * args.minutes)
    mean = np.zeros(4)
    while plan.progress(step) < 1:
        loss, right = loss_of(tower, heads, batch(Random(f"{args.seed}/{step}")))
        update(both, loss, rules, plan.rate(step))
        step += 1
        mean += max(0.03, 1 / step) * (np.array([loss.item(), *right]) - mean)
        if step % 25 == 0:
            cpu, shares = time.process_time() / 60, " ".join(f"{m:.3f}" for m in mean)
            print(f"{step} loss shape colour cell {shares} cpu {cpu:.2f}", flush=True)
        if step % 200 == 0:
            done = plan.progress(step)
            state = {"both": both.state_dict(), "step": step, "done": done}
            torch.save(state, args.state)
    measure(tower, Random(f"{args.seed}/measure"))
    projector = model.get_submodule("model.embed_vision.embedding_projection")
    assert isinstance(projector, nn.Linear)
    fit_projector(tower, projector, word_targets(DEMO), Random(f"{args.seed}/fit"))
    parts = {"tower": tower.state_dict(), "projector": projector.state_dict()}
    torch.save(parts, args.state)
    print(f"{step} steps, {time.process_time() / 60:.1f} CPU minutes", flush=True)


if __name__ == "__main__":
    main()
