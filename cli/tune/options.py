"""The options of `gemma4 tune`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..options import Panel

Kind = Literal["lora", "dora", "full"]
DataPath = Annotated[
    Path,
    typer.Argument(
        help="A .jsonl, .json or .csv file, or a folder with one named train or text."
    ),
]
Out = Annotated[
    Path | None,
    Panel.ADAPTER.option("--out", "-o", metavar="ADAPTER", help="The folder to make."),
]
TrainKind = Annotated[Kind, Panel.ADAPTER.option("--kind", help="What to train.")]
Rank = Annotated[
    int, Panel.ADAPTER.option("--rank", min=1, help="Size of the adapter.")
]
Scale = Annotated[
    float, Panel.ADAPTER.option("--scale", help="Weight of the adapter: alpha / rank.")
]
Target = Annotated[
    list[str] | None,
    Panel.ADAPTER.option(
        "--target",
        metavar="PART",
        help="attention, mlp, experts, vision or audio. Repeatable. "
        "Default: attention and mlp.",
    ),
]
Layers = Annotated[
    int | None,
    Panel.ADAPTER.option(
        "--layers", min=1, help="Only the last so many. Default: all."
    ),
]
Epochs = Annotated[
    float, Panel.TRAINING.option("--epochs", min=0.0, help="Passes through the data.")
]
Steps = Annotated[
    int | None,
    Panel.TRAINING.option("--steps", min=1, help="Updates, instead of --epochs."),
]
Batch = Annotated[
    int,
    Panel.TRAINING.option(
        "--batch", min=1, help="Examples that are read side by side."
    ),
]
Accumulate = Annotated[
    int, Panel.TRAINING.option("--accumulate", min=1, help="Batches of one update.")
]
Rate = Annotated[
    float,
    Panel.TRAINING.option(
        "--learning-rate", "--lr", min=0.0, help="The highest of the run."
    ),
]
Schedule = Annotated[
    Literal["cosine", "linear", "constant"],
    Panel.TRAINING.option("--schedule", help="How the learning rate falls."),
]
Warmup = Annotated[
    float,
    Panel.TRAINING.option(
        "--warmup", min=0.0, max=1.0, help="Share of steps that rise."
    ),
]
Decay = Annotated[
    float, Panel.TRAINING.option("--weight-decay", min=0.0, help="AdamW's.")
]
Clip = Annotated[
    float,
    Panel.TRAINING.option(
        "--clip", min=0.0, help="Largest norm of a gradient; 0 is any."
    ),
]
Seed = Annotated[
    int,
    Panel.TRAINING.option(
        "--seed", min=0, help="Decides order, split and first values."
    ),
]
MaxLength = Annotated[
    int, Panel.DATA.option("--max-length", min=2, help="Most tokens of an example.")
]
Long = Annotated[
    Literal["error", "skip", "cut"],
    Panel.DATA.option("--long", help="What becomes of longer conversations."),
]
Share = Annotated[
    float,
    Panel.DATA.option(
        "--validation",
        min=0.0,
        max=0.9,
        help="Share kept back to validate with, where there is no validation set.",
    ),
]
Checkpoint = Annotated[
    bool,
    Panel.TRAINING.option(
        "--checkpoint/--no-checkpoint", help="Compute layers twice to need less memory."
    ),
]
Every = {"min": 0, "help": "In steps; 0 is never."}
ValidateEvery = Annotated[int, Panel.RUN.option("--validate-every", **Every)]
SaveEvery = Annotated[int, Panel.RUN.option("--save-every", **Every)]
SampleEvery = Annotated[int, Panel.RUN.option("--sample-every", **Every)]
Resume = Annotated[
    bool, Panel.RUN.option("--resume", help="Go on with the run in ADAPTER.")
]
ShowMask = Annotated[
    int,
    Panel.DATA.option(
        "--show-mask",
        metavar="N",
        min=0,
        help="Show what is learned of the first N examples, and stop.",
    ),
]
DryRun = Annotated[bool, Panel.RUN.option("--dry-run", help="Print the plan and stop.")]
