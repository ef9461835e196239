"""The folder of kept prompts: what of it a prompt can begin with, and what is added."""

import errno
import itertools
import os
import re
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..decoding.prefix import PrefixCache, usable
from ..decoding.prefixes import FEW
from ..errors import CacheError, CheckpointError
from ..reading.sizes import free_space
from ..state import PROMPTS, data_folder, runs
from . import contents, entry
from .entry import About, Head

MOST_BYTES = 8 * 10**9
MOST_FILES = 256  # each of which is looked into by every run
SPARE = 2 * 10**9  # bytes of the disk that stay free
# What may be written, or read, in place of reading one token. A disk of a Mac takes a
# millisecond or two for it; a model that keeps as much of a token takes longer to read.
PER_TOKEN = 2**21
WORK = re.compile(r"\.(\d{1,9})\.\d+\.part")
# What is wrong with a file that is no entry, whoever wrote it.
DAMAGED = (CacheError, CheckpointError, ValueError, KeyError, TypeError, RecursionError)

_count = itertools.count()


def prompts_folder() -> Path:
    return data_folder() / PROMPTS


@dataclass
class KeptPrompts:
    """What one model has read, kept in a folder with what others have.

    identity: of the model and all that decides what it makes of a prompt
        (`identity_of`).
    most_bytes: of all files; those that were not used for longest give way.
    of: the conversation that is kept for from now on, in place of what was kept for it;
        None is none, and each prompt is kept for itself.
    trouble: why something was not kept.
    """

    folder: Path
    identity: str
    most_bytes: int = MOST_BYTES
    of: str | None = None
    trouble: str = ""

    def __post_init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._writing = ThreadPoolExecutor(1)
        self._last: tuple[str | None, Future[None]] | None = None

    def recall(self, prefix: PrefixCache, keys: Sequence[int], least: int = 1) -> bool:
        """Gives an empty prefix cache the entry with which the fewest tokens of a
        prompt are left to read, if that saves `least`; whether it did.

        One that begins like the prompt, and cannot be returned to there, has the cache
        pin that place once it is read.
        """
        config = prefix.model.config.text_config
        caches = prefix.new_caches()
        found: list[tuple[int, Head]] = []
        alike = 0
        for head in self._current(prefix):
            wanted = usable(head.keys, keys)
            try:
                at = contents.points(head, caches, config)
            except CacheError:
                _forget(head.file)
                continue
            landing = max(point.lands_at(wanted) for point in at)
            if landing >= least and head.size <= PER_TOKEN * landing:
                found.append((landing, head))
            alike = max(alike, wanted)
        for _, head in sorted(found, key=lambda pair: -pair[0]):
            try:
                contents.put_back(prefix, head, self.most_bytes)
            except (OSError, *DAMAGED):
                _forget(head.file)
                continue
            with suppress(OSError):
                os.utime(head.file)
            return True
        if alike > FEW:
            prefix.shared = alike
        return False

    def keep(self, prefix: PrefixCache, least: int = 1) -> None:
        """Keeps what `prefix` holds, if `least` tokens of it are not kept yet and it is
        worth its bytes. It is written beside what goes on; `close` waits for it."""
        new = len(prefix.tokens) - prefix.on_disk
        whole = all(layer.offset == len(prefix.tokens) for layer in prefix.cache)
        if new < least or not whole:
            return
        pins = contents.pins_to_keep(prefix)
        arrays = contents.arrays_of(prefix, pins)
        types = {array.dtype for array in arrays.values()} - {mx.uint32}
        if len(types) != 1 or any(array.shape[0] != 1 for array in arrays.values()):
            return
        size = sum(array.nbytes for array in arrays.values())
        if size > min(PER_TOKEN * new, self.most_bytes // 2):
            return
        media = contents.media_of(prefix.keys)
        stated = [(pin.offset, pin.shared) for pin in pins]
        about = About(self._identity(prefix), self.of, stated, media)
        dtypes = {name: entry.STORED[array.dtype] for name, array in arrays.items()}
        plain = entry.plain_arrays(arrays)
        if self._last is not None and self.of is not None and self._last[0] == self.of:
            self._last[1].cancel()  # where it has not begun
        work = partial(self._write, about, tuple(prefix.tokens), dtypes, plain, size)
        self._last = self.of, self._writing.submit(work)
        prefix.on_disk = len(prefix.tokens)

    def close(self) -> None:
        """Waits until all is written."""
        self._writing.shutdown()

    def _write(
        self,
        about: About,
        tokens: Sequence[int],
        dtypes: dict[str, str],
        arrays: dict[str, np.ndarray],
        size: int,
    ) -> None:
        work = self.folder / f".{os.getpid()}.{next(_count)}.part"
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(exist_ok=True)
            self.folder.chmod(0o700)
            if free_space(self.folder) < size + SPARE:
                self.trouble = f"less than {SPARE / 1e9:g} GB would be free"
                return
            name = entry.write(work, about, tokens, dtypes, arrays)
            os.replace(work, self.folder / name)
            if about.of is not None:
                remove_of(self.folder, {about.of}, besides=name)
            make_room(self.folder, self.most_bytes)
        except OSError as error:
            self.trouble = error.strerror or str(error)
        finally:
            _forget(work)  # where it was not put in place

    def _identity(self, prefix: PrefixCache) -> str:
        return f"{self.identity} {prefix.kv_bits}"

    def _current(self, prefix: PrefixCache) -> list[Head]:
        """The entries of this model and kind of cache. What is none is removed."""
        identity = self._identity(prefix)
        found = read_heads(self.folder, self._heads, self.most_bytes)
        self._heads = heads = {head.file.name: head for head in found}
        return [h for h in heads.values() if h.about.identity == identity]


def _forget(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


def files(folder: Path) -> list[Path]:
    """Of entries, or what is in their place."""
    with suppress(OSError):
        return [folder / n for n in os.listdir(folder) if entry.NAME.fullmatch(n)]
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
            _forget(file)
    return found


def remove_of(folder: Path, conversations: Collection[str], besides: str = "") -> None:
    """Removes what is kept for conversations."""
    for head in read_heads(folder, {}):
        if head.about.of in conversations and head.file.name != besides:
            _forget(head.file)


def remove_all(folder: Path) -> None:
    """Removes everything that is kept."""
    for file in files(folder):
        _forget(file)
    make_room(folder, 0)


def make_room(folder: Path, most_bytes: int) -> None:
    """Removes what processes that were killed have left, and the entries that were not
    used for longest, until the others are MOST_FILES and `most_bytes` at most."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if (match := WORK.fullmatch(name)) and not runs(int(match[1])):
                (folder / name).unlink()
    used = _used(folder)
    over, many = sum(size for _, size, _ in used) - most_bytes, len(used) - MOST_FILES
    for n, (_, size, file) in enumerate(sorted(used)):
        if over <= 0 and n >= many:
            return
        _forget(file)
        over -= size


def _used(folder: Path) -> list[tuple[int, int, Path]]:
    """When entries were last used, their bytes, and they."""
    found: list[tuple[int, int, Path]] = []
    for file in files(folder):
        with suppress(OSError):
            about = file.lstat()
            found.append((about.st_mtime_ns, about.st_size, file))
    return found
