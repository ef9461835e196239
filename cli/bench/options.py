"""The options of `gemma4 bench`."""

from typing import Annotated

import typer

from ..options import Panel

Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="N,N…",
        help="Lengths of prompt to measure at, such as 512,4096. By default a short "
        "and a long one that fit the memory.",
        rich_help_panel=Panel.TASK,
    ),
]
Decode = Annotated[
    int | None,
    typer.Option(
        "--decode",
        min=1,
        help="Tokens to decode: 128, or 32 without a GPU.",
        rich_help_panel=Panel.TASK,
    ),
]
Runs = Annotated[
    int,
    typer.Option(
        "--runs",
        min=1,
        help="Rounds that count; 3 or more give a verdict.",
        rich_help_panel=Panel.TASK,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="mlx-lm|none",
        help="mlx-lm: measure it too, or fail. none: do not. By default it is measured "
        "where it runs the model.",
        rich_help_panel=Panel.TASK,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object; notes and errors too.",
        rich_help_panel=Panel.OUTPUT,
    ),
]

Share = Annotated[
    bool,
    typer.Option(
        "--share",
        help="Also write medians, ranges, chip and versions to a small file in the "
        "current folder, to be sent in. It holds no paths.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
