"""In the process of one program: it trains LoRA on random tokens."""

import json
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
from child import Spent, Stopwatch, peak_rss
from shapes import FIRST_WORD

RANK, SCALE, RATE = 8, 2.0, 1e-4
WARM = 64  # tokens of the row that is not counted
KEYS = [f"self_attn.{x}_proj" for x in "qkvo"]
KEYS += [f"mlp.{x}_proj" for x in ("gate", "up", "down")]


def row(number: int, length: int, vocab: int) -> list[int]:
    """Words that look shuffled and are the same for both programs."""
    words = vocab - FIRST_WORD
    return [
        FIRST_WORD + (7919 * (i + number) ** 2 + 104729 * i) % words
        for i in range(length)
    ]


def learned_from(length: int, share: float) -> int:
    """The first place of a row whose next token is learned."""
    return length - max(1, round(share * length))


def ours(folder: Path, sizes: Namespace) -> dict[str, Any]:
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
    for number in range(sizes.steps + 1):
        length = sizes.length if number else WARM
        tokens = row(number, length + 1, sizes.vocab)
        first = learned_from(length, sizes.learned)
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


def theirs(folder: Path, sizes: Namespace) -> dict[str, Any]:
    import mlx.optimizers as optim
    from mlx_lm.tuner.trainer import TrainingArgs, default_loss, train
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    # mlx-lm takes the top level's vocab_size, which real files leave out.
    model, _ = load_model(folder, model_config={"vocab_size": sizes.vocab})
    model.freeze()
    linear_to_lora_layers(
        model, -1, {"rank": RANK, "scale": SCALE, "dropout": 0.0, "keys": KEYS}
    )
    measured = Measured()

    def batches(**_: Any) -> Any:
        for number in range(sizes.steps + 1):
            length = sizes.length if number else WARM
            tokens = row(number, length + 1, sizes.vocab)
            first = learned_from(length, sizes.learned)
            yield mx.array([tokens]), mx.array([[first + 1, length]])

    class Callback:
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            measured.step(info["train_loss"])

        def on_val_loss_report(self, info: dict[str, Any]) -> None:
            pass

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArgs(
            batch_size=1,
            iters=sizes.steps + 1,
            steps_per_report=1,
            steps_per_save=10**6,
            max_seq_length=sizes.length + 1,
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
        self.spent: list[Spent] = []
        self.watch = Stopwatch()

    def step(self, loss: float) -> None:
        self.losses.append(float(loss))
        self.spent.append(self.watch.read())
        if len(self.losses) == 1:
            mx.clear_cache()
            mx.reset_peak_memory()
        self.watch = Stopwatch()

    def result(self) -> dict[str, Any]:
        return {
            "losses": self.losses,
            "wall": median(each.wall for each in self.spent[1:]),
            "cpu": median(each.cpu for each in self.spent[1:]),
            "mlx_bytes": mx.get_peak_memory(),
            "rss_bytes": peak_rss(),
        }


def run(answer: Callable[[object], None], name: str, folder: str, sizes: str) -> None:
    """sizes: as JSON, `length`, `vocab`, `steps` and `learned` of tune.py."""
    train = theirs if name == "mlx-lm" else ours
    answer(train(Path(folder), Namespace(**json.loads(sizes))))
