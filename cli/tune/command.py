"""`gemma4 tune`: train an adapter; and `tune eval`, `fuse` and `export` beside it."""

import math
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mlx_gemma4.prompt.attachments import BUDGETS, IMAGE_TOKENS

from .. import options
from ..errors import UsageError, reported
from ..render import Screen
from ..usage.command import HELP, App, Group
from . import options as tuning


class TrainByDefault(Group):
    """`gemma4 tune DATA …` is `gemma4 tune train DATA …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in HELP and not self._names_command(args[0]):
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def _names_command(self, word: str) -> bool:
        """Whether `word` is a command, or one mistyped, which is no file here."""
        if word in self.commands:
            return True
        alike = get_close_matches(word, self.commands) and not set("./") & set(word)
        return bool(alike) and not os.path.exists(word)


app = App(
    cls=TrainByDefault,
    help="""Train an adapter on your examples: gemma4 tune DATA -o ADAPTER.

    `gemma4 tune train --help` lists its options.

    Examples:
    gemma4 tune examples/captain/train.jsonl -m demo -o captain
    gemma4 tune eval examples/captain/test.jsonl --adapter captain
    gemma4 tune fuse captain captain-model
    """,
)


def check_finite(values: Mapping[str, float]) -> None:
    """Raises UsageError for infinity and what is no number at all."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise UsageError(f"{name} is {value}: give a number.")


def check_image_tokens(count: int | None) -> None:
    """Once, not for every example. Raises UsageError."""
    if count is not None and count not in IMAGE_TOKENS:
        raise UsageError(f"--image-tokens is {count}; it can be {BUDGETS}.")


@app.command()
def train(
    data: tuning.DataPath,
    model: options.Model = None,
    out: tuning.Out = None,
    kind: tuning.TrainKind = "lora",
    rank: tuning.Rank = 16,
    scale: tuning.Scale = 2.0,
    target: tuning.Target = None,
    layers: tuning.Layers = None,
    epochs: tuning.Epochs = 3.0,
    steps: tuning.Steps = None,
    batch: tuning.Batch = 1,
    accumulate: tuning.Accumulate = 8,
    learning_rate: tuning.Rate = 2e-4,
    schedule: tuning.Schedule = "cosine",
    warmup: tuning.Warmup = 0.05,
    weight_decay: tuning.Decay = 0.0,
    clip: tuning.Clip = 1.0,
    seed: tuning.Seed = 0,
    max_length: tuning.MaxLength = 2048,
    long: tuning.Long = "error",
    validation: tuning.Share = 0.05,
    checkpoint: tuning.Checkpoint = True,
    validate_every: tuning.ValidateEvery = 50,
    save_every: tuning.SaveEvery = 50,
    sample_every: tuning.SampleEvery = 0,
    image_tokens: options.ImageTokens = None,
    resume: tuning.Resume = False,
    show_mask: tuning.ShowMask = 0,
    dry_run: tuning.DryRun = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Train an adapter. Ctrl-C keeps what is done; --resume goes on with it.

    Examples:
    gemma4 tune examples/captain/train.jsonl -m demo -o captain
    gemma4 tune train.jsonl -o captain --resume
    gemma4 tune train.jsonl --show-mask 2
    """
    with reported(as_json):
        from mlx_gemma4.tune.adapters import AdapterSettings
        from mlx_gemma4.tune.settings import Rhythm
        from mlx_gemma4.tune.targets import TARGETS

        from .train import Wishes, train_adapter

        check_finite(
            {
                "--epochs": epochs,
                "--scale": scale,
                "--learning-rate": learning_rate,
                "--weight-decay": weight_decay,
            }
        )
        check_image_tokens(image_tokens)
        if out is None and not (dry_run or show_mask):
            raise UsageError("Name the folder to make: gemma4 tune DATA -o ADAPTER.")
        targets = tuple(target) if target else ("attention", "mlp")
        for name in targets:
            if name not in TARGETS:
                known = ", ".join(TARGETS)
                raise UsageError(f"There is no target {name!r}; there are {known}.")
        wishes = Wishes(
            data=data,
            model=model,
            out=out,
            adapter=AdapterSettings(kind, rank, scale, targets, layers),
            epochs=epochs,
            steps=steps,
            training={
                "batch": batch,
                "accumulate": accumulate,
                "learning_rate": learning_rate,
                "schedule": schedule,
                "warmup": warmup,
                "weight_decay": weight_decay,
                "clip": clip,
                "seed": seed,
                "checkpoint": checkpoint,
            },
            length=max_length,
            long=long,
            image_tokens=image_tokens,
            validation=validation,
            rhythm=Rhythm(validate_every, sample_every, save_every),
            resume=resume,
            show_mask=show_mask,
            dry_run=dry_run,
            yes=yes,
        )
        train_adapter(wishes, Screen(as_json=as_json))


@app.command("eval", short_help="Loss and accuracy on examples.")
def evaluate(
    data: tuning.DataPath,
    model: options.Model = None,
    adapter: options.Adapter = None,
    max_length: tuning.MaxLength = 2048,
    long: tuning.Long = "error",
    image_tokens: options.ImageTokens = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Loss, perplexity and accuracy on examples: the model, and with the adapter.

    Examples:
    gemma4 tune eval examples/captain/test.jsonl --adapter captain
    """
    with reported(as_json):
        from .results import evaluate_adapter

        check_image_tokens(image_tokens)
        screen = Screen(as_json=as_json)
        reading = (max_length, long, image_tokens)
        evaluate_adapter(data, model, adapter, reading, screen, yes)


@app.command()
def fuse(
    adapter: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    model: options.Model = None,
    form: Annotated[str, typer.Option("--to", help="bf16 or 8bit.")] = "bf16",
    overwrite: options.Overwrite = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Write a checkpoint with the adapter in its weights.

    Examples:
    gemma4 tune fuse captain captain-model
    gemma4 tune fuse captain captain-model --to 8bit
    """
    with reported(as_json):
        from mlx_gemma4.tune.fuse import FORMS, REQUANTISED

        from .results import fuse_adapter

        if form not in FORMS:
            raise UsageError(REQUANTISED.format(form=form))
        screen = Screen(as_json=as_json)
        fuse_adapter(adapter, out, model, form, screen, overwrite, yes)


@app.command()
def export(
    adapter: Annotated[Path, typer.Argument(help="The adapter's folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    model: options.Model = None,
    form: Annotated[
        Literal["peft", "mlx"], typer.Option("--to", help="peft, or mlx for mlx-lm.")
    ] = "peft",
    overwrite: options.Overwrite = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Write an adapter in PEFT's format, or one of PEFT in mlx-lm's.

    Examples:
    gemma4 tune export captain captain-peft
    gemma4 tune export captain captain-mlx --to mlx
    """
    with reported(as_json):
        from .results import export_adapter

        screen = Screen(as_json=as_json)
        export_adapter(adapter, out, model, form, screen, overwrite, yes)
