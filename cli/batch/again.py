"""Answers that are written anew, with those that failed asked again.

They go into a file beside the old one, OUT.jsonl.retry, which takes its place once it
holds all that the old one does: at every moment the old one is whole and in order. What
a killed run has left of it is put in place by the next.
"""

import os
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mlx_gemma4.reading.bounded import CHUNK
from mlx_gemma4.state import hold, sync

from ..errors import unwritable


def beside(path: Path) -> Path:
    """Where the answers in `path`, which may be a link, are written anew."""
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}.retry")


class Again:
    """The file beside `old`, which lies at `path`.

    file: it. upto: how many bytes of the old one it stands for. whole: it ends with a
        whole answer, as it does not where writing failed or was stopped.
    """

    def __init__(self, path: Path, old: BinaryIO) -> None:
        self._work, self._path = beside(path), Path(os.path.realpath(path))
        self._old, self.upto, self.whole = old, 0, True
        self._asked: deque[tuple[int, int]] = deque()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            self.file = os.fdopen(os.open(self._work, flags, 0o600), "r+b")
            os.fchmod(self.file.fileno(), stat.S_IMODE(os.fstat(old.fileno()).st_mode))
            hold(self.file.fileno(), self._work)
        except OSError as error:
            raise unwritable(self._work, error) from None

    @property
    def asks(self) -> bool:
        """Whether an answer is waited for that takes the place of an old one."""
        return bool(self._asked)

    def ask(self, start: int, end: int) -> None:
        """What stands there in the old file is asked again."""
        self._asked.append((start, end))

    def write(self, data: bytes) -> None:
        """The answer to what was asked first of that. Raises OSError."""
        start, end = self._asked.popleft()
        self.whole = False
        self._copy(start)
        self.file.write(data)
        self.file.flush()
        self.upto, self.whole = end, True

    def put_in_place(self) -> BinaryIO:
        """With the rest of the old one it is what lies at `path`. Raises OSError."""
        self._copy(os.fstat(self._old.fileno()).st_size)
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self._work, self._path)
        with suppress(OSError):  # some file systems know no such thing
            sync(self._path.parent)
        self._old.close()
        return self.file

    def _copy(self, end: int) -> None:
        # By its number: what reads the old one line by line is elsewhere in it.
        while self.upto < end:
            most = min(CHUNK, end - self.upto)
            data = os.pread(self._old.fileno(), most, self.upto)
            if not data:
                return
            self.file.write(data)
            self.upto += len(data)
