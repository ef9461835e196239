"""Decoding through soundfile: wav, flac, ogg, opus, mp3 and more, block by block.

libsndfile trusts lengths that are stated or estimated, and stops at the first fault. So
mp3, Ogg and FLAC files are looked through first, and what it gets is whole.
"""

import contextlib
import io
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..reading.bounded import opened
from . import lengths
from .channels import channel_names
from .flac import joined, repaired
from .mixing import BLOCK, Mixer, Recording, Unreadable
from .mpeg import Run, Walk, walk
from .ogg import Chain, Link, links

if TYPE_CHECKING:
    from soundfile import SoundFile

RATE_TO_COUNT = 16_000  # hertz; any would do
GIVEN_UP = 0.5  # seconds of whole frames that a decoder left out
START = 4096  # bytes; what a wav file says of itself stands there
LARGEST = 1 << 30  # bytes that are looked through at once: a day of mp3 or Ogg
OPUS_RATE = 48_000  # hertz in which its pages count
STDERR = 2
ITS_LINES = re.compile(
    rb"(Note|Warning): .*(Audio-MPEG|resync|Skipped|Xing|reservoir|LAME|ID3|bitrate|"
    rb"frame|stream).*|\[.*libmpg123/.*|Frankenstein.*"
)
_one_at_a_time = threading.Lock()


class Place(NamedTuple):
    """Where something is missing: after so many samples, and for how many seconds."""

    frames: int
    seconds: float


class Read(NamedTuple):
    """frames: samples per channel that were read, of `stated`. fault: why it ended."""

    frames: int
    stated: int
    rate: float
    fault: str


def with_soundfile(source: Path | bytes, name: str, rate: int) -> Recording:
    mixer = Mixer(name, rate)
    start = _content(source, 16)
    looks_like_mp3 = start[:3] == b"ID3" or start[:1] == b"\xff"
    if (looks_like_mp3 or start[:4] == b"OggS") and _length(source) > LARGEST:
        raise Unreadable(f"more than {LARGEST >> 20} MB of mp3 or Ogg")
    if looks_like_mp3:
        found = walk(_content(source))
        if found is not None:
            return _mpeg(found, mixer)
    if start[:4] == b"OggS":
        chain = links(_content(source))
        if chain is not None:
            return _ogg(chain, mixer)
    due, fault = 0.0, ""
    for part in lengths.joined(source):
        with without_its_lines() if looks_like_mp3 else contextlib.nullcontext():
            read = _read(lengths.caf_whole(part), mixer)
        if start[:4] == b"fLaC" and (read.fault or read.frames < read.stated):
            return _flac(_content(source), Mixer(name, rate))
        fault = fault or read.fault
        if read.rate:
            due += max(read.stated, lengths.promised(part, read.frames)) / read.rate
    if fault and mixer.empty:
        raise Unreadable(fault)
    return mixer.finish(due, bool(fault))


def stated_by_libsndfile(source: Path | bytes) -> float:
    """How long the sound is, of which nothing is decoded; 0 for what libsndfile does
    not read. Frames of an mp3, whose header may say anything, are counted."""
    from soundfile import LibsndfileError

    start = _content(source, 3)
    if start == b"ID3" or start[:1] == b"\xff":
        small = _length(source) <= LARGEST
        found = walk(_content(source)) if small else None
        return sum(run.due for run in found.runs) if found else 0.0
    try:
        with _opened(source) as sound:
            return sound.frames / sound.samplerate
    except LibsndfileError:
        return 0.0


