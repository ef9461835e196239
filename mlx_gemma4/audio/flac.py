"""The whole frames of a damaged FLAC file.

Each frame says where in the recording it belongs and carries a checksum, so a fault
costs the frames it touches and no more.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

INFO = slice(8, 42)  # where the description of the stream lies, behind "fLaC"
LONGEST = 1 << 18  # bytes of a frame; more cannot be one
START = re.compile(rb"fLaC[\0\x80]\0\0\x22")
TAG = 128  # bytes of an ID3v1 tag at the end of a file
APE = 32  # bytes of the end of an APE tag
RATE_BYTES = {12: 1, 13: 2, 14: 2}  # behind the number of a frame, by its code
SIZE_BYTES = {6: 1, 7: 2}


class Frame(NamedTuple):
    """Where a frame begins in the file, and which samples it holds, per channel."""

    offset: int
    first: int
    samples: int


@dataclass
class Run:
    """Whole frames that follow each other, as a FLAC file; `missing` samples, per
    channel, are not there before it."""

    missing: int
    stream: bytearray


@dataclass
class Repaired:
    """total: samples by the header, 0 if unknown. rate: hertz."""

    runs: list[Run]
    total: int
    rate: int


def joined(data: bytes) -> list[bytes]:
    """Files that were written one behind the other, apart."""
    starts = [0, *(at for m in START.finditer(data) if (at := m.start()))]
    ends = [*starts[1:], len(data)]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def repaired(data: bytes) -> Repaired | None:
    """What is whole of a damaged file; None if no frame is."""
    start, info = _frames_start(data), data[INFO]
    if data[:4] != b"fLaC" or len(info) < 34:
        return None
    # 20 bits of rate, 3 of channels, 5 of depth, 36 of length.
    packed = int.from_bytes(info[10:18], "big")
    rate, total = packed >> 44, packed & ((1 << 36) - 1)
    found = _frames(data, start, int.from_bytes(info[:2], "big"), total)
    if not found:
        return None
    ends = [frame.offset for frame in found[1:]]
    ends.append(_last_end(data, found[-1].offset))
    whole = _whole(data, [frame.offset for frame in found], ends)
    unknown = (packed >> 36 << 36).to_bytes(8, "big") + bytes(16)
    runs, reached = [], -1
    for frame, end, good in zip(found, ends, whole, strict=True):
        if not good or frame.first < reached:
            continue
        if frame.first > reached:
            header = b"fLaC\x80\0\0\x22" + info[:10] + unknown
            runs.append(Run(frame.first - max(reached, 0), bytearray(header)))
        runs[-1].stream += data[frame.offset : end]
        reached = frame.first + frame.samples
    return Repaired(runs, total, rate) if runs and rate else None


def _last_end(data: bytes, start: int) -> int:
    """Where the last frame ends: there may be tags behind it, or zeros."""
    end = len(data)
    if data[end - TAG :].startswith(b"TAG"):
        end -= TAG
    if data[end - APE : end].startswith(b"APETAGEX"):
        size = int.from_bytes(data[end - APE + 12 : end - APE + 16], "little")
        headed = data[end - size - APE : end - size].startswith(b"APETAGEX")
        end -= size + (APE if headed else 0)
    # Zeros behind a frame do not change its checksum, so the first place counts.
    for place in (len(data[:end].rstrip(b"\0")), end):
        if place > start and _whole(data, [start], [place])[0]:
            return place
    return len(data)


def _frames_start(data: bytes) -> int:
    at = 4
    while at + 4 <= len(data):
        last = data[at] & 0x80
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        if last:
            break
    return min(at, len(data))


def _frames(data: bytes, at: int, block: int, total: int) -> list[Frame]:
    """Everything that looks like the header of a frame, in order."""
    found: list[Frame] = []
    alike = b""
    if at > len(data) - 4 or data[at : at + 1] != b"\xff":
        at = 42  # the description of what lies before it is damaged, too
    while (at := data.find(b"\xff", at)) >= 0:
        frame = _frame(data, at, block)
        at += 1
        if frame is None or (total and frame.first >= total):
            continue
        head = data[frame.offset + 1 : frame.offset + 4]
        kind = bytes((head[0], head[1] & 15, head[2] & 14))
        alike = alike or kind
        if kind == alike:
            found.append(frame)
    return found


def _frame(data: bytes, at: int, block: int) -> Frame | None:
    head = data[at : at + 16]
    if len(head) < 8 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    number, end = _number(head, 4)
    size_code, rate_code = head[2] >> 4, head[2] & 15
    extra = SIZE_BYTES.get(size_code, 0)
    after = end + extra + RATE_BYTES.get(rate_code, 0)
    if number < 0 or not size_code or after >= len(head):
        return None
    if _checksum_8(head[:after]) != head[after]:
        return None
    if extra:
        samples = int.from_bytes(head[end : end + extra], "big") + 1
    elif size_code == 1:
        samples = 192
    else:
        samples = 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    return Frame(at, number if head[1] & 1 else number * block, samples)


def _number(head: bytes, at: int) -> tuple[int, int]:
    """A number written as UTF-8 writes characters, and what follows it; -1 if none."""
    lead = head[at]
    if lead < 0x80:
        return lead, at + 1
    more = 0
    while lead << more & 0x80:
        more += 1
    value = lead & (0x7F >> more)
    rest = head[at + 1 : at + more]
    if more == 1 or len(rest) < more - 1 or any(byte >> 6 != 2 for byte in rest):
        return -1, at
    for byte in rest:
        value = value << 6 | byte & 0x3F
    return value, at + more


def _table(polynomial: int, bits: int) -> list[int]:
    top, table = 1 << bits - 1, []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value & top else 0)
        table.append(value & (top << 1) - 1)
    return table


TABLE_8 = _table(0x107, 8)
TABLE_16 = np.array(_table(0x18005, 16), np.uint16)


def _checksum_8(head: bytes) -> int:
    value = 0
    for byte in head:
        value = TABLE_8[value ^ byte]
    return value


def _whole(data: bytes, starts: list[int], ends: list[int]) -> list[bool]:
    """Whether the checksums are right, of all frames at once byte by byte."""
    sound = np.frombuffer(data, np.uint8)
    first, length = np.array(starts, np.int64), np.subtract(ends, starts)
    order = np.argsort(-length)
    first, length = first[order], length[order]
    value = np.zeros(len(first), np.uint16)
    value[length > LONGEST] = 1
    fits = int(np.sum(length > LONGEST))
    active = len(first)
    for at in range(int(length[fits]) if fits < active else 0):
        while active > fits and length[active - 1] <= at:
            active -= 1
        now = value[fits:active]
        byte = sound[first[fits:active] + at]
        value[fits:active] = now << np.uint16(8) ^ TABLE_16[now >> np.uint16(8) ^ byte]
    whole = np.empty(len(first), bool)
    whole[order] = value == 0
    return whole.tolist()
