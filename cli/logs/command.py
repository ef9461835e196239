"""`gemma4 logs`: the conversations that are kept."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mlx_gemma4.state import PRIVATE, save_text

from .. import options
from ..errors import UsageError, refuse_existing, reported, unwritable
from ..render import Screen, json_text, printable
from ..terminal.wrap import printed_columns
from ..usage.command import App, Group


def session_names() -> list[str]:
    """For completion."""
    from .store import session_names

    return session_names()


Which = Annotated[
    str | None,
    typer.Argument(
        metavar="WHICH",
        autocompletion=session_names,
        help="A conversation, by number or name. Default: the last one.",
        show_default=False,
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", "-n", min=0, help="How many at most; 0 is all.")
]


class ListByDefault(Group):
    """`gemma4 logs` is `gemma4 logs list`."""

    implied = "list"


app = App(
    cls=ListByDefault,
    help="""List, show, search and export the conversations that are kept.

    gemma4 chat -c goes on with the last one, gemma4 chat --session WHICH with any.
    Without a command they are listed.

    Examples:
    gemma4 logs
    gemma4 logs show
    gemma4 logs search bicycle
    gemma4 logs export 3 --format md
    """,
)


@app.command("list")
def list_all(limit: Limit = 20, as_json: options.Json = False) -> None:
    """List conversations, the last first: number, time, messages, model, beginning.

    Examples:
    gemma4 logs list
    gemma4 logs list -n 0 --json
    """
    with reported(as_json):
        from .opening import store_path
        from .report import list_line, summary_object
        from .rows import Summary
        from .store import NONE, opened

        screen = Screen(as_json=as_json)
        summaries: list[Summary] = []
        more = 0
        if store_path().exists():
            with opened() as store:
                summaries = store.summaries(limit or -1)
                more = store.count() - len(summaries)
        for summary in summaries:
            if as_json:
                screen.json(summary_object(summary))
            else:
                put(list_line(summary, printed_columns()))
        if more or not summaries:
            older = f"{more:,} older one{'s' if more > 1 else ''}"
            screen.note(f"{older}: -n 0 lists all." if more else NONE)


@app.command()
def show(
    which: Which = None,
    branches: Annotated[
        bool,
        typer.Option("--all", help="Also what /edit, /regen and /undo left behind."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Print a conversation.

    Examples:
    gemma4 logs show
    gemma4 logs show 3
    """
    with reported(as_json):
        from .report import transcript, whole_object
        from .store import opened

        screen = Screen(as_json=as_json)
        with opened() as store:
            number = store.found(which)
            turns = store.turns(number, branches)
            summary, setup = store.summary(number), store.setup(number)
        if as_json:
            screen.json(whole_object(summary, setup, turns))
        elif turns:
            screen.answer(transcript(turns) + "\n")
            screen.end()
        else:
            screen.note("All of it was taken back: --all shows it.")


@app.command()
def search(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="WORDS", help="Words, or how they begin.", show_default=False
        ),
    ],
    limit: Limit = 20,
    as_json: options.Json = False,
) -> None:
    """Find messages that hold all of the words, or words that begin so.

    Examples:
    gemma4 logs search bicycle
    """
    with reported(as_json):
        from .report import match_lines, match_object
        from .search import search
        from .store import opened

        plain = [word for given in words for word in given.split()]
        if not plain:
            raise UsageError("Name the words to search for.")
        screen = Screen(as_json=as_json)
        with opened() as store:
            matches = search(store, plain, limit or -1)
        for match in matches:
            if as_json:
                screen.json(match_object(match))
                continue
            for line in match_lines(match, printed_columns()):
                put(line)
        if not matches:
            screen.note("No message holds that.")


@app.command()
def export(
    which: Which = None,
    form: Annotated[
        Literal["json", "md"],
        typer.Option("--format", "-f", help="json is what /load reads, md Markdown."),
    ] = "json",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here.")
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a conversation to standard output, or to a file of its own.

    Examples:
    gemma4 logs export 3 --format md -o talk.md
    """
    with reported(as_json=False):
        from .report import saved_object, transcript
        from .store import opened

        if output is not None and not overwrite:
            refuse_existing(output)
        with opened() as store:
            number = store.found(which)
            turns, setup = store.turns(number), store.setup(number)
        if form == "md":
            text = transcript(turns)
        else:
            text = json_text(saved_object(setup, turns), indent=1)
        if output is None:
            put(text)
            return
        try:
            save_text(output, text + "\n", PRIVATE)
        except OSError as error:
            raise unwritable(output, error) from None
        Screen().note(f"Wrote {len(turns)} messages to {output}.")


@app.command()
def rm(
    which: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHICH",
            autocompletion=session_names,
            help="Conversations, by number or name.",
            show_default=False,
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    yes: options.Remove = False,
) -> None:
    """Remove conversations for good, from the disk as well.

    Examples:
    gemma4 logs rm 3
    gemma4 logs rm --all
    """
    with reported(as_json=False):
        from .removing import remove

        if bool(which) == all:
            raise UsageError("Name conversations by number or name, or add --all.")
        remove(None if all else which, yes)


def put(text: str) -> None:
    """Prints what is no answer to be rendered."""
    print(printable(text) if sys.stdout.isatty() else text)
