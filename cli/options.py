"""The options that commands share, each declared once."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlx_gemma4.media import Kind
from mlx_gemma4.prompt.attachments import BUDGETS

from .config.defaults import use_preset
from .usage import names

MEDIA = "gemma4.media"  # where the options of a run leave the files they name


class Panel(StrEnum):
    """The groups of options in a command's help."""

    MODEL = "Model"
    TASK = "Task"
    FILES = "Files"
    ANSWER = "Answer"
    OUTPUT = "Output"


def is_configured(context: typer.Context, parameter: str) -> bool:
    """Whether its value is that of the configuration."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "DEFAULT_MAP"


def chosen(context: typer.Context, name: str | None) -> str | None:
    """`name`; that of the configuration gives way to the model that an adapter beside
    it was made for. Raises ChatError for kernels that do not exist."""
    from mlx_gemma4.bench.auto import check_setting

    check_setting()
    adapted = context.params.get("adapter") is not None
    return None if adapted and is_configured(context, "model") else name


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        envvar="GEMMA4_MODEL",
        callback=chosen,
        autocompletion=names.models,
        help="A short name (e4b, 26b: see `gemma4 list --all`), a Hub id "
        "(owner/name), a folder, or demo.",
        rich_help_panel=Panel.MODEL,
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        metavar="DIR",
        help="An adapter to put on the model.",
        rich_help_panel=Panel.MODEL,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system", "-s", help="The system instruction.", rich_help_panel=Panel.TASK
    ),
]
ShowThinking = Annotated[
    bool | None,
    typer.Option(
        "--show-thinking/--hide-thinking",
        help="Print thoughts to stderr. On a terminal they are shown by default.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Tools = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        metavar="FILE",
        help="A JSON file with a list of tools the model may call. "
        "Calls are printed, never run.",
        rich_help_panel=Panel.TASK,
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


Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        is_eager=True,  # the others take their values from it
        callback=use_preset,
        autocompletion=names.presets,
        help="Use the settings under [preset.NAME] in the configuration.",
        rich_help_panel=Panel.TASK,
    ),
]
Image = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="FILE",
        callback=in_order("image"),
        help="A picture for the first message. Repeatable.",
        rich_help_panel=Panel.FILES,
    ),
]
Audio = Annotated[
    list[str] | None,
    typer.Option(
        "--audio",
        metavar="FILE",
        callback=in_order("audio"),
        help="A recording for the first message. Repeatable.",
        rich_help_panel=Panel.FILES,
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
        rich_help_panel=Panel.FILES,
    ),
]
Track = Annotated[
    int | None,
    typer.Option(
        "--track",
        min=1,
        help="Which sound track of a recording or video is heard. Default: its own.",
        rich_help_panel=Panel.FILES,
    ),
]
Attach = Annotated[
    bool,
    typer.Option(
        "--attach/--no-attach",
        help="Attach the files that the prompt names by path.",
        rich_help_panel=Panel.FILES,
    ),
]
ImageTokens = Annotated[
    int | None,
    typer.Option(
        "--image-tokens",
        "--budget",
        metavar="N",
        help=f"The most tokens a picture may take: {BUDGETS}.",
        rich_help_panel=Panel.FILES,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object per answer; errors likewise.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain/--no-plain",
        envvar="GEMMA4_PLAIN",
        help="Show answers as they were written: Markdown is not rendered.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Preview = Annotated[
    bool | None,
    typer.Option(
        "--preview/--no-preview",
        help="Show pictures that are attached in a conversation: by default in kitty, "
        "Ghostty, Konsole, iTerm2 and WezTerm, outside of tmux and screen.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Stats = Annotated[
    bool,
    typer.Option(
        "--stats",
        help="Print speed and memory to stderr.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
Interactive = Annotated[
    bool,
    typer.Option(
        "--interactive",
        "-i",
        help="Hold a conversation, also when standard input is a pipe.",
        rich_help_panel=Panel.TASK,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Fetch a model from the Hub without asking.",
        rich_help_panel=Panel.MODEL,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace output files that exist.",
        rich_help_panel=Panel.OUTPUT,
    ),
]
NoHistory = Annotated[
    bool,
    typer.Option(
        "--no-history",
        envvar="GEMMA4_NO_HISTORY",
        help="Do not keep what is typed at the prompt.",
        rich_help_panel=Panel.TASK,
    ),
]
Log = Annotated[
    bool | None,
    typer.Option(
        "--log/--no-log",
        envvar="GEMMA4_LOG",
        help="Keep what is said, see gemma4 logs. Default: on a terminal.",
        show_default=False,
        rich_help_panel=Panel.TASK,
    ),
]
