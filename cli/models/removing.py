"""Removing a model from this machine: what was converted here, or the Hub's cache."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from mlx_gemma4.convert.journal import NAME as JOURNAL
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.cache import hub_cache
from mlx_gemma4.hub.here import Held, Place, held
from mlx_gemma4.hub.names import candidates, meant
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.listing import listed
from mlx_gemma4.reading.sizes import size
from mlx_gemma4.state import hold

from ..errors import UsageError
from ..render import Screen
from .default import forget_default, kept_default


def remove(name: str, screen: Screen, yes: bool) -> int:
    """Removes a model after a question; returns the bytes that its files took.

    Raises ModelNotFoundError, UsageError where nobody can be asked, and BusyError for a
    conversion that is under way.
    """
    found = removable(name)
    screen.note(f"{found.name} takes {size(found.nbytes)} in {_places(found)}.")
    if found.place is Place.CACHE:
        screen.note(shared(found))
    if not yes:
        if screen.as_json or not sys.stdin.isatty():
            raise UsageError(f"Add --yes to remove {found.name}.")
        if not typer.confirm("Remove it?", err=True):
            raise typer.Exit(0)
    for root in found.roots:
        remove_folder(root, found.place)
    if kept_default() == found.name:
        forget_default()
        screen.note("It was the default; there is none now.")
    return found.nbytes


def removable(name: str) -> Held:
    """What `name` is among the models that are here, whole or not."""
    here = held()
    wanted = {name, *(variant.name for variant in candidates(name))}
    found = [each for each in here if each.name in wanted or each.repo == name]
    if len(found) > 1:
        several = listed([each.name for each in found])
        raise UsageError(f"There are {several}: name one of them.")
    if not found:
        if os.path.isdir(with_home(name)):
            raise UsageError(f"{name} is a folder of yours: remove it yourself.")
        near = meant(name, [each.name for each in here])
        hint = f" Did you mean {near}?" if near and near != name else ""
        raise ModelNotFoundError(
            f"{name} is not here: `gemma4 list` shows what is.{hint}"
        )
    if found[0].place is Place.BUILT_IN:
        raise UsageError(f"{name} is built in, and stays.")
    return found[0]


def shared(found: Held) -> str:
    """What else may use a repository in the Hub's cache."""
    text = "Other programs that use the Hub's cache would have to download it again."
    revisions = sorted(path.name for path in (found.roots[0] / "snapshots").iterdir())
    if len(revisions) > 1:
        short = listed([name[:8] for name in revisions])
        text += f" It holds {len(revisions)} revisions, and all go: {short}."
    return text


def remove_folder(root: Path, place: Place) -> None:
    if place is Place.CONVERTED:
        with not_in_use(root):
            # First, so that what is left of a removal cut short is no model.
            (root / "config.json").unlink(missing_ok=True)
            shutil.rmtree(root)
        return
    shutil.rmtree(root)
    shutil.rmtree(hub_cache() / ".locks" / root.name, ignore_errors=True)


@contextmanager
def not_in_use(root: Path) -> Iterator[None]:
    """Keeps a conversion from going on in `root`. Raises BusyError where one does."""
    journal = root / JOURNAL
    if not journal.is_file():
        yield
        return
    with journal.open("rb") as stream:
        hold(stream.fileno(), root)
        yield


def _places(found: Held) -> str:
    return " and ".join(map(str, found.roots))
