"""Removing a model from this machine: what was converted here, or the Hub's cache."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer

from mlx_gemma4.convert.journal import NAME as JOURNAL
from mlx_gemma4.errors import BusyError, ModelNotFoundError
from mlx_gemma4.hub.cache import PARTIAL, hub_cache
from mlx_gemma4.hub.drafters import drafter_beside
from mlx_gemma4.hub.here import Held, Place, drafters, held
from mlx_gemma4.hub.names import meant, models
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.listing import listed
from mlx_gemma4.reading.sizes import size
from mlx_gemma4.state import hold

from ..errors import InputError, UsageError
from ..render import Screen
from .default import forget_default, kept_default
from .listing import drafted_by


def remove(name: str, screen: Screen, yes: bool) -> int:
    """Removes a model after a question; returns the bytes that its files took.

    Raises ModelNotFoundError, UsageError where nobody can be asked, BusyError for what
    is being made or fetched, and InputError for what may not be removed.
    """
    found = removable(name)
    both = [found, *drafter_alone(found)]
    for each in both:
        start = each.name if each is found else f"Its drafter {each.name}"
        screen.note(f"{start} takes {size(each.nbytes)} in {_places(each)}.")
    if found.place is Place.CACHE:
        screen.note(shared(found))
    if not yes:
        if screen.as_json or not sys.stdin.isatty():
            raise UsageError(f"Add --yes to remove {found.name}.")
        if not typer.confirm(
            f"Remove {'it' if both == [found] else 'both'}?", err=True
        ):
            raise typer.Exit(0)
    for root, place in ((root, each.place) for each in both for root in each.roots):
        try:
            remove_folder(root, place)
        except BusyError:
            raise
        except OSError as error:
            raise InputError(
                f"{root} cannot be removed, or not all of it: {error.strerror}."
            ) from None
    if kept_default() == found.name:
        forget_default()
        screen.note("It was the default; there is none now.")
    return sum(each.nbytes for each in both)


def drafter_alone(model: Held) -> list[Held]:
    """The drafter in the Hub's cache that a model has and no other one here."""
    rest = [each for each in held() if each.folder != model.folder]
    folder = drafter_beside(model.folder)
    return [
        each
        for each in drafters()
        if each.folder == folder and not drafted_by(each, rest)
    ]


def removable(name: str) -> Held:
    """What `name` is among the models and drafters that are here, whole or not."""
    here = [*held(), *drafters()]
    model = models().get(name)
    wanted = {name, *(variant.name for variant in (model.variants if model else ()))}
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
            _remove_all(root)
        return
    with not_in_use(root):
        _remove_all(root)
    shutil.rmtree(hub_cache() / ".locks" / root.name, ignore_errors=True)


def _remove_all(root: Path) -> None:
    """Also where the folder was moved, to another disk, and a link leads there."""
    shutil.rmtree(os.path.realpath(root))
    if root.is_symlink():
        root.unlink()


@contextmanager
def not_in_use(root: Path) -> Iterator[None]:
    """Keeps a conversion or a download from going on in `root`. Raises BusyError where
    one does."""
    with ExitStack() as opened:
        for file in (*root.glob(JOURNAL), *root.glob(f"blobs/*{PARTIAL}")):
            stream = opened.enter_context(file.open("rb"))
            hold(stream.fileno(), root)
        yield


def _places(found: Held) -> str:
    return " and ".join(map(str, found.roots))
