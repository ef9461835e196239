"""Kept prompts of one model: with which a prompt can begin, and what is added."""

import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..decoding.prefix import PrefixCache, usable
from ..decoding.prefixes import FEW
from ..device import memory_limit
from ..errors import CacheError, is_out_of_memory
from ..reading.sizes import free_space
from . import contents, entry
from .entry import About, GivenUp, Head
from .folder import DAMAGED, discard, make_room, read_heads
from .writing import Waiting, Writing

MOST_BYTES = 8 * 10**9
SPARE = 2 * 10**9  # bytes of the disk that stay free
WAITING = 16  # what waits to be written takes at most this part of the memory
# What may be written, or read, in place of reading one token. A disk of a Mac takes a
# millisecond or two for it; a model that keeps as much of a token takes longer to read.
PER_TOKEN = 2**21

_count = itertools.count()


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
        self._writing = Writing(memory_limit() // WAITING)

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
                discard(head.file)
                continue
            landing = max(point.lands_at(wanted) for point in at)
            if landing >= least and head.size <= PER_TOKEN * landing:
                found.append((landing, head))
            alike = max(alike, wanted)
        for _, head in sorted(found, key=lambda pair: -pair[0]):
            try:
                contents.put_back(prefix, head, self.most_bytes)
            except (OSError, *DAMAGED):
                discard(head.file)
                continue
            except (MemoryError, RuntimeError) as error:  # RuntimeError is MLX's
                if not is_out_of_memory(error):
                    raise
                continue
            with suppress(OSError):
                os.utime(head.file)
            return True
        if alike > FEW:
            prefix.shared = alike
        return False

    def keep(self, prefix: PrefixCache, least: int = 1, spare: bool = False) -> None:
        """Keeps what `prefix` holds, if `least` tokens of it are not kept yet and it is
        worth its bytes. It is written beside what goes on; `close` waits for it.

        spare: it may be left out where much is to be written.
        """
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
        work = partial(self._write, about, tuple(prefix.tokens), dtypes, plain, size)
        if self._writing.add(Waiting(work, size, new, self.of, spare)):
            prefix.on_disk = len(prefix.tokens)

    @property
    def unwritten(self) -> int:
        """Bytes that are still to be written."""
        return self._writing.nbytes

    def close(self, seconds: float | None = None) -> bool:
        """Waits until all is written, or so long; whether it is."""
        return self._writing.wait(seconds)

    def give_up(self) -> None:
        """Leaves what is not written yet."""
        self._writing.give_up()

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
            given_up = partial(getattr, self._writing, "given_up")
            name = entry.write(work, about, tokens, dtypes, arrays, given_up)
            os.replace(work, self.folder / name)
            if about.of is not None:
                self._discard_others(about.of, name)
            make_room(self.folder, self.most_bytes)
        except GivenUp:
            self.trouble = "it was stopped"
        except OSError as error:
            self.trouble = error.strerror or str(error)
        except Exception as error:  # as of too little memory; nobody else would tell
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            discard(work)  # where it was not put in place

    def _discard_others(self, of: str, newest: str) -> None:
        for head in read_heads(self.folder, {}):
            if head.about.of == of and head.file.name != newest:
                discard(head.file)

    def _identity(self, prefix: PrefixCache) -> str:
        return f"{self.identity} {prefix.kv_bits}"

    def _current(self, prefix: PrefixCache) -> list[Head]:
        """The entries of this model and kind of cache. What is none is removed."""
        identity = self._identity(prefix)
        found = read_heads(self.folder, self._heads, self.most_bytes)
        self._heads = heads = {head.file.name: head for head in found}
        return [h for h in heads.values() if h.about.identity == identity]
