"""A folder of a model that is written whole, or not at all, where none or one was."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..checkpoint.folders import FUSED, RECORD
from ..errors import DiskFullError, TakenError
from ..hub.drafters import INSIDE
from ..hub.resolve import is_drafter
from ..reading.json_file import read_json
from ..state import FULL, disk_full, sync
from .errors import AdapterError
from .folders import Hold, check_folder, make_folder

# Of hidden folders beside the result: what is being written, and what it replaces.
ENDS = ("gemma4-fusing", "gemma4-replaced")


@contextmanager
def replacing(out: Path, source: Path, overwrite: bool) -> Iterator[Path]:
    """A place for the files that take the name `out` when all of them are written.

    overwrite: of a model that is there and was fused or converted; any other folder has
    to be empty. Neither `source`, which the files are made of, nor what a kill leaves,
    nor a file that somebody put beside the model is ever lost.

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
    check_ours(out)


def check_ours(out: Path) -> None:
    """Raises TakenError where a folder holds more than a model that was fused or
    converted. Its drafter is more: it would be lost."""
    ours = {"README.md"} if (out / RECORD).is_file() else set()
    for record in (RECORD, FUSED):
        if files := read_json(out / record).get("files"):
            ours |= {record, *files}
    others = (file.name for file in out.iterdir() if file.name[0] != ".")
    if other := next((name for name in sorted(others) if name not in ours), None):
        what = f"holds {other}, which neither fusing nor converting wrote"
        remedy = "name another folder"
        if other == INSIDE and is_drafter(out / INSIDE):
            what = f"holds {INSIDE}, the drafter of what is there, which would be lost"
            remedy = f"move {INSIDE} away, or {remedy}"
        raise TakenError(f"{out} {what}: {remedy}.")


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink()
