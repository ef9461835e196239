"""Raw AAC (ADTS) as a walk over its frames: what lies between them is lost time.

Readers go on behind a damaged spot as if nothing had been there, and count time by the
rate of the first frame, also where files of other rates were joined.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..reading.bounded import opened
from .mpeg import TAIL, after_tag

RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000)
RATES += (12_000, 11_025, 8_000, 7_350)  # hertz
SAMPLES = 1024  # per channel and block
HEAD = 7  # bytes
LARGEST = 1 << 30  # bytes that are looked through: days of AAC
CHAIN = 3  # frames one after the other are no accident


class Frame(NamedTuple):
    """kind: what does not change within a recording."""

    kind: bytes
    length: int  # bytes
    seconds: float


@dataclass
class Piece:
    """Whole frames that follow each other; `lost` bytes lie in front of them."""

    kind: bytes
    lost: int
    seconds: float = 0.0
    stream: bytearray = field(default_factory=bytearray)


def pieces_of(source: Path | bytes) -> list[Piece]:
    """A recording apart where something is lost, or its kind changes; nothing if it is
    no raw AAC, or larger than LARGEST."""
    with opened(source) as file:
        start = file.read(10)
        raw = start[:3] == b"ID3" or start[:1] == b"\xff"
        if not raw or file.seek(0, io.SEEK_END) > LARGEST:
            return []
        file.seek(0)
        return _pieces(file.read())


def _pieces(data: bytes) -> list[Piece]:
    at = after_tag(data, 0)
    if not _chained(data, at):
        return []
    found: list[Piece] = []
    lost = 0
    while at < len(data):
        if (behind := after_tag(data, at)) > at:
            at = behind
        elif (frame := _frame(data, at)) and _goes_on(data, at, frame):
            if lost or not found or found[-1].kind != frame.kind:
                found.append(Piece(frame.kind, lost))
            found[-1].seconds += frame.seconds
            found[-1].stream += data[at : at + frame.length]
            at, lost = at + frame.length, 0
        else:
            start, at = at, _next(data, at + 1)
            lost += at - start
    if lost >= TAIL or data[len(data) - lost :][:1] == b"\xff":  # a frame was cut off
        found.append(Piece(b"", lost))
    return found


def _frame(data: bytes, at: int) -> Frame | None:
    head = data[at : at + HEAD]
    if len(head) < HEAD or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    rate = head[2] >> 2 & 15
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if rate >= len(RATES) or length <= HEAD or at + length > len(data):
        return None
    kind = bytes((head[1] & 8, head[2] & 0xFD, head[3] & 0xC0))
    return Frame(kind, length, SAMPLES * ((head[6] & 3) + 1) / RATES[rate])


def _goes_on(data: bytes, at: int, frame: Frame) -> bool:
    """Whether a frame, a tag or the end follows."""
    at += frame.length
    return at == len(data) or _frame(data, at) is not None or after_tag(data, at) > at


def _chained(data: bytes, at: int) -> bool:
    """Whether frames of one kind follow each other here, or up to the end."""
    first = _frame(data, at)
    for _ in range(CHAIN):
        frame = _frame(data, at)
        if frame is None or first is None or frame.kind != first.kind:
            return False
        at += frame.length
        if at == len(data):
            break
    return True


def _next(data: bytes, at: int) -> int:
    """Where frames begin, from `at` on, or the end."""
    while (at := data.find(b"\xff", at)) >= 0:
        if _chained(data, at):
            return at
        at += 1
    return len(data)
