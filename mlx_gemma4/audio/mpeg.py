"""mp3 as a walk over its frames: how long it is, what is damaged, where files join.

Decoders take the length from a header that may be missing or wrong, or estimate it
from the first frame. Here every frame is counted; what goes to the decoder is a stream
of whole frames of one kind, with a header that states how many there are.
"""

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

LAYER_3 = 1
BITRATES = {  # kilobits per second by (version 1 or not, layer bits)
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)  # hertz, of version 1
START = 1 << 16  # bytes in which the first frame has to begin
CHAIN = 3  # frames one after the other are no accident
ENCODERS = (b"LAME", b"Lavf", b"Lavc")
HEADERS = (b"Xing", b"Info", b"VBRI")
TAIL = 4096  # bytes behind the last frame that are of no interest
STATED = 64  # bytes that a header with a number of frames takes at least


class Kind(NamedTuple):
    """What does not change within a run of frames."""

    version: int  # bits of the header: 3 is 1, 2 is 2, 0 is 2.5
    layer: int  # bits of the header: 1 is III
    rate: int  # hertz
    mono: bool
    bitrate: int  # of layers I and II; 0 for III, where it may change


class Frame(NamedTuple):
    kind: Kind
    length: int  # bytes
    samples: int  # per channel


@dataclass
class Run:
    """Frames of one kind, as a stream that states its length.

    lost: bytes that were skipped, by the number of frames before them.
    """

    kind: Kind
    samples: int  # per channel and frame
    frames: int = 0
    stated: int = 0  # frames that its own header states, 0 if it does not
    stated_bytes: int = 0
    trimmed: int = 0  # samples that an encoder adds at both ends
    lost: list[tuple[int, int]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    header: bytes = b""

    @property
    def stream(self) -> bytes:
        if self.kind.layer != LAYER_3:
            return bytes(self.body)
        return _stating(self) + self.body

    @property
    def stops_early(self) -> bool:
        """Whether its header states more frames and more bytes than there are. One of
        the two alone is a wrong header."""
        there = len(self.header) + len(self.body) + sum(n for _, n in self.lost)
        return self.stated > self.frames and self.stated_bytes > there

    @property
    def due(self) -> float:
        """Seconds of sound, by the header where that says more."""
        samples = max(self.stated, self.frames) * self.samples - self.trimmed
        return samples / self.kind.rate

    @property
    def seconds_per_byte(self) -> float:
        return self.frames * self.samples / self.kind.rate / len(self.body)


@dataclass
class Walk:
    """The runs of a file, in order. cut: its end is missing."""

    runs: list[Run]
    cut: bool


@lru_cache(maxsize=4096)
def frame(head: bytes) -> Frame | None:
    """What the four bytes in front of a frame say, None if they are no such bytes."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    number, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or rate == 3 or not 0 < number < 15:
        return None
    bits = BITRATES[version == 3, layer][number - 1]
    hertz = RATES[rate] >> (3 - version if version else 2)
    padding = head[2] >> 1 & 1
    if layer == 3:
        length, samples = (12_000 * bits // hertz + padding) * 4, 384
    else:
        samples = 576 if layer == LAYER_3 and version != 3 else 1152
        length = samples // 8 * 1000 * bits // hertz + padding
    mono = head[3] >> 6 == 3
    kind = Kind(version, layer, hertz, mono, 0 if layer == LAYER_3 else bits)
    return Frame(kind, length, samples)


def walk(data: bytes) -> Walk | None:
    """Every frame of an mp3 file; None if it does not look like one."""
    at = after_tag(data, 0)
    first = _next(data, at, min(at + START, len(data)))
    if first is None or (at == 0 and first > 0 and frame(data[:4]) is None):
        return None
    at, runs, cut = first, [], False
    while at < len(data):
        found = frame(data[at : at + 4])
        if found is None or not _belongs(data, at, found, runs):
            after = after_tag(data, at)
            if after == at:
                after = _skip(data, at, runs)
                cut = after == len(data) and _cut_off(data[at:], runs[-1])
            at = after
            continue
        if at + found.length > len(data):
            cut = True
            break
        _take(runs, found, data[at : at + found.length])
        at += found.length
    return Walk(runs, cut or any(run.stops_early for run in runs)) if runs else None


def _cut_off(rest: bytes, run: Run) -> bool:
    """Whether what is behind the last frame is the begin of another one, or nothing
    where the file states more."""
    if len(rest) < 4:
        return run.body.startswith(rest[:2])
    return len(rest) >= TAIL and not any(rest) and run.stated > run.frames


def _belongs(data: bytes, at: int, found: Frame, runs: list[Run]) -> bool:
    return bool(runs and found.kind == runs[-1].kind) or _chained(data, at)


def _chained(data: bytes, at: int) -> bool:
    """Whether frames of one kind follow each other here, or up to the end or a tag."""
    first = frame(data[at : at + 4])
    for _ in range(CHAIN):
        found = frame(data[at : at + 4])
        if found is None or first is None or found.kind[:4] != first.kind[:4]:
            return False
        at += found.length
        if at == len(data) or data[at : at + 3] in (b"TAG", b"ID3", b"APE"):
            return True
    return at < len(data)


def _next(data: bytes, at: int, end: int) -> int | None:
    """Where frames begin, from `at` on."""
    while (at := data.find(b"\xff", at, end)) >= 0:
        if _chained(data, at):
            return at
        at += 1
    return None


def _skip(data: bytes, at: int, runs: list[Run]) -> int:
    """Behind what is no frame and no tag. It counts as lost unless the rest is empty,
    too little to be a frame, or behind all that the header states."""
    after = _next(data, at + 1, len(data))
    end = len(data) if after is None else after
    for mark in (b"TAG", b"ID3", b"APETAGEX"):  # a tag before the next frame
        tag = data.find(mark, at, end)
        if tag > at and after_tag(data, tag) > tag:
            end = tag
    whole = 0 < runs[-1].stated <= runs[-1].frames  # by its own header
    if after is None and (whole or end - at < TAIL or not any(data[at:])):
        return end
    runs[-1].lost.append((runs[-1].frames, end - at))
    return end


def after_tag(data: bytes, at: int) -> int:
    """Behind the tags that begin at `at`, with names and pictures: ID3, APE."""
    while True:
        start = at
        head = data[at : at + 32]
        if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
            size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            at += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            (size,) = struct.unpack("<I", head[12:16])
            at += 32 + (size if head[23] & 0x20 else 0)
        elif head[:3] == b"TAG":
            at += 128
        if at == start:
            return min(at, len(data))


def _take(runs: list[Run], found: Frame, content: bytes) -> None:
    if not runs or runs[-1].kind != found.kind:
        runs.append(Run(found.kind, found.samples))
        if found.kind.layer == LAYER_3 and (place := _header_place(content)):
            runs[-1].header = content
            _read_header(runs[-1], place)
            return
    run = runs[-1]
    run.frames += 1
    run.body += content


def _header_place(content: bytes) -> int:
    """Where in a frame a header for the length of the file begins, 0 if none does."""
    for place in (*(at + crc for at in (13, 21, 36) for crc in (0, 2)), 36):
        if content[place : place + 4] in HEADERS:
            return place
    return 0


def _read_header(run: Run, place: int) -> None:
    head = run.header[place:]
    if head[:4] == b"VBRI":
        run.stated_bytes, run.stated = struct.unpack_from(">II", head, 10)
        return
    flags, at = head[7], 8
    if flags & 1:
        run.stated = int.from_bytes(head[at : at + 4], "big")
        at += 4
    if flags & 2:
        run.stated_bytes = int.from_bytes(head[at : at + 4], "big")
    if flags == 15 and head[120:124] in ENCODERS:
        both = int.from_bytes(head[141:144], "big")
        run.trimmed = (both >> 12) + (both & 0xFFF)


def _stating(run: Run) -> bytes:
    """A frame in front of the others that says how many they are."""
    place = _header_place(run.header)
    if not run.stated or run.header[place : place + 4] == b"VBRI":
        return _made(run)
    head = bytearray(run.header)
    head[place + 8 : place + 12] = struct.pack(">I", run.frames)
    if head[place + 7] & 2:
        head[place + 12 : place + 16] = struct.pack(">I", len(head) + len(run.body))
    return bytes(head)


def _made(run: Run) -> bytes:
    """Such a frame for a run that has none, like its first one."""
    head = bytearray(run.body[:4])
    head[1] |= 1  # without a checksum
    for number in range(1, 15):
        head[2] = number << 4 | run.body[2] & 0x0F
        made = frame(bytes(head))
        if made is not None and made.length >= STATED:
            break
    else:
        return b""
    side = {(True, True): 17, (True, False): 32, (False, True): 9, (False, False): 17}
    size = side[run.kind.version == 3, run.kind.mono]
    count = b"Info" + struct.pack(">II", 1, run.frames)
    return (bytes(head) + bytes(size) + count).ljust(made.length, b"\0")
