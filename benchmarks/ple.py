"""What it costs, and saves, to leave the table of per-layer embeddings on disk.

    python benchmarks/ple.py [--folder DIR] [--prompt 32] [--decode 16] [--lookups 400]
    python benchmarks/ple.py --kind E4B --json

A checkpoint of a published model's text decoder, in its real size and with random
weights on the grid of Google's quantisation-aware training (4 bits, groups of 32), is
written once. Then the same answer is computed twice, each time in a process of its own:
with the table in memory, and on disk. Last, a token's row is looked up in both, in
turns, in one process. Written and read: 3 GB for E2B, 4.7 GB for E4B.
"""

import argparse
import hashlib
import json
import math
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
from programs import BUILD
from shapes import REAL

from mlx_gemma4.checkpoint.load import prepare_model
from mlx_gemma4.config.ple import Ple

BITS, GROUP = 4, 32
BLOCK = 2**22  # values written at once
SEED = 0
Tensor = tuple[str, list[int]]  # type and shape


def make(folder: Path, kind: str) -> None:
    """The checkpoint in `folder`, unless it is there."""
    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    source = REAL / f"gemma-4-{kind}-it"
    config = json.loads((source / "config.json").read_text())
    config |= {"vision_config": None, "audio_config": None}
    shapes = json.loads((source / "tensors.json").read_text())
    tensors = dict(_tensors(shapes))
    place, header = 0, {}
    for name, (dtype, shape) in tensors.items():
        end = place + _bytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, end]}
        place = end
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for name, (dtype, shape) in tensors.items():
            for block in _values(name, dtype, math.prod(shape)):
                file.write(memoryview(block))
    (folder / "config.json").write_text(json.dumps(config))  # last: it is complete


def _tensors(shapes: Mapping[str, list[int]]) -> Iterator[tuple[str, Tensor]]:
    for name, shape in shapes.items():
        if not name.startswith("model.language_model."):
            continue
        if len(shape) < 2 or "norm" in name:
            yield name, ("BF16", shape)
            continue
        module, (*outer, inputs) = name.removesuffix(".weight"), shape
        yield f"{module}.weight", ("U32", [*outer, inputs * BITS // 32])
        for part in ("scales", "biases"):
            yield f"{module}.{part}", ("BF16", [*outer, inputs // GROUP])


def _values(name: str, dtype: str, count: int) -> Iterator[mx.array]:
    """Codes at random; steps that differ, and biases eight of them below zero."""
    for start in range(0, count, BLOCK):
        n = min(BLOCK, count - start)
        if dtype == "U32":
            yield mx.random.randint(0, 2**31 - 1, (n,)).view(mx.uint32) * 2 + 1
            continue
        step = 2.0 ** (-8 - mx.arange(n) % 3)
        values = {"scales": step, "biases": -8 * step}
        found = values.get(name.rpartition(".")[2], mx.ones(n))
        yield found.astype(mx.bfloat16).view(mx.uint16)


def _bytes(dtype: str, shape: list[int]) -> int:
    return math.prod(shape) * {"U32": 4, "BF16": 2}[dtype]


def answer(folder: Path, ple: Ple, prompt: int, decode: int) -> dict[str, Any]:
    """Load, read a prompt and decode: what that took, and a digest of all logits."""
    started = time.perf_counter()
    model = prepare_model(folder, mx.bfloat16, ple=ple).load()
    loaded, weights = time.perf_counter() - started, mx.get_active_memory()
    mx.random.seed(SEED)
    rows = model.config.text_config.token_rows
    tokens, cache = mx.random.randint(0, rows, (1, prompt)), model.make_cache()
    digest, took = hashlib.sha256(), []
    for _ in range(decode + 1):
        before = time.process_time()
        logits = model(tokens, cache, last_only=True)[:, -1]
        tokens = mx.argmax(logits, axis=-1, keepdims=True)
        mx.eval(logits, tokens)
        took.append(time.process_time() - before)
        digest.update(memoryview(logits.view(mx.uint16)))
    return {
        "load_s": loaded,
        "weights": weights,
        "peak_mlx": mx.get_peak_memory(),
        "peak_rss": _peak_rss(),
        "prompt_cpu_s": took[0],
        "token_cpu_ms": 1e3 * median(took[1:]),
        "logits": digest.hexdigest(),
    }


def _peak_rss() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def lookups(folder: Path, count: int) -> dict[str, float]:
    """CPU milliseconds to look a token up, other tokens each time, in turns: the file
    cache is warm, what the table keeps itself is not."""
    models = {
        ple: prepare_model(folder, mx.bfloat16, ple=ple).load().language_model
        for ple in (Ple.MEMORY, Ple.DISK)
    }
    rows = models[Ple.DISK].embed_tokens_per_layer.layout.rows
    took: dict[Ple, list[float]] = {ple: [] for ple in models}
    for warm in (True, False):
        mx.random.seed(SEED)
        for token in mx.random.randint(0, rows, (count,)).tolist():
            for ple, text in models.items():
                ids, before = mx.array([[token]]), time.process_time()
                mx.eval(text.embed_tokens_per_layer(ids))
                if not warm:
                    took[ple].append(time.process_time() - before)
        text = models[Ple.DISK]
        text.embed_tokens_per_layer = type(text.table)(text.table.layout)
    return {str(ple): 1e3 * median(each) for ple, each in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--kind", choices=("E2B", "E4B"), default="E2B")
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--decode", type=int, default=16)
    parser.add_argument("--lookups", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder or BUILD / f"{asked.kind}-text-4bit"
    if asked.part:
        print(json.dumps(_part(asked, folder)))
        return
    make(folder, asked.kind)
    own = [sys.executable, __file__, *sys.argv[1:], "--part"]
    found = {
        part: json.loads(subprocess.run([*own, part], check=True, stdout=-1).stdout)
        for part in (*(str(ple) for ple in (Ple.MEMORY, Ple.DISK)), "table", "lookups")
    }
    print(json.dumps(found, indent=1) if asked.json else _told(found))


def _part(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if asked.part == "lookups":
        return lookups(folder, asked.lookups)
    if asked.part == "table":
        return {"bytes": prepare_model(folder, mx.bfloat16).footprint.table}
    return answer(folder, Ple(asked.part), asked.prompt, asked.decode)


def _told(found: Mapping[str, Any]) -> str:
    memory, disk, table = found["memory"], found["disk"], found["table"]["bytes"]
    lines = [f"{'':24}{'in memory':>12}{'on disk':>12}"]
    for key, name in {
        "weights": "weights, GB",
        "peak_mlx": "peak of MLX, GB",
        "peak_rss": "peak RSS, GB",
    }.items():
        lines.append(f"{name:24}{memory[key] / 1e9:12.3f}{disk[key] / 1e9:12.3f}")
    for key, name in {
        "load_s": "loading, s",
        "prompt_cpu_s": "prompt, CPU s",
        "token_cpu_ms": "a token, CPU ms",
    }.items():
        lines.append(f"{name:24}{memory[key]:12.2f}{disk[key]:12.2f}")
    looked = found["lookups"]
    lines.append(
        f"{'its row, CPU ms':24}{looked['memory']:12.3f}{looked['disk']:12.3f}"
    )
    same = memory["logits"] == disk["logits"]
    saved = (memory["peak_rss"] - disk["peak_rss"]) / 1e9
    lines += [
        f"The table takes {table / 1e9:.3f} GB; peak RSS is {saved:.3f} GB lower.",
        f"Logits are {'equal to the bit' if same else 'DIFFERENT'}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
