"""Reading to the end, where there is one: a file may be a device or a pipe."""

import errno
import io
from pathlib import Path
from typing import BinaryIO

from .sizes import size

TEXT = 2**28  # bytes of a JSON file or a text; a tokenizer.json has 33 million
CHUNK = 2**20


def opened(source: Path | bytes) -> BinaryIO:
    """A file, or what one would hold, to be read."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def read_bytes(path: Path, most: int = TEXT) -> bytes:
    """All of a file. Raises OSError, also for one that does not end after `most`
    bytes."""
    with path.open("rb") as stream:
        return read_all(stream, most)


def read_all(stream: BinaryIO, most: int = TEXT) -> bytes:
    """The rest of a stream. Raises OSError as `read_bytes`."""
    data = bytearray()
    while block := stream.read(min(CHUNK, most + 1 - len(data))):
        data += block
        if len(data) > most:
            raise OSError(errno.EOVERFLOW, f"it does not end after {size(most)}")
    return bytes(data)
