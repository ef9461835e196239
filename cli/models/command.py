"""`gemma4 pull`, `list`, `show`, `rm` and `default`: the models on this machine."""

import os
from typing import Annotated

import typer

from mlx_gemma4.reading.sizes import size

from .. import options
from ..config.file import Configuration, config_file
from ..errors import UsageError, reported
from ..render import Screen
from ..terminal.wrap import printed_columns
from ..usage import names

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A short name such as e4b, a Hub id, or a folder.",
        autocompletion=names.models,
    ),
]
OptionalName = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A short name such as e4b, e4b:qat or 26b, a Hub id, or a folder.",
        show_default=False,
        autocompletion=names.models,
    ),
]


def pull(
    model: OptionalName = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="Get the model's drafter as well.")
    ] = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Get a model, and say before what it is and takes.

    Without MODEL it is chosen from those that fit this machine. A variant whose
    original has to be converted is made here, tensor by tensor. Stopped with Ctrl-C,
    the same command goes on. A drafter is the small model that Google made to a large
    one, which then answers faster.

    Examples:
    gemma4 pull e4b
    gemma4 pull e4b:qat
    gemma4 pull e4b --draft
    gemma4 pull
    """
    screen = Screen(as_json=as_json)
    with reported(as_json):
        from mlx_gemma4.hub.resolve import resolve

        from .drafting import obtain_both
        from .first_run import can_choose, choose
        from .obtaining import obtain

        if model is None and not can_choose(screen):
            raise UsageError(
                "Name a model: gemma4 pull e4b. `gemma4 list --all` lists them."
            )
        drafter = None
        if draft:
            name, drafter = obtain_both(model or choose(screen), screen, yes)
        else:
            name = choose(screen) if model is None else obtain(model, screen, yes)
        folder = resolve(name)
        if as_json:
            value = {"name": name, "folder": str(folder)}
            screen.json(value | ({"drafter": str(drafter)} if drafter else {}))
            return
        print(f"{name} is here: {folder}", flush=True)
        if drafter is not None:
            print(f"Its drafter is here: {drafter}", flush=True)
        screen.note(f"Talk to it: gemma4 chat -m {name}")
        screen.note(f"Use it wherever no model is named: gemma4 default {name}")


def list_models(
    everything: Annotated[
        bool, typer.Option("--all", help="List what can be had, too.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List the models that are here, and where they are.

    With --all: every model that has a short name, what it takes to download, to keep
    and in memory, and whether this machine has room for it.

    Examples:
    gemma4 list
    gemma4 list --all
    """
    screen = Screen(as_json=as_json)
    with reported(as_json):
        from . import listing

        if as_json:
            screen.json(listing.as_json(everything))
            return
        print("\n".join(listing.lines(everything, printed_columns())), flush=True)


def show(model: Name, as_json: options.Json = False) -> None:
    """Say what a model is and what it takes; nothing is downloaded.

    `gemma4 doctor` checks one as well.

    Examples:
    gemma4 show e4b
    gemma4 show google/gemma-4-E2B-it
    """
    screen = Screen(as_json=as_json)
    with reported(as_json):
        from .showing import show as shown

        value, lines = shown(model)
        if as_json:
            screen.json(value)
        else:
            print("\n".join(lines), flush=True)


def rm(
    model: Name,
    yes: options.Remove = False,
    as_json: options.Json = False,
) -> None:
    """Remove a model that was fetched or converted, to free its disk space.

    Examples:
    gemma4 rm e4b:qat
    """
    screen = Screen(as_json=as_json)
    with reported(as_json):
        from .removing import remove

        nbytes = remove(model, screen, yes)
        if as_json:
            screen.json({"removed": model, "bytes": nbytes})
        else:
            print(f"Removed {model}: {size(nbytes)} are free again.", flush=True)


def default(
    model: OptionalName = None,
    unset: Annotated[
        bool, typer.Option("--unset", help="Keep no default any more.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Print, or set, the model of the commands that name none.

    --model, GEMMA4_MODEL and a model in the configuration come before it. It has to be
    here: `gemma4 pull` gets it.

    Examples:
    gemma4 default e4b
    gemma4 default
    gemma4 default --unset
    """
    screen = Screen(as_json=as_json)
    with reported(as_json):
        from .default import FROM_ENVIRONMENT, forget_default, kept_default

        if unset and model is not None:
            raise UsageError("Name a model, or take the default away with --unset.")
        if unset:
            forget_default()
        elif model is not None:
            set_default(model)
        kept = kept_default()
        if as_json:
            screen.json({"default": kept})
        elif kept is not None:
            print(kept, flush=True)
        else:
            screen.note("No default is kept: gemma4 default MODEL sets it.")
        if given := os.environ.get(FROM_ENVIRONMENT):
            screen.note(f"{FROM_ENVIRONMENT} is set and comes first: {given}.")
        elif given := Configuration.read(config_file()).table.get("model"):
            screen.note(f"{config_file()} names a model and comes first: {given}.")


def set_default(name: str) -> None:
    """Raises ModelNotFoundError for a model that is not here, and UsageError for a
    drafter."""
    from mlx_gemma4.errors import ModelNotFoundError
    from mlx_gemma4.hub.resolve import is_drafter, local_folder
    from mlx_gemma4.reading.home import with_home

    from .default import keep_default
    from .obtaining import exact_name

    if (folder := local_folder(name)) is None:
        raise ModelNotFoundError(f"{name} is not here: `gemma4 pull {name}` gets it.")
    if is_drafter(folder):
        raise UsageError(f"{name} is a drafter, which cannot chat: name its model.")
    own = folder == with_home(name)  # which it is in this folder only
    keep_default(str(folder.resolve()) if own else exact_name(name))
