"""`gemma4 config`: what is set, where, and changing it."""

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from typing import Annotated

import typer

from mlx_gemma4.reading.sizes import size
from mlx_gemma4.state import PROMPTS, data_folder, save_text

from .. import options
from ..errors import UsageError, reported, unwritable
from ..options import Panel
from ..render import Screen, printable
from ..usage.command import App, Group
from .defaults import read_defaults
from .effective import Setting, settings, toml
from .file import Configuration, config_file

TEMPLATE = """\
# Settings of gemma4. A key is the name of an option, and every command that has the
# option takes it from here. What is typed counts most, then the environment, then this.
#
# model = "e4b"
# system = "Answer briefly."
# temperature = 0.7
# plain = true        # Markdown is not rendered
# keep = false        # conversations are not kept
#
# [describe]          # for one command
# budget = 560
#
# [preset.coder]      # gemma4 chat --preset coder
# system = "You write Python."
# temperature = 0.2
#
# [mcp.clock]         # gemma4 chat --mcp clock
# command = "mcp-server-time --local-timezone UTC"
"""
EDITORS = ("VISUAL", "EDITOR")
WIDEST = 40  # of the lines that the origins stand in a column behind


class ShowByDefault(Group):
    """`gemma4 config` is `gemma4 config show`."""

    implied = "show"


app = App(
    cls=ShowByDefault,
    help="""Show or change settings: defaults of options, and presets.

    Examples:
    gemma4 config show --origin
    gemma4 config edit
    """,
)
Origin = Annotated[
    bool, Panel.OUTPUT.option("--origin", help="Say where each comes from.")
]


@app.command()
def show(
    context: typer.Context, origin: Origin = False, as_json: options.Json = False
) -> None:
    """Print what is set, in the file or by the environment.

    Examples:
    gemma4 config show
    gemma4 config show --origin
    """
    with reported(as_json):
        config = Configuration.read(config_file())
        root = context.find_root()
        read_defaults(root, config)  # says what is wrong
        found = settings(config, root.command)
        screen = Screen(as_json=as_json)
        told = prompts_told() if origin else ""
        if told:
            screen.note(told)
        if as_json:
            screen.json(
                {"file": str(config.path), "settings": [vars(s) for s in found]}
            )
        elif found:
            print(printable("\n".join(lines(found, origin))))
        else:
            screen.note("Nothing is set. gemma4 config edit sets something.")


def prompts_told() -> str:
    """Where the prompts are that were read, and how much they take, if any."""
    folder = data_folder() / PROMPTS
    sizes: list[int] = []
    for file in folder.glob("*.safetensors"):
        with suppress(OSError):  # another process removes some
            sizes.append(file.stat().st_size)
    told = f"What was read is kept in {folder}: {size(sum(sizes))}."
    return told if sizes else ""


@app.command()
def edit(context: typer.Context) -> None:
    """Open the file in your editor, and check it.

    The editor is the one that VISUAL or EDITOR names.

    Examples:
    gemma4 config edit
    """
    with reported(False):
        path = config_file()
        if not sys.stdin.isatty():
            raise UsageError(f"An editor needs a terminal. The settings are in {path}.")
        if not os.path.lexists(path):
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                save_text(path, TEMPLATE)
            except OSError as error:
                raise unwritable(path, error) from None
        run_editor(str(path))
        read_defaults(context.find_root(), Configuration.read(path))


@app.command()
def path() -> None:
    """Print where the file is, whether it exists or not.

    Examples:
    cat "$(gemma4 config path)"
    """
    with reported(False):
        print(config_file())


def run_editor(path: str) -> None:
    """Until it is closed. Raises UsageError where there is none, or it fails."""
    named = next(filter(None, map(os.environ.get, EDITORS)), "vi")
    try:
        failed = subprocess.run([*shlex.split(named), path]).returncode
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The editor {named!r} does not start: {error}. Set EDITOR to another."
        ) from None
    if failed:
        raise UsageError(f"The editor {named!r} failed ({failed}).")


def lines(found: list[Setting], origin: bool) -> list[str]:
    """As they stand in a file: those that count, or all and where they come from."""
    if not origin:
        return [f"{each.key} = {toml(each.value)}" for each in found if each.used]
    shown = [f"{each.key} = {toml(each.value)}" for each in found]
    width = max(len(line) if len(line) <= WIDEST else 0 for line in shown)
    return [f"{s:{width}}  # {e.origin}" for s, e in zip(shown, found, strict=True)]
