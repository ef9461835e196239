"""The options of `gemma4 bench`."""

from typing import Annotated

from ..options import Panel

Context = Annotated[
    str | None,
    Panel.TASK.option(
        "--context",
        metavar="N,N…",
        help="Lengths of prompt to measure at, such as 512,4096. By default a short "
        "and a long one that fit the memory.",
    ),
]
Decode = Annotated[
    int | None,
    Panel.TASK.option(
        "--decode",
        min=1,
        help="Tokens to decode: 128, or 32 without a GPU; with --drafts at most, and "
        "twice as many.",
    ),
]
Runs = Annotated[
    int,
    Panel.TASK.option(
        "--runs", min=1, help="Rounds that count; 3 or more give a verdict."
    ),
]
Against = Annotated[
    str | None,
    Panel.TASK.option(
        "--against",
        metavar="mlx-lm|none",
        help="mlx-lm: measure it too, or fail. none: do not. By default it is measured "
        "where it runs the model.",
    ),
]
Drafts = Annotated[
    bool,
    Panel.TASK.option(
        "--drafts",
        help="Measure answers without drafts and with each kind of them instead.",
    ),
]
Prompt = Annotated[
    str | None,
    Panel.TASK.option(
        "--prompt",
        metavar="TEXT",
        help="What --drafts has answered, in place of two texts of its own.",
    ),
]
Share = Annotated[
    bool,
    Panel.OUTPUT.option(
        "--share",
        help="Also write medians, ranges, chip and versions to a small file in the "
        "current folder, to be sent in. It holds no paths.",
    ),
]
