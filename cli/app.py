"""Assembles the command `gemma4`.

Nothing heavy is imported here: the tokenizer and the Hub are imported by the
commands that need them, so that `gemma4 --help` answers at once.
"""

import sys
from typing import Annotated

import typer

from mlx_gemma4 import __version__

from .bench.command import bench
from .chat.command import chat
from .convert.command import convert
from .describe.command import describe
from .doctor.command import doctor
from .errors import reported
from .models.command import default, list_models, pull, rm, show
from .transcribe.command import transcribe
from .tune.command import app as tune

# Typer's rich help and tracebacks cost 0.1 s of import and mark up the output.
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(chat)
app.command()(bench)
app.command()(convert)
app.command(short_help="Say what is in pictures and videos.")(describe)
app.command()(doctor)
app.command()(transcribe)
app.command()(pull)
app.command("list")(list_models)
app.command()(show)
app.command()(rm)
app.command()(default)
app.add_typer(tune, name="tune", short_help="Train an adapter on your examples.")


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"gemma4 {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def gemma4(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Run Gemma 4 on this machine."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def implied() -> list[str] | None:
    """What `gemma4` alone means on a terminal; None for the words that were typed."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    alone = len(sys.argv) == 1 and all(stream.isatty() for stream in streams)
    return ["chat"] if alone else None


def run(as_json: bool) -> int:
    """Runs one command; returns its exit code."""
    try:
        with reported(as_json):
            code = app(args=implied(), standalone_mode=False)
    except typer.Exit as done:
        return done.exit_code
    return code or 0
