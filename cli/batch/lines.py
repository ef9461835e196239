"""The lines of a file of questions, one at a time: it may be larger than memory."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from mlx_gemma4.reading.bounded import CHUNK
from mlx_gemma4.reading.sizes import size

from ..errors import InputError
from ..media_formats import START, format_of

LONGEST = 2**28  # bytes of a line, which may hold a video


@dataclass(frozen=True)
class Line:
    """number: counted from 1, with empty lines. end: bytes of the file up to its end.
    digest: of its content."""

    number: int
    data: bytes
    end: int

    @property
    def digest(self) -> str:
        return sha256(self.data).hexdigest()[:16]

    def value(self) -> Any:
        """Raises InputError for what is no JSON."""
        if len(self.data) > LONGEST:
            raise InputError(f"The line is longer than {size(LONGEST)}.")
        try:
            return json.loads(self.data)
        except UnicodeDecodeError:
            raise InputError("The line is not UTF-8 text.") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"The line is no JSON: {error}.") from None


def read_lines(stream: BinaryIO, name: str) -> Iterator[Line]:
    """Those that are not empty. Raises InputError for what has no lines of JSON."""
    number = end = 0
    while data := _read(stream, name, LONGEST + 1):
        number, end = number + 1, end + len(data)
        if number == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")
            refuse_other(data, name)
        if len(data) > LONGEST:
            end += _skip(stream, name) if not data.endswith(b"\n") else 0
        if stripped := data.strip():
            yield Line(number, stripped, end)


def rewindable(stream: BinaryIO) -> BinaryIO:
    """The same, to be read twice: what comes through a pipe is laid down first."""
    if stream.seekable():
        return stream
    whole = TemporaryFile()
    copyfileobj(stream, whole)
    whole.seek(0)
    return whole


def _read(stream: BinaryIO, name: str, most: int) -> bytes:
    try:
        return stream.readline(most)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from None


def _skip(stream: BinaryIO, name: str) -> int:
    """Goes on behind the end of a line; how many bytes that is."""
    skipped = 0
    while data := _read(stream, name, CHUNK):
        skipped += len(data)
        if data.endswith(b"\n"):
            break
    return skipped


def refuse_other(start: bytes, name: str) -> None:
    """Raises InputError for a picture and the like, and for one JSON list."""
    if (form := format_of(start[:START])) is not None:
        raise InputError(f"{name} is {form.name}, not lines of JSON.")
    if start.lstrip().startswith(b"["):
        raise InputError(
            f"{name} is a JSON list: give an object a line, as jq -c '.[]' makes them."
        )
