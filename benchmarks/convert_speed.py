"""Convert the same random bfloat16 checkpoint with this project and with mlx-lm.

    python benchmarks/convert_speed.py [--gb 1] [--runs 3] [--alone]

Both make 4 bits with their own defaults, in turns, each in a process of its own. What
is timed is the conversion, without the imports. See benchmarks/README.md.
"""

import argparse
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import checkpoint
from shapes import config_of, tensor_shapes

ROOT = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
OURS, THEIRS = "ours", "mlx-lm"
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
KEYS = ("wall", "cpu", "rss")


def source(gigabytes: float) -> Path:
    """A checkpoint of about this size, at least 0.5, made once and kept."""
    layers = LAYERS
    while _bytes(_config(layers + LAYERS)) <= gigabytes * 1e9:
        layers += LAYERS
    folder = ROOT / f"e2b-wide-{layers}-layers"
    if not (folder / "config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        # In another process: what starts the others must stay small, since Linux
        # counts its memory as theirs.
        make = [sys.executable, __file__, "--make", str(layers), str(folder)]
        subprocess.run(make, check=True)
    return folder


def _config(layers: int) -> dict[str, Any]:
    config = config_of("e2b-like", "bfloat16", None)
    text = config["text_config"]
    kinds = text["layer_types"][:LAYERS] * (layers // LAYERS)
    text |= {**WIDE, "num_hidden_layers": layers, "layer_types": kinds}
    text |= {"num_kv_shared_layers": layers // (2 * LAYERS) * LAYERS}
    # mlx-lm reads it here.
    return {**config, "vocab_size": text["vocab_size"]}


def _bytes(config: dict[str, Any]) -> int:
    shapes = tensor_shapes(config["text_config"]).values()
    return sum(2 * math.prod(shape) for shape in shapes)


def work(program: str, folder: Path, out: Path) -> None:
    """Converts, and prints seconds by the clock, of the processor, and bytes."""
    if program == OURS:
        from mlx_gemma4.convert import job
        from mlx_gemma4.convert.survey import Wishes

        def convert() -> None:
            plan = job.plan_folder(folder, Wishes(), "random")
            job.run(folder, out, plan, "random", lambda count: None)
    else:
        from mlx_lm import convert as theirs

        def convert() -> None:
            theirs(str(folder), str(out), quantize=True)

    start, before = time.perf_counter(), time.process_time()
    convert()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - before,
        "rss": peak * (1 if sys.platform == "darwin" else 1024),
    }
    print(json.dumps(found))


def measure(program: str, folder: Path) -> dict[str, float]:
    """One conversion in a fresh process, to a folder that is then removed."""
    out = ROOT / f"converted-by-{program}"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(f"{out}.partial", ignore_errors=True)
    command = [sys.executable, __file__, "--work", program, str(folder), str(out)]
    try:
        # What the last run wrote does not go to the disk at this one's expense.
        os.sync()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, found: dict[str, float]) -> str:
    return (
        f"{name:8} {found['wall']:8.1f} s {found['cpu']:8.1f} s CPU "
        f"{found['rss'] / 1e9:6.2f} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0, help="size of the source")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="this project only")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        checkpoint.write(Path(options.make[1]), _config(int(options.make[0])))
        return
    if options.work:
        program, folder, out = options.work
        work(program, Path(folder), Path(out))
        return
    folder = source(options.gb)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{size / 1e9:.2f} GB of bfloat16, {options.runs} runs in turns")
    programs = [OURS] if options.alone else [OURS, THEIRS]
    found: dict[str, list[dict[str, float]]] = {program: [] for program in programs}
    for i in range(options.runs):
        for program in programs[:: 1 if i % 2 == 0 else -1]:
            found[program].append(measure(program, folder))
            print(row(program, found[program][-1]), flush=True)
    print("median")
    for program, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in KEYS}
        print(row(program, middle))
    if options.alone:
        return
    for key, name in (("wall", "wall time"), ("cpu", "processor time")):
        ratios = [
            t[key] / o[key] for o, t in zip(found[OURS], found[THEIRS], strict=True)
        ]
        print(
            f"{name}: mlx-lm takes {statistics.median(ratios):.2f} times ours "
            f"[{min(ratios):.2f}-{max(ratios):.2f}]"
        )


if __name__ == "__main__":
    main()
