"""`gemma4 tune`: train an adapter; and `tune eval`, `fuse` and `export` beside it."""

import math
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mlx_gemma4.prompt.attachments import BUDGETS, IMAGE_TOKENS

from .. import options
from ..errors import UsageError, reported
from ..render import Screen

Kind = Literal["lora", "dora", "full"]
DataPath = Annotated[
    Path,
    typer.Argument(
        help="A .jsonl, .json or .csv file, or a folder with one named train or text."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="ADAPTER", help="The folder to make."),
]
Rank = Annotated[int, typer.Option("--rank", min=1, help="Size of the adapter.")]
Scale = Annotated[
    float, typer.Option("--scale", help="Weight of the adapter: alpha / rank.")
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="attention, mlp, experts, vision or audio. Repeatable. "
        "Default: attention and mlp.",
    ),
]
Layers = Annotated[
    int | None,
    typer.Option("--layers", min=1, help="Only the last so many. Default: all."),
]
Epochs = Annotated[
    float, typer.Option("--epochs", min=0.0, help="Passes through the data.")
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Updates, instead of --epochs.")
]
Batch = Annotated[
    int, typer.Option("--batch", min=1, help="Examples that are read side by side.")
]
Accumulate = Annotated[
    int, typer.Option("--accumulate", min=1, help="Batches of one update.")
]
Rate = Annotated[
    float,
    typer.Option("--learning-rate", "--lr", min=0.0, help="The highest of the run."),
]
Schedule = Annotated[
    Literal["cosine", "linear", "constant"],
    typer.Option("--schedule", help="How the learning rate falls."),
]
Warmup = Annotated[
    float,
    typer.Option("--warmup", min=0.0, max=1.0, help="Share of steps that rise."),
]
Decay = Annotated[float, typer.Option("--weight-decay", min=0.0, help="AdamW's.")]
Clip = Annotated[
    float,
    typer.Option("--clip", min=0.0, help="Largest norm of a gradient; 0 is any."),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Decides order, split and first values.")
]
MaxLength = Annotated[
    int, typer.Option("--max-length", min=2, help="Most tokens of an example.")
]
Long = Annotated[
    Literal["error", "skip", "cut"],
    typer.Option("--long", help="What becomes of longer conversations."),
]
Share = Annotated[
    float,
    typer.Option(
        "--validation",
        min=0.0,
        max=0.9,
        help="Share kept back to validate with, where there is no validation set.",
    ),
]
Checkpoint = Annotated[
    bool,
    typer.Option(
        "--checkpoint/--no-checkpoint", help="Compute layers twice to need less memory."
    ),
]
Every = {"min": 0, "help": "In steps; 0 is never."}
ValidateEvery = Annotated[int, typer.Option("--validate-every", **Every)]
SaveEvery = Annotated[int, typer.Option("--save-every", **Every)]
SampleEvery = Annotated[int, typer.Option("--sample-every", **Every)]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in ADAPTER.")
]
ShowMask = Annotated[
    int,
    typer.Option(
        "--show-mask",
        metavar="N",
        min=0,
        help="Show what is learned of the first N examples, and stop.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]


class TrainByDefault(TyperGroup):
    """`gemma4 tune DATA …` is `gemma4 tune train DATA …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] != "--help" and not self._names_command(args[0]):
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def _names_command(self, word: str) -> bool:
        """Whether `word` is a command, or one mistyped, which is no file here."""
        if word in self.commands:
            return True
        alike = get_close_matches(word, self.commands)
        return bool(alike) and not os.path.exists(word)


app = typer.Typer(
    cls=TrainByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train an adapter on your examples: gemma4 tune DATA -o ADAPTER. "
    "`gemma4 tune train --help` lists its options.",
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
    data: DataPath,
    model: options.Model = None,
    out: Out = None,
    kind: Annotated[Kind, typer.Option("--kind", help="What to train.")] = "lora",
    rank: Rank = 16,
    scale: Scale = 2.0,
    target: Target = None,
    layers: Layers = None,
    epochs: Epochs = 3.0,
    steps: Steps = None,
    batch: Batch = 1,
    accumulate: Accumulate = 8,
    learning_rate: Rate = 2e-4,
    schedule: Schedule = "cosine",
    warmup: Warmup = 0.05,
    weight_decay: Decay = 0.0,
    clip: Clip = 1.0,
    seed: Seed = 0,
    max_length: MaxLength = 2048,
    long: Long = "error",
    validation: Share = 0.05,
    checkpoint: Checkpoint = True,
    validate_every: ValidateEvery = 50,
    save_every: SaveEvery = 50,
    sample_every: SampleEvery = 0,
    image_tokens: options.ImageTokens = None,
    resume: Resume = False,
    show_mask: ShowMask = 0,
    dry_run: DryRun = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Train an adapter. Ctrl-C keeps what is done; --resume goes on with it."""
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
    data: DataPath,
    model: options.Model = None,
    adapter: options.Adapter = None,
    max_length: MaxLength = 2048,
    long: Long = "error",
    image_tokens: options.ImageTokens = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Loss, perplexity and accuracy on examples: the model, and with the adapter."""
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
    """Write a checkpoint with the adapter in its weights."""
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
    """Write an adapter in PEFT's format, or one of PEFT in mlx-lm's."""
    with reported(as_json):
        from .results import export_adapter

        screen = Screen(as_json=as_json)
        export_adapter(adapter, out, model, form, screen, overwrite, yes)
