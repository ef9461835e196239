"""What is kept between runs: in which folder, and never half written."""

import errno
import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from .errors import BusyError, DiskFullError

# Quotas are full disks, too; and so is a file as large as its system allows.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PRIVATE = 0o600  # for its owner only
PROMPTS = "prompts"  # the folder of what models have read, in that of data
STEM = 40  # characters of a name that its work file bears: names have at most 255 bytes


def state_folder() -> Path:
    """Where histories and measurements live, by the XDG rules, on macOS too."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(os.path.expanduser(base)) / "gemma4"


def data_folder() -> Path:
    """Where what the user made lives: conversations and models."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(os.path.expanduser(base)) / "gemma4"


def save_text(file: Path, text: str, mode: int | None = None) -> None:
    """Write a file in one go, as `save_bytes` does."""
    save_bytes(file, text.encode("utf-8"), mode)


def save_bytes(file: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file in one go: whoever reads it, and whenever the machine stops, it is
    the old one or the new one, however many processes write it.

    mode: of the file; None keeps that of the old one. A link stays, and leads to what
    was written. Raises OSError, and of it DiskFullError.
    """
    file = Path(os.path.realpath(file))
    if mode is None and file.exists():
        mode = file.stat().st_mode & 0o777
    _remove_left_over(file)
    work = file.with_name(f".{file.name[:STEM]}.{os.getpid()}.part")
    try:
        with open(work, "wb") as stream:
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(work, file)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(disk_full(file)) from None
        raise
    finally:
        with suppress(OSError):  # where it was put in place, or never begun
            work.unlink()
    with suppress(OSError):  # some file systems know no such thing
        sync(file.parent)


def disk_full(file: Path) -> str:
    """How it is said that there was no room to write a file."""
    return f"The disk is full: {file} was not written. Make room and try again."


def hold(descriptor: int, folder: Path) -> None:
    """Keep other processes from holding an open file or folder, until it is closed or
    this process ends. `folder` names it. Raises BusyError where another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError(
            f"{folder} is being written by another process: wait for it to end."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # file systems without
            raise


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_left_over(file: Path) -> None:
    """Of processes that were killed while they wrote this file."""
    ours = re.compile(rf"\.{re.escape(file.name[:STEM])}\.(\d{{1,9}})\.part")
    with suppress(OSError):
        for name in os.listdir(file.parent):
            if (match := ours.fullmatch(name)) and not runs(int(match[1])):
                file.with_name(name).unlink()


def runs(process: int) -> bool:
    """Whether a process is there, by its number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True
