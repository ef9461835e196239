"""Peak memory and step time of training, beside mlx-lm's trainer on the same data.

    python benchmarks/tune.py                  # 2,048 tokens, 262,144 words
    python benchmarks/tune.py --learned 0.25   # a conversation: a quarter is learned
    python benchmarks/tune.py --tiny           # seconds; shows that it works

The body of the model is tiny, so that what is compared is what a large vocabulary
costs. Both programs train LoRA of the same rank on the same linear maps with layers
checkpointed, one row of tokens a step, in a process of their own, one after the other.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
from shapes import _TEXT, tensor_shapes
from worker import peak_rss

OURS, THEIRS = "mlx-gemma4", "mlx-lm"
RANK, SCALE, RATE = 8, 2.0, 1e-4
ROWS = "rows.json"  # beside the model
LAYERS = ["sliding_attention", "full_attention"] * 2
KEYS = [f"self_attn.{x}_proj" for x in "qkvo"]
KEYS += [f"mlp.{x}_proj" for x in ("gate", "up", "down")]


def write_model(folder: Path, vocab: int) -> None:
    """A random checkpoint in the Hub's layout, float32."""
    text = _TEXT | {
        "global_head_dim": 64,
        "head_dim": 32,
        "hidden_size": 128,
        "intermediate_size": 256,
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
    tensors = {
        name: mx.random.normal(shape, scale=shape[-1] ** -0.5)
        if len(shape) > 1
        else mx.ones(shape)
        for name, shape in tensor_shapes(text).items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def write_rows(folder: Path, options: argparse.Namespace) -> None:
    """Tokens that look shuffled, a row for each step of both programs."""
    from mlx_gemma4.bench import prompt_of  # no part of mlx-lm's process

    length = options.length + 1
    tokens = prompt_of(options.steps + length, options.vocab, first=3)
    rows = [tokens[start : start + length] for start in range(options.steps)]
    (folder / ROWS).write_text(json.dumps(rows))


def read_rows(folder: Path) -> list[list[int]]:
    return json.loads((folder / ROWS).read_text())


def ours(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from mlx_gemma4.load import load_model
    from mlx_gemma4.tune.adapters import AdapterSettings, new_adapter
    from mlx_gemma4.tune.batches import Batch
    from mlx_gemma4.tune.learning import gradient_of, prepare
    from mlx_gemma4.tune.optimizer import first_state, updated

    model = load_model(folder)
    adapter = new_adapter(model, AdapterSettings("lora", RANK, SCALE))
    state = first_state(prepare(model, adapter))
    gradient = gradient_of(model, checkpoint=True)
    measured = Measured()
    for tokens in read_rows(folder):
        first = options.length - round(options.learned * options.length)
        places = list(range(first, options.length))
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
        for tokens in read_rows(folder):
            first = options.length - round(options.learned * options.length)
            yield mx.array([tokens]), mx.array([[first + 1, options.length]])

    class Callback:
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            measured.step(info["train_loss"])

        def on_val_loss_report(self, info: dict[str, Any]) -> None:
            pass

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArgs(
            batch_size=1,
            iters=options.steps,
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
    """Time and loss of every step; the first one only warms up."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.marks = [(time.perf_counter(), time.process_time())]
        mx.reset_peak_memory()

    def step(self, loss: float) -> None:
        self.losses.append(float(loss))
        self.marks.append((time.perf_counter(), time.process_time()))

    def result(self) -> dict[str, Any]:
        pairs = list(zip(self.marks[1:], self.marks[2:], strict=False))
        spent = [[b[i] - a[i] for a, b in pairs] for i in (0, 1)]
        return {
            "losses": self.losses,
            "wall": sorted(spent[0])[len(pairs) // 2],
            "cpu": sorted(spent[1])[len(pairs) // 2],
            "mlx_bytes": mx.get_peak_memory(),
            "rss_bytes": peak_rss(),
        }


def run(name: str, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """One program in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--worker", name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(found: dict[str, dict[str, Any]]) -> str:
    head = f"{'':<12}{'MLX peak':>10}{'RSS peak':>10}{'s/step':>8}{'CPU s':>8}  loss"
    lines = [head]
    for name, each in found.items():
        lines.append(
            f"{name:<12}{each['mlx_bytes'] / 1e9:>7.2f} GB"
            f"{each['rss_bytes'] / 1e9:>7.2f} GB{each['wall']:>8.2f}{each['cpu']:>8.2f}"
            f"  {' '.join(f'{loss:.4f}' for loss in each['losses'])}"
        )
    a, b = found[OURS], found[THEIRS]
    shares = [a[key] / b[key] for key in ("mlx_bytes", "rss_bytes", "wall", "cpu")]
    lines.append(
        f"{'ours/theirs':<12}"
        + "".join(
            f"{share:>{width}.2f}"
            for share, width in zip(shares, (10, 10, 8, 8), strict=True)
        )
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=262_144)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--learned", type=float, default=1.0, help="share of tokens")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tiny:
        options.length, options.vocab = 200, 4096
    if options.worker:
        name, folder = options.worker
        replies = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what a program prints is no figure
        result = (ours if name == OURS else theirs)(Path(folder), options)
        print(json.dumps(result), file=replies)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), options.vocab)
        write_rows(Path(folder), options)
        names = (OURS, THEIRS)
        found = {name: run(name, Path(folder), sys.argv[1:]) for name in names}
    print(json.dumps(found) if options.json else table(found))


if __name__ == "__main__":
    main()
