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
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
from shapes import _TEXT, tensor_shapes
from worker import peak_rss

OURS, THEIRS = "mlx-gemma4", "mlx-lm"
RANK, SCALE, RATE = 8, 2.0, 1e-4
LAYERS = ["sliding_attention", "full_attention"]
FIGURES = ("mlx_bytes", "rss_bytes", "wall", "cpu")
WIDTHS = (10, 10, 8, 8)
NOT_COMPILED = {"MLX_DISABLE_COMPILE": "1"}
WARM = 64  # tokens of the row that is not counted
KEYS = [f"self_attn.{x}_proj" for x in "qkvo"]
KEYS += [f"mlp.{x}_proj" for x in ("gate", "up", "down")]


def write_model(folder: Path, vocab: int) -> None:
    """A random checkpoint in the Hub's layout, float32."""
    text = _TEXT | {
        "global_head_dim": 16,
        "head_dim": 8,
        "hidden_size": 32,
        "intermediate_size": 64,
        "layer_types": LAYERS,
        "num_attention_heads": 4,
        "num_hidden_layers": len(LAYERS),
        "vocab_size": vocab,
        "vocab_size_per_layer_input": vocab,
        "dtype": "float32",
    }
    config = {
        "model_type": "gemma4",
        "architectures": ["Gemma4ForConditionalGeneration"],
        "text_config": text,
        "tie_word_embeddings": True,
    }
    mx.random.seed(0)
    tensors = {
        name: mx.random.normal(shape, scale=shape[-1] ** -0.5)
        if len(shape) > 1
        else mx.ones(shape)
        for name, shape in tensor_shapes(text).items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def row(number: int, length: int, vocab: int) -> list[int]:
    """Tokens that look shuffled and are the same for both programs."""
    return [
        3 + (7919 * (i + number) ** 2 + 104729 * i) % (vocab - 3) for i in range(length)
    ]


def learned_from(length: int, share: float) -> int:
    """The first place of a row whose next token is learned."""
    return length - max(1, round(share * length))


def ours(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from mlx_gemma4.checkpoint.load import load_model
    from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter
    from mlx_gemma4.tune.batches import Batch
    from mlx_gemma4.tune.learning import gradient_of, prepare
    from mlx_gemma4.tune.optimizer import first_state, updated

    model = load_model(folder)
    adapter = new_adapter(model, AdapterSettings("lora", RANK, SCALE))
    state = first_state(prepare(model, adapter))
    gradient = gradient_of(model, checkpoint=True)
    measured = Measured()
    for number in range(options.steps + 1):
        length = options.length if number else WARM
        tokens = row(number, length + 1, options.vocab)
        first = learned_from(length, options.learned)
        places = list(range(first, length))
        batch = Batch(
            mx.array([tokens[:-1]], mx.int32),
            mx.array(places, mx.int32),
            mx.array(tokens[first + 1 :], mx.int32),
            (len(places),),
        )
        loss, gradients = gradient(state.parameters, batch)
        gradients = {name: g / len(places) for name, g in gradients.items()}
        state = updated(state, gradients, RATE, 0.0)
        measured.step(float(loss) / len(places))
    return measured.result()


def theirs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    import mlx.optimizers as optim
    from mlx_lm.tuner.trainer import TrainingArgs, default_loss, train
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    # mlx-lm takes the top level's vocab_size, which real files leave out.
    model, _ = load_model(folder, model_config={"vocab_size": options.vocab})
    model.freeze()
    linear_to_lora_layers(
        model, -1, {"rank": RANK, "scale": SCALE, "dropout": 0.0, "keys": KEYS}
    )
    measured = Measured()

    def batches(**_: Any) -> Any:
        for number in range(options.steps + 1):
            length = options.length if number else WARM
            tokens = row(number, length + 1, options.vocab)
            first = learned_from(length, options.learned)
            yield mx.array([tokens]), mx.array([[first + 1, length]])

    class Callback:
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            measured.step(info["train_loss"])

        def on_val_loss_report(self, info: dict[str, Any]) -> None:
            pass

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArgs(
            batch_size=1,
            iters=options.steps + 1,
            steps_per_report=1,
            steps_per_save=10**6,
            max_seq_length=options.length + 1,
            adapter_file=f"{out}/adapters.safetensors",
            grad_checkpoint=True,
        )
        optimizer: Any = optim.AdamW(learning_rate=RATE, weight_decay=0.0)
        callback: Any = Callback()
        train(
            model,
            optimizer,
            [0],
            args=arguments,
            loss=default_loss,
            iterate_batches=batches,
            training_callback=callback,
        )
    return measured.result()


class Measured:
    """Time of every step after the first, which only warms up; and every loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.marks: list[tuple[float, float]] = []

    def step(self, loss: float) -> None:
        self.losses.append(float(loss))
        if not self.marks:
            mx.clear_cache()
            mx.reset_peak_memory()
        self.marks.append((time.perf_counter(), time.process_time()))

    def result(self) -> dict[str, Any]:
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        wall, cpu = (median([b[i] - a[i] for a, b in pairs]) for i in (0, 1))
        return {
            "losses": self.losses,
            "wall": wall,
            "cpu": cpu,
            "mlx_bytes": mx.get_peak_memory(),
            "rss_bytes": peak_rss(),
        }


def run(
    name: str, folder: Path, arguments: list[str], compiled: bool
) -> dict[str, Any]:
    """One program in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--worker", name, str(folder)]
    environment = {**os.environ} if compiled else {**os.environ, **NOT_COMPILED}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rounds: list[dict[str, dict[str, Any]]]) -> str:
    """Medians of all rounds, and the median of the rounds' ratios."""
    heads = zip(("MLX peak", "RSS peak", "s/step", "CPU s"), WIDTHS, strict=True)
    lines = [" " * 12 + "".join(f"{h:>{w}}" for h, w in heads) + "  losses"]
    for name in (OURS, THEIRS):
        memory, rss, wall, cpu = (median([r[name][k] for r in rounds]) for k in FIGURES)
        losses = " ".join(f"{loss:.4f}" for loss in rounds[0][name]["losses"])
        sizes = f"{memory / 1e9:>7.2f} GB{rss / 1e9:>7.2f} GB"
        lines.append(f"{name:<12}{sizes}{wall:>8.2f}{cpu:>8.2f}  {losses}")
    ratios = [[r[OURS][key] / r[THEIRS][key] for r in rounds] for key in FIGURES]
    for label, of in (("ours/theirs", median), ("  least", min), ("  most", max)):
        cells = zip(ratios, WIDTHS, strict=True)
        lines.append(f"{label:<12}" + "".join(f"{of(r):>{w}.2f}" for r, w in cells))
    return "\n".join(lines)


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
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.tiny:
        options.length, options.vocab = 200, 4096
    return options


def main() -> None:
    options = options_from(sys.argv[1:])
    if options.worker:
        name, folder = options.worker
        replies = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what a program prints is no figure
        result = (ours if name == OURS else theirs)(Path(folder), options)
        print(json.dumps(result), file=replies)
        return
    rounds: list[dict[str, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), options.vocab)
        for number in range(options.rounds):
            names = (OURS, THEIRS) if number % 2 == 0 else (THEIRS, OURS)
            print(f"round {number + 1} of {options.rounds} …", file=sys.stderr)
            rounds.append(
                {
                    name: run(name, Path(folder), sys.argv[1:], not options.no_compile)
                    for name in names
                }
            )
    if options.json:
        print(json.dumps({"run": heading(options), "rounds": rounds}))
    else:
        print(f"{heading(options)}\n{table(rounds)}")


if __name__ == "__main__":
    main()
