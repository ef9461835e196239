"""What 4 bits cost the demo model: ours, mlx-lm's and mlx-vlm's default, side by side.

    python benchmarks/convert_quality.py [--python mlx-vlm=PATH] [--count 12]

Every conversion predicts the same held-out conversations as the original, in float32,
through this project's model; printed are bytes and the Kullback-Leibler divergence.
See README.md here.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

import mlx.core as mx
from programs import MLX_LM, MLX_VLM, MODULES, failed, has_module, interpreters, need

from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.checkpoint.files import INDEX, SIZES, read_tensors
from mlx_gemma4.checkpoint.names import place
from mlx_gemma4.convert import check, job
from mlx_gemma4.convert.survey import Wishes
from mlx_gemma4.errors import CheckpointError, PeerError
from mlx_gemma4.hub.resolve import resolve

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 1_000_003  # the examination's; training used others
PEERS = {
    MLX_LM: "from mlx_lm import convert",
    MLX_VLM: "from mlx_vlm.convert import convert",
}
NEEDED = {"espeakng_loader": "espeakng-loader", "torch": "torch"}  # of the recipe
RUN = "; convert({source!r}, mlx_path={out!r}, quantize=True)"
WIDTHS = (11, 11, 9, 9, 9, 8, 9)
TOWERS = ("vision_tower", "audio_tower", "embed_vision", "embed_audio")


def held_out(folder: Path, count: int) -> list[list[int]]:
    """Tokens of `count` conversations of every skill that training never met."""
    sys.path.insert(0, str(REPOSITORY))
    from assets.recipe.heldout import SKILLS
    from assets.recipe.render import render

    tokenizer, found = Tokenizer(folder), []
    for name, skill in SKILLS.items():
        rng = Random(f"{SEED}/{name}")
        found += [tokenizer.encode(render(skill(rng))) for _ in range(count)]
    return found


def for_peers(source: Path, work: Path) -> Path:
    """A copy with what the others need besides.

    mlx-lm reads the size of the vocabulary at the top level; mlx-vlm takes towers to be
    absent only where an index says so.
    """
    folder = work / "source"
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] = config["text_config"]["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = read_tensors(folder)
    index = {"metadata": {}, "weight_map": {n: t.file.name for n, t in tensors.items()}}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return folder


def ours(source: Path, out: Path) -> None:
    plan = job.plan_folder(source, Wishes(), "demo")
    job.run(source, out, plan, "demo", lambda count: None)


def theirs(name: str, python: str, source: Path, out: Path) -> str | None:
    """Converts with another program. Returns the last line of its failure."""
    code = PEERS[name] + RUN.format(source=str(source), out=str(out))
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or "no message").splitlines()[-1]


def sizes(folder: Path) -> tuple[int, int]:
    """Bytes of the language model's tensors, and of all."""
    text = every = 0
    for name, tensor in read_tensors(folder).items():
        count = math.prod(tensor.shape) * SIZES[tensor.dtype]
        every += count
        text += 0 if place(name).parameter.startswith(TOWERS) else count
    return text, every


def line(name: str, source: Path, folder: Path, tokens: list[list[int]]) -> str:
    try:
        found = check.compare(source, folder, tokens=tokens, dtype=mx.float32)
    except CheckpointError as error:
        return f"{name:8} cannot be loaded here: {error}"
    text, every = sizes(folder)
    return (
        f"{name:8} {text:11,} {every:11,} {found.kl_mean:9.4f} {found.kl_median:9.5f} "
        f"{found.kl_p99:9.4f} {found.top1:8.2%} {found.perplexity_converted:9.3f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--count", type=int, default=12, help="of each skill")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    options = parser.parse_args()
    need(NEEDED)
    try:
        pythons = interpreters(options.python)
        absent = [
            name for name in PEERS if not has_module(pythons[name], MODULES[name])
        ]
    except PeerError as error:
        return failed(error)
    source = resolve(options.model)
    tokens = held_out(source, options.count)
    positions = sum(len(sequence) - 1 for sequence in tokens)
    print(f"{len(tokens)} held-out conversations, {positions:,} predictions, float32")
    heads = ("text bytes", "all bytes", "mean KL", "median", "99th pct", "top-1", "ppl")
    print(" " * 8, *(h.rjust(w) for h, w in zip(heads, WIDTHS, strict=True)))
    with tempfile.TemporaryDirectory() as place_:
        work = Path(place_)
        ours(source, work / "ours")
        print(line("ours", source, work / "ours", tokens), flush=True)
        copy = for_peers(source, work)
        for name in PEERS:
            if name in absent:
                print(f"{name:8} is not installed: pip install {name}")
            elif failure := theirs(name, pythons[name], copy, work / name):
                print(f"{name:8} does not convert it: {failure}")
            else:
                print(line(name, source, work / name, tokens), flush=True)

    return 0


if __name__ == "__main__":
    sys.exit(main())
