"""Peak memory and step time of training, beside mlx-lm's trainer on the same data.

    python benchmarks/tune.py                  # 2,048 tokens, 262,144 words
    python benchmarks/tune.py --learned 0.25   # a conversation: a quarter is learned
    python benchmarks/tune.py --tiny           # seconds; shows that it works

The body of the model is tiny, so that what is compared is what a large vocabulary
costs. Both programs train LoRA of the same rank on the same linear maps with layers
checkpointed, one row of tokens a step. In every round each has a process of its own,
one after the other, and who comes first changes. A short row comes first and is not
counted: on a CPU, mlx-lm's step is compiled with the system's C++ compiler then.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoint import write
from programs import MLX_LM, OURS, failed, need, say, start
from report import row, table
from shapes import config_of

from mlx_gemma4.bench.rounds import take_rounds
from mlx_gemma4.errors import PeerError

BODY = {
    "global_head_dim": 16,
    "head_dim": 8,
    "hidden_size": 32,
    "hidden_size_per_layer_input": 0,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_kv_shared_layers": 0,
    "sliding_window": 512,
    "use_double_wide_mlp": False,
}
GB = 1e9
FIGURES = {
    "mlx_bytes": ("MLX peak GB", GB),
    "rss_bytes": ("RSS peak GB", GB),
    "wall": ("s/step", 1),
    "cpu": ("CPU s/step", 1),
}
NOT_COMPILED = {"MLX_DISABLE_COMPILE": "1"}


def write_model(folder: Path, vocab: int) -> None:
    """A random checkpoint of one sliding and one full layer."""
    words = {"vocab_size": vocab, "vocab_size_per_layer_input": vocab}
    write(folder, config_of("two-layers", "float32", **BODY, **words))


def training(
    name: str, folder: Path, options: argparse.Namespace
) -> Callable[[int], dict[str, Any]]:
    """Trains in a process of its own."""
    sizes = {key: vars(options)[key] for key in ("length", "vocab", "steps", "learned")}
    environment = {**os.environ, **(NOT_COMPILED if options.no_compile else {})}

    def train(number: int) -> dict[str, Any]:
        arguments = name, folder, json.dumps(sizes)
        with start(name, "training", *arguments, environment=environment) as worker:
            return worker.ready

    return train


def report(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Figures of all rounds, and the losses of the first one."""
    rows = [
        row(
            label, {name: [r[key] / unit for r in each] for name, each in found.items()}
        )
        for key, (label, unit) in FIGURES.items()
    ]
    losses = [
        f"losses of {name}: " + " ".join(f"{loss:.4f}" for loss in each[0]["losses"])
        for name, each in found.items()
    ]
    return "\n".join([table(rows), *losses])


def heading(options: argparse.Namespace) -> str:
    compiled = "off for both" if options.no_compile else "as shipped"
    return (
        f"{options.length:,} tokens a step, {options.learned:.0%} of them learned, "
        f"{options.vocab:,} words, {options.rounds} rounds of {options.steps} step(s), "
        f"mx.compile {compiled}"
    )


def options_from(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=262_144)
    parser.add_argument("--steps", type=int, default=1, help="measured, of a process")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--learned", type=float, default=1.0, help="share of tokens")
    parser.add_argument("--no-compile", action="store_true", help="neither program")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.length, options.vocab = 200, 4096
    return options


def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), options.vocab)
        found = take_rounds(
            {name: training(name, Path(folder), options) for name in (OURS, MLX_LM)},
            range(1, options.rounds + 1),
            lambda name, number: say(f"round {number} of {options.rounds}: {name} …"),
        )
    if options.json:
        rounds = [
            dict(zip(found, each, strict=True))
            for each in zip(*found.values(), strict=True)
        ]
        print(json.dumps({"run": heading(options), "rounds": rounds}))
    else:
        print(f"{heading(options)}\n{report(found)}")


def main() -> int:
    need({"mlx_lm": "mlx-lm"})
    try:
        run(options_from(sys.argv[1:]))
    except PeerError as error:
        return failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
