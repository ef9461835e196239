"""A folder of a model that is written whole, or not at all, where none or one was."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import DiskFullError, TakenError
from ..state import FULL, disk_full, sync
from .errors import AdapterError
from .folders import Hold, check_folder, make_folder

# Of hidden folders beside the result: what is being written, and what it replaces.
ENDS = ("gemma4-fusing", "gemma4-replaced")


@contextmanager
def replacing(out: Path, source: Path, overwrite: bool) -> Iterator[Path]:
    """A place for the files that take the name `out` when all of them are written.

    overwrite: of a model that is there; any other folder has to be empty. Neither
    `source`, which the files are made of, nor what a kill leaves is ever lost.

    Raises TakenError, AdapterError, DiskFullError, and BusyError where another process
    does this.
    """
    out = Path(os.path.realpath(out))
    work, old = (out.with_name(f".{out.name}.{end}") for end in ENDS)
    check_folder(out)
    make_folder(work)
    with closing(Hold(work)) as hold:
        hold.take()
        try:
            if old.is_dir() and not out.exists():  # killed between two renames
                os.replace(old, out)
            _check(out, source, overwrite)
            _empty(work)  # of a process that was killed
            yield work
            for file in work.iterdir():  # the name must not come before the contents
                sync(file)
            sync(work)
            if out.exists() and any(out.iterdir()):
                shutil.rmtree(old, ignore_errors=True)
                os.replace(out, old)
            os.replace(work, out)
            sync(out.parent)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            if isinstance(error, DiskFullError):
                raise
            if error.errno in FULL:
                raise DiskFullError(disk_full(out)) from None
            reason = error.strerror or error
            raise AdapterError(f"{out} cannot be written ({reason}).") from None
        finally:  # after Ctrl-C too: the same command can be typed again
            shutil.rmtree(work, ignore_errors=True)


def _check(out: Path, source: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if os.path.ismount(out):
        raise TakenError(f"{out} is a mount point: name a folder inside it.")
    if out.samefile(source):
        raise TakenError(f"{out} is the model itself: name another folder.")
    if out in Path(os.path.realpath(source)).parents:
        raise TakenError(f"{out} holds the model, {source}: name another folder.")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise TakenError(f"{out} is not empty: name a new folder.")
    if not (out / "config.json").is_file():
        raise TakenError(f"{out} is not empty, and no model: name another folder.")


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink()
