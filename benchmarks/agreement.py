"""How often each program reads a 12B prompt as the reference does: right and wrong.

    python benchmarks/agreement.py [--python mlx-vlm=PATH] [--seeds 4] [--first 0]

Tiny random float32 checkpoints of 12B's shape, a new one for every seed, each read with
texts, pictures, a video, sounds and all in one prompt. All programs get the same
patches and samples. A case is right where every logit is within the tests' bar of the
reference in float64 (`tests/support/golden.py`). Needs torch and transformers.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from programs import (
    HERE,
    MLX_LM,
    MODULES,
    PeerError,
    Worker,
    failed,
    has_module,
    interpreters,
    need,
    say,
    start,
)

TESTS = HERE.parent / "tests"
sys.path += [str(TESTS / "support"), str(TESTS / "reference")]
SEES_NOTHING = {"vision_config": None}
HEARS_NOTHING = {"audio_config": None}
TEXTS = (5, 33, 70)  # tokens: windows hold eight


def cases(config: Mapping[str, Any], seed: int) -> Iterator[tuple[str, Any]]:
    """Kind and prompt; media in a random order."""
    import tiny
    import tiny_media

    for length in TEXTS:
        yield "text", tiny_media.Prompt(tiny.random_tokens(length, seed))
    seen = tiny_media.prompt({**config, **HEARS_NOTHING}, seed)
    yield "pictures and video", seen.padded
    yield "sound", tiny_media.prompt({**config, **SEES_NOTHING}, seed).padded
    yield "all at once", tiny_media.prompt(config, seed).padded


def save(file: Path, config: Mapping[str, Any], prompt: Any) -> None:
    """What logits.py reads."""
    tokens = np.array([prompt.tokens])
    types = np.zeros_like(tokens)
    for number, kind in enumerate(("image", "video", "audio"), 1):
        types[tokens == config[f"{kind}_token_id"]] = number
    arrays: dict[str, Any] = {"tokens": tokens, "types": types}
    for kind in ("pictures", "frames", "clips"):
        if media := getattr(prompt, kind):
            values, marks = (np.stack(part) for part in zip(*media, strict=True))
            arrays |= {f"{kind}.values": values, f"{kind}.marks": marks}
    np.savez(file, **arrays)


def judged(worker: Worker, file: Path, reference: Any) -> bool:
    import golden

    into = file.with_suffix(f".{worker.name}.npy")
    if error := worker.ask("logits", str(file), str(into)):
        say(f"{worker.name}: {error}")
        return False
    try:
        golden.check_exact(np.load(into), reference)
    except AssertionError:
        return False
    return True


def of_seed(
    seed: int, pythons: Mapping[str, str], folder: Path
) -> Iterator[tuple[str, str, bool]]:
    """Program, kind of case, and whether it was right."""
    import layouts
    import tiny_media
    import torch_exact
    import torch_model

    config = tiny_media.config_dict("12B")
    checkpoint = layouts.save(
        folder / str(seed), config, tiny_media.arrays(config, seed)
    )
    with ExitStack() as stack:
        workers = [
            stack.enter_context(start(name, "logits", name, checkpoint, python=python))
            for name, python in pythons.items()
        ]
        for number, (kind, prompt) in enumerate(cases(config, seed)):
            reference = torch_exact.both(
                config, seed, lambda m, p=prompt: torch_model.media_logits(m, config, p)
            )
            file = folder / f"{seed}-{number}.npz"
            save(file, config, prompt)
            for worker in workers:
                if kind == "text" or worker.name != MLX_LM:  # which reads text alone
                    yield worker.name, kind, judged(worker, file, reference)


def table(found: Mapping[tuple[str, str], list[bool]], programs: list[str]) -> str:
    kinds = list(dict.fromkeys(kind for _, kind in found))
    lines = ["| right of all cases | " + " | ".join(programs) + " |"]
    lines += ["|---" * (len(programs) + 1) + "|"]
    for kind in kinds:
        rows = [found.get((name, kind)) for name in programs]
        cells = [f"{sum(row)} of {len(row)}" if row else "none" for row in rows]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="12B cases right and wrong.")
    parser.add_argument("--python", nargs="*", default=(), metavar="NAME=PATH")
    parser.add_argument("--seeds", type=int, default=4, help="checkpoints")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    need({"torch": "torch", "transformers": "transformers"})
    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    try:
        known = interpreters(options.python)
        pythons = {n: p for n, p in known.items() if has_module(p, MODULES[n])}
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(options.first, options.first + options.seeds):
                for name, kind, right in of_seed(seed, pythons, Path(folder)):
                    found[name, kind].append(right)
    except PeerError as error:
        return failed(error)
    print(table(found, list(pythons)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
