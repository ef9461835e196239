"""The folder of kept prompts: what lies in it, what gives way, and what is removed."""

import errno
import os
import re
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import CacheError, CheckpointError
from ..state import PROMPTS, data_folder, runs
from . import entry
from .entry import Head

MOST_FILES = 256  # each of which is looked into by every run
WORK = re.compile(r"\.(\d{1,9})\.\d+\.part")
# What is wrong with a file that is no entry, whoever wrote it.
DAMAGED = (CacheError, CheckpointError, ValueError, KeyError, TypeError, RecursionError)


def prompts_folder() -> Path:
    return data_folder() / PROMPTS


def discard(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


def files(folder: Path) -> list[Path]:
    """Of entries, or what is in their place."""
    with suppress(OSError):
        return _entries(_listed(folder))
    return []


def _entries(listed: Iterable[Path]) -> list[Path]:
    return [file for file in listed if entry.NAME.fullmatch(file.name)]


def _listed(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []


def total(folder: Path) -> int:
    """Bytes of all entries."""
    return sum(size for _, size, _ in _used(folder))


def read_heads(folder: Path, known: dict[str, Head], most: int = 2**63) -> list[Head]:
    """What the entries in a folder say of themselves; what is none is removed."""
    found: list[Head] = []
    for file in files(folder):
        try:
            found.append(known.get(file.name) or entry.read_head(file, most))
        except OSError as error:  # gone, or not to be read; but no link is ours
            damaged = error.errno == errno.ELOOP
        except DAMAGED:
            damaged = True
        else:
            continue
        if damaged:
            discard(file)
    return found


def remove_of(folder: Path, conversations: Collection[str]) -> None:
    """Removes what is kept for conversations, with what cannot be read: it may be of
    theirs. Raises OSError for what stays, once all else is gone."""
    listed = _listed(folder)
    found = [file for file in _entries(listed) if _is_of(file, conversations)]
    _remove(found + _left_over(listed))


def _is_of(file: Path, conversations: Collection[str]) -> bool:
    try:
        return entry.read_head(file, 2**63).about.of in conversations
    except (OSError, *DAMAGED):
        return True


def remove_all(folder: Path) -> None:
    """Removes everything that is kept. Raises OSError for what stays, once all else is
    gone."""
    listed = _listed(folder)
    _remove(_entries(listed) + _left_over(listed))


def _remove(doomed: Iterable[Path]) -> None:
    stays: list[OSError] = []
    for file in doomed:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            stays.append(error)
    if stays:
        raise stays[0]


def _left_over(listed: Iterable[Path]) -> list[Path]:
    """What processes that were killed have left."""
    found = ((file, WORK.fullmatch(file.name)) for file in listed)
    return [file for file, match in found if match and not runs(int(match[1]))]


def make_room(folder: Path, most_bytes: int) -> None:
    """Removes what processes that were killed have left, and the entries that were not
    used for longest, until the others are MOST_FILES and `most_bytes` at most."""
    with suppress(OSError):
        for file in _left_over(_listed(folder)):
            discard(file)
    used = _used(folder)
    over, many = sum(size for _, size, _ in used) - most_bytes, len(used) - MOST_FILES
    for n, (_, size, file) in enumerate(sorted(used)):
        if over <= 0 and n >= many:
            return
        discard(file)
        over -= size


def _used(folder: Path) -> list[tuple[int, int, Path]]:
    """When entries were last used, their bytes, and they. A time yet to come was told
    by a clock that has been set back since: those files would never give way."""
    found: list[tuple[int, int, Path]] = []
    now = time.time_ns() + 10**9  # file systems round
    for file in files(folder):
        with suppress(OSError):
            about = file.lstat()
            used = about.st_mtime_ns if about.st_mtime_ns <= now else 0
            found.append((used, about.st_size, file))
    return found
