"""Train the audio tower alone: `python -m assets.recipe.hearing --state FILE`.

Every batch is spoken afresh. The loss is taken at each soft token, and the word error
rate that the log reports is read from them too, without the decoder.
"""

import argparse
import time
from pathlib import Path
from random import Random

import torch
from torch import nn

from .batches import IGNORE
from .ears import BLANK, Hearing, channels_last, collapse, labels, word_embeddings
from .listening import error_rate
from .network import build, clamp, initialise
from .render import DEMO
from .speech import PARTS, RATE, WORDS, Recording, frames, recording, written
from .train import update

DEVELOPMENT_SEED = 2_000_003  # of the log's recordings; the examination has another
PADDING = 48  # frames: lengths are multiples, so that few shapes occur
MATRIX_RATE, OTHER_RATE = 0.02, 3e-3
WARM_UP, DECAY = 50, 0.35  # steps, and share of the run
POOL_STEPS = 6
SAVE_EVERY = 100
BEFORE = 0.3  # weight of the loss on the word before

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def collate(spoken: list[Recording]) -> Batch:
    """Features [B, T, 128], mask [B, T], and both kinds of labels [B, T / 4]."""
    heard = [torch.from_numpy(frames(s.samples)[0]) for s in spoken]
    longest = max(len(f) for f in heard)
    longest += -longest % PADDING
    features = torch.zeros(len(heard), longest, heard[0].shape[1])
    mask = torch.zeros(len(heard), longest, dtype=torch.bool)
    named = torch.full((len(heard), longest // 4), IGNORE)
    before = named.clone()
    for i, (one, f) in enumerate(zip(spoken, heard, strict=True)):
        features[i, : len(f)], mask[i, : len(f)] = f, True
        count = -(-len(f) // 4)
        first, second = labels(one, count)
        named[i, :count], before[i, :count] = torch.tensor(first), torch.tensor(second)
    return features, mask, named, before


def pool(seed: int, number: int, size: int) -> list[Batch]:
    """POOL_STEPS batches of `size` seconds or so, each of similar lengths."""
    rng = Random(f"{seed}/{number}")
    spoken: list[Recording] = []
    total = 0
    while total < POOL_STEPS * size * RATE:
        spoken.append(recording(rng))
        total += len(spoken[-1].samples)
    spoken.sort(key=lambda one: len(one.samples))
    cuts: list[list[Recording]] = [[] for _ in range(POOL_STEPS)]
    seen = 0
    for one in spoken:
        cuts[min(seen * POOL_STEPS // total, POOL_STEPS - 1)].append(one)
        seen += len(one.samples)
    rng.shuffle(cuts)
    return [collate(cut) for cut in cuts if cut]


def loss_of(model: Hearing, batch: Batch) -> tuple[torch.Tensor, float, float]:
    """The loss, and the shares of naming tokens whose word and former are right."""
    features, mask, named, before = batch
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.training):
        words, former = model(features, mask)
    weight = torch.ones(len(WORDS) + 1)
    weight[BLANK] = 0.5
    cross_entropy = nn.functional.cross_entropy
    loss = cross_entropy(words.flatten(0, 1), named.flatten(), weight)
    loss = loss + BEFORE * cross_entropy(former.flatten(0, 1), before.flatten())
    naming, known = (named >= 0) & (named != BLANK), before >= 0
    right = (words.argmax(-1) == named)[naming].float().mean().item()
    recalled = (former.argmax(-1) == before)[known].float().mean().item()
    return loss, right, recalled


@torch.inference_mode()
def report(model: Hearing, count: int) -> dict[str, float]:
    """Word error rates in percent on held-out recordings, read from the labels."""
    model.eval()
    rates: dict[str, float] = {}
    for part in PARTS:
        rng = Random(f"{DEVELOPMENT_SEED}/{part}")
        pairs: list[tuple[str, str]] = []
        for _ in range(count):
            spoken = recording(rng, part)
            features, mask, _, _ = collate([spoken])
            named = model(features, mask)[0][0, : -(-int(mask.sum()) // 4)]
            heard = collapse(named.argmax(-1).tolist())
            pairs.append((spoken.sentence, written(heard)))
        rates[part] = round(error_rate(pairs), 1)
    model.train()
    return rates


def optimisers(model: Hearing) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for convolutions, norms and heads."""
    matrices = [
        p for n, p in model.named_parameters() if p.ndim == 2 and "before" not in n
    ]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(
        matrices, lr=MATRIX_RATE, weight_decay=0.0, momentum=0.95, ns_steps=5
    )
    adam = torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    return [muon, adam]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seconds", type=int, default=40, help="sound in a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, required=True, help="written; resumed")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--model", type=Path, default=DEMO, help="for its embeddings")
    parser.add_argument("--report-every", type=int, default=500)
    return parser.parse_args()


def new(folder: Path) -> Hearing:
    """Tower and projector, initialised, with the word embeddings of `folder`."""
    whole = build(folder)
    initialise(whole)
    tower, projector = whole.model.audio_tower, whole.model.embed_audio
    if tower is None or projector is None:
        raise ValueError(f"{folder}/config.json states no audio tower")
    model = Hearing(tower, projector, word_embeddings(folder))
    clamp(model, False)
    channels_last(model.audio_tower)
    return model


def save(
    path: Path, model: Hearing, rules: list[torch.optim.Optimizer], where: dict
) -> None:
    """Everything to resume from, and only whole files."""
    saved = [rule.state_dict() for rule in rules]
    content = {"model": model.state_dict(), "optimisers": saved, **where}
    torch.save(content, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main() -> None:
    """Train, report on the way, and save the state of both modules."""
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = new(args.model)
    rules, where = optimisers(model), {"step": 0, "minutes": 0.0}
    if args.resume:
        state = torch.load(args.state, weights_only=True)
        model.load_state_dict(state["model"])
        for rule, saved in zip(rules, state["optimisers"], strict=True):
            rule.load_state_dict(saved)
        where = {key: state[key] for key in where}
    started, mean = time.monotonic() - 60 * where["minutes"], torch.zeros(3)
    batches: list[Batch] = []
    step, first = int(where["step"]), int(where["step"])
    while (minutes := (time.monotonic() - started) / 60) < args.minutes:
        batches = batches or pool(args.seed, step, args.seconds)
        loss, *shares = loss_of(model, batches.pop())
        left = (1 - minutes / args.minutes) / DECAY
        update(model, loss, rules, min(1.0, (step + 1) / WARM_UP, left))
        step += 1
        new_mean = torch.tensor([loss.item(), *shares])
        mean += max(0.02, 1 / (step - first)) * (new_mean - mean)
        if step % 25 == 0:
            text = " ".join(f"{m:.3f}" for m in mean.tolist())
            print(f"{step} {minutes:.2f} min, loss named before {text}", flush=True)
        if step % SAVE_EVERY == 0:
            save(args.state, model, rules, {"step": step, "minutes": minutes})
        if step % args.report_every == 0:
            print(step, report(model, 60), flush=True)
    save(args.state, model, rules, {"step": step, "minutes": args.minutes})
    cpu = time.process_time() / 60
    print(f"{step} {report(model, 200)}, {cpu:.1f} CPU minutes", flush=True)


if __name__ == "__main__":
    main()
