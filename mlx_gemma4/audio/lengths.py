"""How long an uncompressed recording is by its header, where that can be told.

libsndfile takes the end of a file for the end of the sound. A header that promises
more shows that the file was cut short: wav (RIFF, RIFX, RF64), aiff, au, w64 and caf.
One that promises less may have another file of its kind behind it.
"""

import io
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from ..reading.bounded import opened

# Written by programs that stream and cannot know the length: from sox's 0x7f000000 up.
UNKNOWN = 0x7F00_0000
MOST = 1 << 60  # bytes of a chunk
NO_HEADER = (struct.error, OSError)  # of a file that ends, or cannot be so large
CHUNKS = 1000  # looked through for the sound, at most
# How the chunks of a format begin, and the name of the one with the sound.
SHORT = {
    b"RIFF": ("<4sI", b"data"),
    b"RIFX": (">4sI", b"data"),
    b"FORM": (">4sI", b"SSND"),
}
CAF = ">4sq"
START = re.compile(
    rb"(RIFF|RIFX|RF64)....WAVE|FORM....AIF[FC]|caff\0\x01\0\0|\.snd\0\0"
    rb"|riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0",
    re.DOTALL,
)
BEHIND = 1 << 20  # bytes behind the sound that may hold titles and pictures
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def promised(source: Path | bytes, frames: int) -> int:
    """Samples per channel that the header promises, of which `frames` are there.

    At least `frames`, which it is too where nothing is promised.
    """
    with opened(source) as file:
        try:
            stated = _stated(file)
        except NO_HEADER:  # it ends within it
            return frames
        start = file.tell()
        there = file.seek(0, io.SEEK_END) - start
    if not 0 < there < stated:
        return frames
    return frames * stated // there


def joined(source: Path | bytes) -> Iterator[Path | bytes]:
    """Files that were written one behind the other, apart; `source` if it is one."""
    with opened(source) as file:
        starts = [0]
        while start := _next_start(file, starts[-1]):
            starts.append(start)
        if len(starts) == 1:
            yield source
            return
        for start, end in pairwise([*starts, file.seek(0, io.SEEK_END)]):
            file.seek(start)
            yield file.read(end - start)


def _next_start(file: BinaryIO, start: int) -> int:
    """Where a file begins behind the one that begins at `start`, 0 if none does."""
    file.seek(start)
    try:
        if not (stated := _stated(file)):
            return 0
    except NO_HEADER:
        return 0
    end = file.tell() + stated
    if end >= file.seek(0, io.SEEK_END):
        return 0
    file.seek(end)
    found = START.search(file.read(BEHIND))
    return end + found.start() if found else 0


def _stated(file: BinaryIO) -> int:
    """Bytes of sound that the header here states, 0 for none; `file` is left where they
    begin. Raises NO_HEADER where the file ends before."""
    mark = file.read(4)
    if mark == b"RF64":
        return _rf64(file)
    if mark == b"riff":
        return _w64(file)
    if mark == b"caff":
        return _caf(file)
    if mark == b".snd":
        start, stated = struct.unpack(">II", file.read(8))
        file.seek(start - 12, io.SEEK_CUR)
    elif mark in SHORT:
        file.seek(8, io.SEEK_CUR)
        stated = _found(file, *SHORT[mark])
    else:
        return 0
    return stated if stated < UNKNOWN else 0


def _found(file: BinaryIO, header: str, wanted: bytes) -> int:
    """The size of a chunk; all have a name, a size, and an even number of bytes."""
    for _ in range(CHUNKS):
        name, size = struct.unpack(header, file.read(struct.calcsize(header)))
        if name == wanted:
            return size
        file.seek(size + size % 2, io.SEEK_CUR)
    return 0


def _rf64(file: BinaryIO) -> int:
    """A wav whose first chunk holds the sizes that do not fit into 32 bits."""
    file.seek(8, io.SEEK_CUR)
    name, size, _, stated = struct.unpack("<4sIQQ", file.read(24))
    file.seek(size - 16, io.SEEK_CUR)
    _found(file, *SHORT[b"RIFF"])
    return stated if name == b"ds64" and stated < MOST else 0


def _w64(file: BinaryIO) -> int:
    """Chunks with 64 bits for a size that counts their header, in steps of 8 bytes."""
    file.seek(36, io.SEEK_CUR)
    for _ in range(CHUNKS):
        name, size = struct.unpack("<16sQ", file.read(24))
        if name == W64_DATA:
            return size - 24
        if not 24 <= size < MOST:
            break
        file.seek((size + 7) // 8 * 8 - 24, io.SEEK_CUR)
    return 0


def _caf(file: BinaryIO) -> int:
    """Chunks with 64 bits for a size; the sound's may be -1, up to the end."""
    file.seek(4, io.SEEK_CUR)
    for _ in range(CHUNKS):
        name, size = struct.unpack(CAF, file.read(12))
        if name == b"data":
            file.seek(4, io.SEEK_CUR)  # a count of edits
            return size - 4 if 4 < size < MOST else 0
        if not 0 <= size < MOST:
            break
        file.seek(size, io.SEEK_CUR)
    return 0


def caf_whole(source: Path | bytes) -> Path | bytes:
    """A caf whose sound goes up to its end; anything else as it is. libsndfile refuses
    one that was cut."""
    with opened(source) as file:
        if file.read(4) != b"caff":
            return source
        try:
            stated = _caf(file)
        except NO_HEADER:
            return source
        start = file.tell()
        if not 0 < file.seek(0, io.SEEK_END) - start < stated:
            return source
        file.seek(0)
        data = bytearray(file.read())
    data[start - 12 : start - 4] = struct.pack(">q", len(data) - start + 4)
    return bytes(data)
