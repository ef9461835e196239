"""Convert the same random bfloat16 checkpoint with this project and with mlx-lm.

    python benchmarks/convert_speed.py [--gb 1] [--runs 3] [--alone]

Both make 4 bits with their own defaults, in turns, each in a process of its own. What
is timed is the conversion, without the imports. See README.md here.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint
from programs import BUILD, MLX_LM, OURS, need, say, start
from report import row, table
from shapes import config_of, tensor_shapes

from mlx_gemma4.bench.rounds import ratios, take_rounds

LAYERS = 3  # one of every kind, as `e2b-like` repeats them
# Widths of the real E2B; the vocabulary is a quarter of its.
WIDE = {
    "global_head_dim": 512,
    "head_dim": 256,
    "hidden_size": 1536,
    "hidden_size_per_layer_input": 256,
    "intermediate_size": 6144,
    "vocab_size": 65536,
    "vocab_size_per_layer_input": 65536,
}
FIGURES = {"wall": ("s", 1), "cpu": ("CPU s", 1), "rss": ("peak GB", 1e9)}


def source(gigabytes: float) -> Path:
    """A checkpoint of about this size, at least 0.5, made once and kept."""
    layers = LAYERS
    while _bytes(_config(layers + LAYERS)) <= gigabytes * 1e9:
        layers += LAYERS
    folder = BUILD / f"e2b-wide-{layers}-layers"
    if not (folder / "config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        # In another process: what starts the others must stay small, since Linux
        # counts its memory as theirs.
        make = [sys.executable, __file__, "--make", str(layers), str(folder)]
        subprocess.run(make, check=True)
    return folder


def _config(layers: int) -> dict[str, Any]:
    shared = layers // (2 * LAYERS) * LAYERS
    more = {"num_hidden_layers": layers, "num_kv_shared_layers": shared}
    config = config_of("e2b-like", "bfloat16", **WIDE, **more)
    return {**config, "vocab_size": WIDE["vocab_size"]}  # mlx-lm reads it there


def _bytes(config: dict[str, Any]) -> int:
    return sum(2 * math.prod(shape) for shape in tensor_shapes(config).values())


def conversion(program: str, folder: Path) -> Callable[[int], dict[str, float]]:
    """Converts in a fresh process, to a folder that is then removed."""
    out = BUILD / f"converted-by-{program}"

    def convert(number: int) -> dict[str, float]:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(f"{out}.partial", ignore_errors=True)
        # What the last run wrote does not go to the disk at this one's expense.
        os.sync()
        try:
            with start(program, "converting", program, folder, out) as worker:
                return worker.ready
        finally:
            shutil.rmtree(out, ignore_errors=True)

    return convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0, help="size of the source")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="this project only")
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        checkpoint.write(Path(options.make[1]), _config(int(options.make[0])))
        return
    if not options.alone:
        need({"mlx_lm": "mlx-lm"})
    folder = source(options.gb)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{size / 1e9:.2f} GB of bfloat16, {options.runs} runs in turns", flush=True)
    found = take_rounds(
        {n: conversion(n, folder) for n in [OURS, MLX_LM][: 1 if options.alone else 2]},
        range(1, options.runs + 1),
        lambda name, number: say(f"{name}, run {number} of {options.runs}"),
    )
    figures = {
        key: {n: [each[key] / unit for each in runs] for n, runs in found.items()}
        for key, (_, unit) in FIGURES.items()
    }
    print(table([row(FIGURES[key][0], each) for key, each in figures.items()]))
    if options.alone:
        return
    for key, name in (("wall", "wall time"), ("cpu", "processor time")):
        ratio = ratios(figures[key][MLX_LM], figures[key][OURS])
        print(f"{name}: mlx-lm takes {ratio.text('{:.2f}'.format)} times ours")


if __name__ == "__main__":
    main()
