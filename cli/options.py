"""The options that commands share, each declared once."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.media import Kind
from mlx_gemma4.prompt.attachments import BUDGETS

from .config.defaults import use_preset
from .drafts import draft_of
from .usage import names

MEDIA = "gemma4.media"  # where the options of a run leave the files they name


class Panel(StrEnum):
    """The groups of options in a command's help."""

    MODEL = "Model"
    TASK = "Task"
    FILES = "Files"
    ANSWER = "Answer"
    CHECK = "Check"
    UPLOAD = "Upload"
    ADAPTER = "Adapter"
    TRAINING = "Training"
    DATA = "Data"
    RUN = "Run"
    SERVER = "Server"
    OUTPUT = "Output"

    def option(self, *names: str, **settings: Any) -> Any:
        """An option in this group."""
        return typer.Option(*names, rich_help_panel=self, **settings)


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
    Panel.MODEL.option(
        "--model",
        "-m",
        metavar="MODEL",
        envvar="GEMMA4_MODEL",
        callback=chosen,
        autocompletion=names.models,
        help="A short name (e4b, 26b: see `gemma4 list --all`), a Hub id "
        "(owner/name), a folder, or demo.",
    ),
]
PerLayer = Annotated[
    Ple,
    Panel.MODEL.option(
        "--ple",
        envvar="GEMMA4_PLE",
        help="Where the table of per-layer embeddings is: in memory, or on disk, from "
        "where each token's rows are read. auto: on disk where memory is tight.",
    ),
]
Adapter = Annotated[
    Path | None,
    Panel.MODEL.option(
        "--adapter", metavar="DIR", help="An adapter to put on the model."
    ),
]
System = Annotated[
    str | None, Panel.TASK.option("--system", "-s", help="The system instruction.")
]
ShowThinking = Annotated[
    bool | None,
    Panel.OUTPUT.option(
        "--show-thinking/--hide-thinking",
        help="Print thoughts to stderr. On a terminal they are shown by default.",
    ),
]
Tools = Annotated[
    Path | None,
    Panel.TASK.option(
        "--tools",
        metavar="FILE",
        help="A JSON file with a list of tools the model may call. "
        "Their calls are printed, never run.",
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
    Panel.TASK.option(
        "--preset",
        metavar="NAME",
        is_eager=True,  # the others take their values from it
        callback=use_preset,
        autocompletion=names.presets,
        help="Use the settings under [preset.NAME] in the configuration.",
    ),
]
Image = Annotated[
    list[str] | None,
    Panel.FILES.option(
        "--image",
        metavar="FILE",
        callback=in_order("image"),
        help="A picture for the first message. Repeatable.",
    ),
]
Audio = Annotated[
    list[str] | None,
    Panel.FILES.option(
        "--audio",
        metavar="FILE",
        callback=in_order("audio"),
        help="A recording for the first message. Repeatable.",
    ),
]
Video = Annotated[
    list[str] | None,
    Panel.FILES.option(
        "--video",
        metavar="FILE",
        callback=in_order("video"),
        help="A video, seen and not heard, for the first message. Repeatable. "
        "All files of a kind come together, the kinds in the order typed.",
    ),
]
Draft = Annotated[
    str | None,
    Panel.ANSWER.option(
        "--draft",
        metavar="HOW",
        envvar="GEMMA4_DRAFT",
        parser=draft_of,
        autocompletion=names.drafts,
        help="What proposes tokens that the model only checks: auto, assistant (its "
        "drafter), lookup (the text so far), off; or which drafter, a folder or Hub "
        "id. Default: auto where there is a drafter.",
    ),
]


def kv_bits_of(value: object) -> int:
    """What `--kv-bits` says. Raises ValueError that says what it takes."""
    if str(value) in names.kv_bits():
        return int(str(value))
    from mlx_gemma4.cache.packed import FEWER

    raise ValueError(f"8, or 0 for none. {FEWER}")


KvBits = Annotated[
    int | None,
    Panel.ANSWER.option(
        "--kv-bits",
        metavar="8",
        envvar="GEMMA4_KV_BITS",
        parser=kv_bits_of,
        autocompletion=names.kv_bits,
        help="Keep a long context in half the memory; answers change slightly. 0: as "
        "it is computed, the default.",
    ),
]
MaxContext = Annotated[
    int | None,
    Panel.MODEL.option(
        "--max-context",
        metavar="N",
        min=1,
        envvar="GEMMA4_MAX_CONTEXT",
        help="Tokens that a conversation may have: they must fit in memory, and no "
        "more are taken. Default: the model's own, or what fits.",
    ),
]
Track = Annotated[
    int | None,
    Panel.FILES.option(
        "--track",
        min=1,
        help="Which sound track of a recording or video is heard. Default: its own.",
    ),
]
Attach = Annotated[
    bool,
    Panel.FILES.option(
        "--attach/--no-attach", help="Attach the files that the prompt names by path."
    ),
]
ImageTokens = Annotated[
    int | None,
    Panel.FILES.option(
        "--image-tokens",
        "--budget",
        metavar="N",
        help=f"The most tokens a picture may take: {BUDGETS}.",
    ),
]
Json = Annotated[
    bool,
    Panel.OUTPUT.option(
        "--json", help="Print one JSON object per result; notes and errors too."
    ),
]
Plain = Annotated[
    bool,
    Panel.OUTPUT.option(
        "--plain/--no-plain",
        envvar="GEMMA4_PLAIN",
        help="Show answers as they were written: Markdown is not rendered.",
    ),
]
Preview = Annotated[
    bool | None,
    Panel.OUTPUT.option(
        "--preview/--no-preview",
        help="Show pictures that are attached in a conversation: by default in kitty, "
        "Ghostty, Konsole, iTerm2 and WezTerm, outside of tmux and screen.",
    ),
]
Stats = Annotated[
    bool, Panel.OUTPUT.option("--stats", help="Print speed and memory to stderr.")
]
Interactive = Annotated[
    bool,
    Panel.TASK.option(
        "--interactive",
        "-i",
        help="Hold a conversation, also when standard input is a pipe.",
    ),
]
ROWS = 8  # that of `generate_batch`; it takes long to import
Rows = Annotated[
    int,
    Panel.ANSWER.option(
        "--rows",
        min=1,
        metavar="N",
        help="How many answers are made at once; each takes memory of its own.",
    ),
]
Yes = Annotated[
    bool,
    Panel.MODEL.option(
        "--yes", "-y", help="Fetch a model from the Hub without asking."
    ),
]
Remove = Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")]
Overwrite = Annotated[
    bool, Panel.OUTPUT.option("--overwrite", help="Replace output files that exist.")
]
