"""Assembles the command `gemma4`.

Nothing heavy is imported here: the tokenizer and the Hub are imported by the
commands that need them, so that `gemma4 --help` answers at once.
"""

import sys
from typing import Annotated

import typer

from mlx_gemma4 import __version__

from .batch.command import batch
from .bench.command import bench
from .chat.command import chat
from .config.command import app as config
from .config.defaults import configure
from .convert.command import convert
from .describe.command import describe
from .doctor.command import doctor
from .errors import reported
from .logs.command import app as logs
from .macs.starting import together
from .models.command import default, list_models, pull, rm, show
from .serve.command import serve
from .transcribe.command import transcribe
from .tune.command import app as tune
from .usage.command import HELP, App
from .usage.completion import Install, Show, answer_shell, with_shell
from .usage.layout import width

app = App(
    """Run Gemma 4 on this machine.

    Examples:
    gemma4 pull e4b
    gemma4 chat
    gemma4 chat "What is the capital of France?"
    gemma4 describe photo.jpg
    gemma4 transcribe talk.mp3 --format srt
    """
)
MODELS, OTHER = "Models", "Measure, make, set up"
app.command()(chat)
app.command(short_help="Say what is in pictures and videos.")(describe)
app.command()(transcribe)
app.command()(batch)
app.command()(serve)
app.add_typer(logs, name="logs")
app.command(rich_help_panel=MODELS)(pull)
app.command("list", rich_help_panel=MODELS)(list_models)
app.command(rich_help_panel=MODELS)(show)
app.command(rich_help_panel=MODELS)(rm)
app.command(rich_help_panel=MODELS)(default)
app.command(rich_help_panel=OTHER)(convert)
app.add_typer(tune, name="tune", rich_help_panel=OTHER)
app.command(rich_help_panel=OTHER)(bench)
app.command(rich_help_panel=OTHER)(doctor)
app.add_typer(config, name="config", rich_help_panel=OTHER)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"gemma4 {__version__}")
        raise typer.Exit()


@app.callback(
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": list(HELP), "terminal_width": width()},
)
def gemma4(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
    install_completion: Install = None,
    show_completion: Show = None,
) -> None:
    if context.invoked_subcommand != "config":
        configure(context)
    if context.invoked_subcommand is None:
        print(context.get_help())


def implied() -> list[str] | None:
    """What `gemma4` alone means on a terminal; None for the words that were typed."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    alone = len(sys.argv) == 1 and all(stream.isatty() for stream in streams)
    return ["chat"] if alone else None


def run(as_json: bool) -> int:
    """Runs one command; returns its exit code."""
    answer_shell()
    words = implied() or with_shell(sys.argv[1:])
    try:
        with reported(as_json), together(words) as here:
            if not here:
                return 0
            code = app(words, standalone_mode=False, prog_name="gemma4")
    except typer.Exit as done:
        return done.exit_code
    return code or 0
