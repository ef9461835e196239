"""Fetching single files from the Hub: resumed where they stopped, and checked.

The Hub library begins a file anew after each interruption, and its threads outlive
Ctrl-C; weights of tens of gigabytes need better.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from threading import Event, Lock

from ..errors import BusyError, CheckpointError, DiskFullError, ModelNotFoundError
from ..state import FULL, hold
from .cache import Cache, HubFile
from .refusals import first_line, why

WAITS = (1, 2, 4, 8, 16)  # seconds before each further try after a loss
TIMEOUT = 10.0  # seconds without a byte
PASSING = (408, 429, 500, 502, 503, 504)  # refusals that may be over soon
SPAN = 20 * 2**30  # bytes asked for at a time: storages limit one answer to 50 GB
BLOCK = 2**20
AGAIN = "Run the same command again to go on: what has come is kept."


class Lost(Exception):
    """The connection broke."""


def held(path: Path, name: str) -> FileIO:
    """Opens a file to append to it, and keeps others from that.

    Raises BusyError, and ModelNotFoundError where it cannot be written.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = open(path, "a+b", buffering=0)
        except OSError as error:
            if error.errno in FULL:
                raise
            raise ModelNotFoundError(
                f"{path.parent} cannot be written: {error.strerror}. Set HF_HOME to "
                "the folder where models shall be kept."
            ) from None
        try:
            hold(stream.fileno(), path)
            ours = os.fstat(stream.fileno())
            if path.exists() and os.path.samestat(ours, path.stat()):
                return stream
            stream.close()  # who had it until now is done with it
        except BusyError:
            stream.close()
            raise BusyError(
                f"{name} is being fetched by another process: wait for it to end."
            ) from None


class Partial:
    """A file of which a part is here. It grows at its end, and is checked at last."""

    def __init__(self, cache: Cache, file: HubFile) -> None:
        self.file, self._path = file, cache.partial(file)
        self._stream = held(self._path, file.name)
        self.done = 0
        self._digest = file.new_digest()

    def read(self) -> None:
        """Takes in what is here already."""
        self._stream.seek(0)
        while data := self._stream.read(BLOCK):
            self._count(data)

    def add(self, data: bytes) -> None:
        try:
            written = self._stream.write(data)
        except OSError as error:
            if error.errno not in FULL:
                raise
            written = 0
        if written != len(data):
            self._stream.truncate(self.done)
            raise DiskFullError(f"The disk is full. Make room. {AGAIN}")
        self._count(data)

    def finish(self, blob: os.PathLike[str]) -> None:
        """Gives it its name in the cache. Raises CheckpointError if it is damaged."""
        if self._digest.hexdigest() != self.file.digest:
            self._path.unlink()
            raise CheckpointError(
                f"{self.file.name} is not what the Hub lists: it came damaged, or is "
                "being replaced there. Nothing of it is kept; try again."
            )
        os.fsync(self._stream.fileno())
        os.replace(self._path, blob)

    def close(self) -> None:
        if not self.done and not self._stream.closed:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):  # of a repository that gives nothing
                os.removedirs(self._path.parent)
        self._stream.close()

    def _count(self, data: bytes) -> None:
        self._digest.update(data)
        self.done += len(data)


class Transfer:
    """Fetches files of a repository at one commit, from any number of threads.

    advance: is told of the bytes that come; note: of a loss, once until more come.
    """

    def __init__(
        self,
        repo: str,
        cache: Cache,
        advance: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers

        self.repo, self.cache = repo, cache
        self._advance, self._note = advance, note
        self._client = get_session()
        # A redirect to a storage, which is another host, drops the token.
        self._headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        self._stopped = Event()
        self._open: set[Partial] = set()
        self._lock = Lock()
        self._waiting = False

    def fetch(self, file: HubFile, upto: int | None = None) -> None:
        """Gets what lacks of a file, or of its first `upto` bytes.

        Raises ModelNotFoundError, CheckpointError, DiskFullError and BusyError.
        """
        begun = file.size - self.cache.lacking(file)
        if upto is not None and begun >= upto:
            return
        with self._lock:
            if self._stopped.is_set():
                return
            partial = Partial(self.cache, file)
            self._open.add(partial)
        try:
            partial.read()
            if self.cache.is_here(file):  # also where another process just fetched it
                return
            self._extend(partial, file.size if upto is None else upto)
            if partial.done >= file.size:
                partial.finish(self.cache.blob(file))
        finally:
            with self._lock:
                self._open.discard(partial)
                partial.close()

    def stop(self) -> None:
        """Ends it: from now on nothing is written, whatever threads still wait for."""
        self._stopped.set()
        with self._lock:
            for partial in self._open:
                partial.close()

    def _extend(self, partial: Partial, upto: int) -> None:
        losses = 0
        while partial.done < upto:
            before, end = partial.done, min(partial.done + SPAN, upto)
            try:
                for data in self._pieces(partial.file, before, end):
                    self._add(partial, data)
                if partial.done < end:
                    raise Lost("it ended early")
            except Lost as error:
                losses = 1 if partial.done > before else losses + 1
                self._wait(losses, error)

    def _add(self, partial: Partial, data: bytes) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise Lost("stopped")
            partial.add(data)
            self._waiting = False
        self._advance(len(data))

    def _wait(self, losses: int, error: Lost) -> None:
        """Before the next try. Raises ModelNotFoundError after the last one."""
        if losses > len(WAITS):
            raise ModelNotFoundError(
                f"The connection to the Hub is lost ({error}): check the network. "
                f"{AGAIN}"
            )
        with self._lock:
            first, self._waiting = not self._waiting, True
        if first and not self._stopped.is_set():
            self._note("The connection was lost: trying again.")
        if self._stopped.wait(WAITS[losses - 1]):
            raise ModelNotFoundError("stopped")

    def _pieces(self, file: HubFile, begin: int, end: int) -> Iterator[bytes]:
        """Its bytes from `begin` to before `end`.

        Raises Lost and ModelNotFoundError.
        """
        from huggingface_hub import hf_hub_url, hf_raise_for_status
        from huggingface_hub.errors import HfHubHTTPError

        url = hf_hub_url(self.repo, file.name, revision=self.cache.commit)
        headers = self._headers | {"Range": f"bytes={begin}-{end - 1}"}
        try:
            with self._client.stream(
                "GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True
            ) as answer:
                hf_raise_for_status(answer)
                behind = begin if answer.status_code == 200 else 0  # all of it came
                for data in answer.iter_raw():
                    yield data[behind:]
                    behind = max(0, behind - len(data))
        except HfHubHTTPError as error:
            if error.response.status_code in PASSING:
                raise Lost(first_line(error).rstrip(".")) from None
            raise ModelNotFoundError(why(error, self.repo, None)) from None
        except Exception as error:  # the network stack's own differ by release
            raise Lost(first_line(error).rstrip(".")) from None
