"""The options of `gemma4 tune`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ADAPTER, TRAINING, DATA, RUN = "Adapter", "Training", "Data", "Run"
Kind = Literal["lora", "dora", "full"]
DataPath = Annotated[
    Path,
    typer.Argument(
        help="A .jsonl, .json or .csv file, or a folder with one named train or text."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="ADAPTER",
        help="The folder to make.",
        rich_help_panel=ADAPTER,
    ),
]
TrainKind = Annotated[
    Kind, typer.Option("--kind", help="What to train.", rich_help_panel=ADAPTER)
]
Rank = Annotated[
    int,
    typer.Option("--rank", min=1, help="Size of the adapter.", rich_help_panel=ADAPTER),
]
Scale = Annotated[
    float,
    typer.Option(
        "--scale",
        help="Weight of the adapter: alpha / rank.",
        rich_help_panel=ADAPTER,
    ),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="PART",
        help="attention, mlp, experts, vision or audio. Repeatable. "
        "Default: attention and mlp.",
        rich_help_panel=ADAPTER,
    ),
]
Layers = Annotated[
    int | None,
    typer.Option(
        "--layers",
        min=1,
        help="Only the last so many. Default: all.",
        rich_help_panel=ADAPTER,
    ),
]
Epochs = Annotated[
    float,
    typer.Option(
        "--epochs", min=0.0, help="Passes through the data.", rich_help_panel=TRAINING
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=1,
        help="Updates, instead of --epochs.",
        rich_help_panel=TRAINING,
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        "--batch",
        min=1,
        help="Examples that are read side by side.",
        rich_help_panel=TRAINING,
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(
        "--accumulate", min=1, help="Batches of one update.", rich_help_panel=TRAINING
    ),
]
Rate = Annotated[
    float,
    typer.Option(
        "--learning-rate",
        "--lr",
        min=0.0,
        help="The highest of the run.",
        rich_help_panel=TRAINING,
    ),
]
Schedule = Annotated[
    Literal["cosine", "linear", "constant"],
    typer.Option(
        "--schedule", help="How the learning rate falls.", rich_help_panel=TRAINING
    ),
]
Warmup = Annotated[
    float,
    typer.Option(
        "--warmup",
        min=0.0,
        max=1.0,
        help="Share of steps that rise.",
        rich_help_panel=TRAINING,
    ),
]
Decay = Annotated[
    float,
    typer.Option("--weight-decay", min=0.0, help="AdamW's.", rich_help_panel=TRAINING),
]
Clip = Annotated[
    float,
    typer.Option(
        "--clip",
        min=0.0,
        help="Largest norm of a gradient; 0 is any.",
        rich_help_panel=TRAINING,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        help="Decides order, split and first values.",
        rich_help_panel=TRAINING,
    ),
]
MaxLength = Annotated[
    int,
    typer.Option(
        "--max-length", min=2, help="Most tokens of an example.", rich_help_panel=DATA
    ),
]
Long = Annotated[
    Literal["error", "skip", "cut"],
    typer.Option(
        "--long", help="What becomes of longer conversations.", rich_help_panel=DATA
    ),
]
Share = Annotated[
    float,
    typer.Option(
        "--validation",
        min=0.0,
        max=0.9,
        help="Share kept back to validate with, where there is no validation set.",
        rich_help_panel=DATA,
    ),
]
Checkpoint = Annotated[
    bool,
    typer.Option(
        "--checkpoint/--no-checkpoint",
        help="Compute layers twice to need less memory.",
        rich_help_panel=TRAINING,
    ),
]
Every = {"min": 0, "help": "In steps; 0 is never.", "rich_help_panel": RUN}
ValidateEvery = Annotated[int, typer.Option("--validate-every", **Every)]
SaveEvery = Annotated[int, typer.Option("--save-every", **Every)]
SampleEvery = Annotated[int, typer.Option("--sample-every", **Every)]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on with the run in ADAPTER.", rich_help_panel=RUN
    ),
]
ShowMask = Annotated[
    int,
    typer.Option(
        "--show-mask",
        metavar="N",
        min=0,
        help="Show what is learned of the first N examples, and stop.",
        rich_help_panel=DATA,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the plan and stop.", rich_help_panel=RUN),
]