def _length(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _content(source: Path | bytes, most: int = -1) -> bytes:
    with opened(source) as file:
        return file.read(most)


def _mpeg(found: Walk, mixer: Mixer) -> Recording:
    heard, mixer.compressed = 0.0, True
    with without_its_lines():
        for run in found.runs:
            read = _read(run.stream, mixer, _lost(run))
            heard += read.frames / read.rate if read.rate else 0.0
    if mixer.empty:
        raise Unreadable("its frames cannot be decoded")
    there = sum(run.frames * run.samples / run.kind.rate for run in found.runs)
    given_up = there - heard > GIVEN_UP
    stated = any(run.stops_early for run in found.runs)
    due = sum(run.due for run in found.runs) if stated else 0.0
    return mixer.finish(due, found.cut or given_up)


def _lost(run: Run) -> list[Place]:
    return [
        Place(frames * run.samples, size * run.seconds_per_byte)
        for frames, size in run.lost
    ]


def _ogg(chain: Chain, mixer: Mixer) -> Recording:
    fault, mixer.compressed = "", True
    for link in chain.links:
        read = _read(bytes(link.pages), mixer, _missing(link))
        fault = fault or read.fault
    if mixer.empty:
        raise Unreadable(fault or "its pages cannot be decoded")
    return mixer.finish(cut=chain.cut or bool(fault))


def _flac(data: bytes, mixer: Mixer) -> Recording:
    """What is whole of a damaged file, or of several that were joined."""
    due, before = 0.0, 0.0
    for part in joined(data):
        found = repaired(part)
        if found is None:
            continue
        for run in found.runs:
            if run.missing:
                mixer.lose(run.missing / found.rate)
            _read(bytes(run.stream), mixer)
        due = before + found.total / found.rate
        before = max(due, mixer.seconds)
    if mixer.empty:
        raise Unreadable("none of its frames is whole")
    return mixer.finish(due)


def _missing(link: Link) -> list[Place]:
    """What the decoder will leave out where pages are missing, place by place."""
    if not link.holes:
        return []
    read = _read(bytes(link.pages), Mixer("", RATE_TO_COUNT))
    if not read.rate:
        return []
    span = sum(hole.after - hole.before for hole in link.holes)
    lost = (read.stated - read.frames) / read.rate
    scale = OPUS_RATE if link.opus else read.rate
    lost = min(max(lost, 0.0), span / scale)
    places, gone = [], 0.0
    for hole in link.holes:
        at = round((hole.before / scale - gone) * read.rate)
        share = lost * (hole.after - hole.before) / max(span, 1)
        places.append(Place(max(at, 0), share))
        gone += share
    return places


def _read(
    source: Path | bytes, mixer: Mixer, places: list[Place] | None = None
) -> Read:
    """Adds all that libsndfile gives, and silence at the places where sound is lost."""
    from soundfile import LibsndfileError

    frames, stated, rate, left = 0, 0, 0.0, list(places or [])
    try:
        with _opened(source) as sound:
            stated, rate = sound.frames, sound.samplerate
            names = channel_names(sound, _content(source, START))
            while True:
                while left and left[0].frames <= frames:
                    mixer.lose(left.pop(0).seconds)
                most = min(BLOCK, left[0].frames - frames) if left else BLOCK
                block = sound.read(most, dtype="float32", always_2d=True)
                if not len(block):
                    break
                frames += len(block)
                mixer.add(block, rate, names)
    except LibsndfileError as error:
        return Read(frames, stated, rate, error.error_string.strip().rstrip("."))
    for place in left:
        mixer.lose(place.seconds)
    return Read(frames, stated, rate, "")


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator["SoundFile"]:
    """A file to be read from start to end in blocks."""
    import soundfile

    class Sequential(soundfile.SoundFile):
        # soundfile seeks after each block where it can, and in an mp3 that lands
        # beside the place: clicks at every seam.
        def seekable(self) -> bool:
            return False

    with contextlib.ExitStack() as stack:
        if isinstance(source, bytes):
            readable = io.BytesIO(source)
        else:
            # By descriptor: given the name, soundfile would trust its ending.
            readable = stack.enter_context(source.open("rb")).fileno()
        yield stack.enter_context(Sequential(readable, closefd=False))


@contextlib.contextmanager
def without_its_lines() -> Iterator[None]:
    """Within, stderr goes to a file; the lines of others in it are passed on at the
    end. libsndfile opens libmpg123 without its option to be quiet."""
    with _one_at_a_time, tempfile.TemporaryFile() as kept:
        try:
            stderr = os.dup(STDERR)
        except OSError:  # closed: nothing can reach it
            yield
            return
        os.dup2(kept.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, STDERR)
            os.close(stderr)
            kept.seek(0)
            for line in kept:
                if not ITS_LINES.fullmatch(line.strip()):
                    os.write(STDERR, line)
