"""Ogg (Vorbis, Opus and others) page by page: joined files apart, damage found.

A file may hold several recordings one after the other, links of a chain; libsndfile
reads the first. Pages have checksums, and say how far the sound goes.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

MARK = b"OggS"
HEAD = 27  # bytes of a page before its table
VERSION = 0  # of all pages so far
FIRST = 2  # flag of the first page of a stream
NOWHERE = 0xFFFF_FFFF_FFFF_FFFF  # the place of a page in which no packet ends
MIRRORED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


class Hole(NamedTuple):
    """Pages that are missing, between two places of the sound in samples."""

    before: int
    after: int


@dataclass
class Link:
    """One recording of a chain: its whole pages, and where some are missing."""

    pages: bytearray = field(default_factory=bytearray)
    holes: list[Hole] = field(default_factory=list)
    reached: int = 0  # samples
    damaged: bool = False  # since `reached`

    @property
    def opus(self) -> bool:
        return b"OpusHead" in self.pages[: HEAD + 64]


@dataclass
class Chain:
    """cut: whether the file ends within a page."""

    links: list[Link]
    cut: bool


def links(data: bytes) -> Chain | None:
    """The links of an Ogg file; None if it is none."""
    if data[:4] != MARK:
        return None
    at, chain, beginning, cut = 0, [Link()], True, False
    spent = 0  # bytes of pages that are none
    while (start := data.find(MARK, at)) >= 0:
        link = chain[-1]
        link.damaged = link.damaged or start > at
        size = _size(data, start)
        if size is None or start + size > len(data):
            cut = data.find(MARK, start + 1) < 0
            link.damaged = not cut
            at = start + 1
            continue
        page = data[start : start + size]
        if not _whole(page):
            spent += size
            if spent > 2 * len(data):  # marks without pages, to take time
                return None
            link.damaged = True
            # Its length may be wrong, too.
            at = start + (size if data[start + size : start + size + 4] == MARK else 1)
            continue
        first = bool(page[5] & FIRST)
        if first and not beginning:
            chain.append(link := Link())
        beginning = first
        _take(link, page)
        at = start + size
    return Chain(chain, cut)


def _take(link: Link, page: bytes) -> None:
    (place,) = struct.unpack("<Q", page[6:14])
    if place != NOWHERE:
        if link.damaged:
            link.holes.append(Hole(link.reached, place))
        link.reached, link.damaged = place, False
    link.pages += page


def _size(data: bytes, at: int) -> int | None:
    head = data[at : at + HEAD]
    if len(head) < HEAD or head[4] != VERSION:
        return None
    table = data[at + HEAD : at + HEAD + head[26]]
    return HEAD + len(table) + sum(table)


def _whole(page: bytes) -> bool:
    """Whether the checksum is right. It is zlib's, bit by bit the other way round."""
    (stated,) = struct.unpack("<I", page[22:26])
    plain = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(plain.translate(MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{found:032b}"[::-1], 2) == stated
