"""The options that commands share, each declared once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mlx_gemma4.media import Kind
from mlx_gemma4.prompt.attachments import BUDGETS

MEDIA = "gemma4.media"  # where the options of a run leave the files they name

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="GEMMA4_MODEL",
        help="A short name (e4b, 26b: see `gemma4 list --all`), a Hub id "
        "(owner/name), a folder, or demo.",
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option("--adapter", metavar="DIR", help="An adapter to put on the model."),
]
System = Annotated[
    str | None, typer.Option("--system", "-s", help="The system instruction.")
]
ShowThinking = Annotated[
    bool | None,
    typer.Option(
        "--show-thinking/--hide-thinking",
        help="Print thoughts to stderr. On a terminal they are shown by default.",
    ),
]
Tools = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        metavar="FILE",
        help="A JSON file with a list of tools the model may call. "
        "Calls are printed, never run.",
    ),
]


def in_order(kind: Kind) -> Callable[[typer.Context, list[str] | None], object]:
    """Collects media in `context.meta[MEDIA]`, as (kind, path).

    The kinds come in the order of their first mention: an option has all its values
    before the next one has any.
    """

    def collect(context: typer.Context, value: list[str] | None) -> list[str] | None:
        media = context.meta.setdefault(MEDIA, [])
        media += [(kind, path) for path in value or ()]
        return value

    return collect


Image = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="FILE",
        callback=in_order("image"),
        help="A picture for the first message. Repeatable.",
    ),
]
Audio = Annotated[
    list[str] | None,
    typer.Option(
        "--audio",
        metavar="FILE",
        callback=in_order("audio"),
        help="A recording for the first message. Repeatable.",
    ),
]
Video = Annotated[
    list[str] | None,
    typer.Option(
        "--video",
        metavar="FILE",
        callback=in_order("video"),
        help="A video, seen and not heard, for the first message. Repeatable. "
        "All files of a kind come together, the kinds in the order typed.",
    ),
]
Track = Annotated[
    int | None,
    typer.Option(
        "--track",
        min=1,
        help="Which sound track of a recording or video is heard. Default: its own.",
    ),
]
ImageTokens = Annotated[
    int | None,
    typer.Option(
        "--image-tokens",
        "--budget",
        metavar="N",
        help=f"The most tokens a picture may take: {BUDGETS}.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object per answer; errors likewise."),
]
Stats = Annotated[
    bool, typer.Option("--stats", help="Print speed and memory to stderr.")
]
Interactive = Annotated[
    bool,
    typer.Option(
        "--interactive",
        "-i",
        help="Hold a conversation, also when standard input is a pipe.",
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Fetch a model from the Hub without asking."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that exist.")
]
NoHistory = Annotated[
    bool,
    typer.Option(
        "--no-history",
        envvar="GEMMA4_NO_HISTORY",
        help="Do not keep what is typed at the prompt.",
    ),
]
