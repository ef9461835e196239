"""Folders that results go into: whether they can be had, made and filled."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import mlx.core as mx

from ..errors import DiskFullError, TakenError
from ..state import FULL, disk_full, hold, sync
from .errors import AdapterError

# In the folder of a run: files being written, and files that are all written.
SAVING, SAVED = ".saving", ".saved"
MARGIN = 2**20  # bytes that a disk may call free and yet not give


def check_folder(folder: Path) -> None:
    """Raises TakenError where `folder` is a file, and AdapterError where it could be
    neither made nor written: before hours of work, not after."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise TakenError(f"{place} is a file: name a folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise AdapterError(f"{place} cannot be written: name another folder.")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises as `check_folder` does."""
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(disk_full(folder)) from None
        raise AdapterError(f"{folder} cannot be made: {error.strerror}.") from None


class Hold:
    """Keeps other processes out of `folder`, from `take` until it is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises BusyError where another process has it. No folder, nothing to hold."""
        if self._descriptor is not None or not self.folder.is_dir():
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            hold(descriptor, self.folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def write_tensors(
    file: Path, tensors: Mapping[str, mx.array], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, or nothing: what a full disk took is removed again.

    Raises DiskFullError or AdapterError that names the folder; MLX says only how many
    bytes it had.
    """
    try:
        mx.save_safetensors(str(file), dict(tensors), dict(metadata))
    except RuntimeError as error:
        file.unlink(missing_ok=True)
        reason = str(error).rstrip(".")
        folder = file.parent.parent if file.parent.name == SAVING else file.parent
        size = sum(tensor.nbytes for tensor in tensors.values())
        if _is_full(file, size + MARGIN):
            raise DiskFullError(disk_full(folder / file.name)) from None
        raise AdapterError(
            f"{folder} cannot be written ({reason}): make room on its disk, or name "
            "another folder."
        ) from None


def _is_full(file: Path, size: int) -> bool:
    """Whether so many bytes do not fit where `file` was to be: MLX gives no reason, and
    what a disk calls free may be more than its user can have."""
    try:
        with open(file, "wb", buffering=0) as stream:
            for _ in range(0, size, MARGIN):
                stream.write(bytes(MARGIN))
    except OSError as error:
        return error.errno in FULL
    finally:
        file.unlink(missing_ok=True)
    return False


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """A place for files that take the places of those in `folder` all at once.

    Whenever the process is killed, `folder` has all of the old files, or after
    `finish_saving` all of the new ones: they are all in SAVED, or none is.
    """
    make_folder(folder)
    finish_saving(folder)
    work = folder / SAVING
    shutil.rmtree(work, ignore_errors=True)  # of a save that was killed
    make_folder(work)
    try:
        yield work
        for file in work.iterdir():  # the name must not come before the contents
            sync(file)
        sync(work)
        os.replace(work, folder / SAVED)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    finish_saving(folder)


def finish_saving(folder: Path) -> None:
    """Move what was saved to its place, also where that was interrupted.

    Raises AdapterError where the folder cannot be written.
    """
    saved = folder / SAVED
    if not saved.is_dir():
        return
    try:
        for file in sorted(saved.iterdir()):
            with suppress(FileNotFoundError):  # another process is as quick
                os.replace(file, folder / file.name)
        saved.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AdapterError(
            f"{folder} holds a save that was interrupted and cannot be ended there "
            f"({error.strerror}): make the folder writable."
        ) from None
