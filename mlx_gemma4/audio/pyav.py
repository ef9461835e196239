"""Decoding through PyAV (extra `media`): m4a, videos, and whatever FFmpeg reads.

A packet that cannot be decoded is skipped, as FFmpeg's own programs do. Where sound
starts late or is interrupted, the time stamps say so and silence takes its place.
"""

import contextlib
import importlib.util
import io
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MediaError
from ..reading.containers import ONLY_MEDIA
from ..reading.sources import stated_seconds
from .adts import Piece, pieces_of
from .mixing import Mixer, Recording, Soundless, Unreadable

if TYPE_CHECKING:
    import av

MOST_FAULTS = 1000  # one after the other; then the rest is given up
SHORTEST_HOLE = 0.1  # seconds; less is how roughly stamps are written
SHORTEST_LOSS = 0.01  # seconds; of what could not be decoded
LONGEST_PACKET = 0.13  # seconds
LONGEST_HOLE = 12 * 3600.0  # seconds, where nothing says how long the file is
JUMP = 10.0  # seconds; in a broadcast more is a new clock, not a pause
END_TOLERANCE = 0.5  # seconds; what is compressed may end a little sooner
CLOCK_CHANGES = {"mpegts", "mpeg"}
# What a reader says that left out a part of a file.
SKIPPED = re.compile(r"EBML|exceeds containing|[Cc]orrupt|Invalid data|truncated")
# What states its length by the sound in it, not by the size of the file.
EXACT = {"mov", "mp4"}


def with_pyav(
    source: Path | bytes, name: str, rate: int, track: int | None = None
) -> Recording:
    if importlib.util.find_spec("av") is None:
        raise Unreadable
    import av  # pyright: ignore[reportMissingImports]
    import av.error  # pyright: ignore[reportMissingImports]

    mixer = Mixer(name, rate)
    if pieces := pieces_of(source):
        return _in_pieces(pieces, mixer)
    try:
        with (
            _listening() as said,
            av.open(_readable(source), mode="r", options=ONLY_MEDIA) as container,
        ):
            if not container.streams.audio:
                raise Soundless
            stream = _chosen(container.streams.audio, name, track)
            return _decoded(container, stream, mixer, said)
    except av.error.FFmpegError as error:
        if mixer.empty:
            raise Unreadable(str(error.strerror or error)) from None
        return mixer.finish(cut=True)


def stated_by_pyav(source: Path | bytes, name: str, track: int | None = None) -> float:
    """How long the sound is by what the file states, 0 if it does not, or cannot be
    read: `with_pyav` says why."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import av  # pyright: ignore[reportMissingImports]

        with av.open(_readable(source), mode="r", options=ONLY_MEDIA) as container:
            stream = _chosen(container.streams.audio, name, track)
            return _stated_end(container, stream)
    return 0.0


def _readable(source: Path | bytes) -> io.BytesIO | str:
    """A whole path, of which FFmpeg takes nothing for a protocol."""
    return io.BytesIO(source) if isinstance(source, bytes) else str(source.resolve())


def _in_pieces(pieces: list[Piece], mixer: Mixer) -> Recording:
    """Raw AAC: its frames state no times, but are all of one length."""
    import av  # pyright: ignore[reportMissingImports]
    import av.error  # pyright: ignore[reportMissingImports]

    length = sum(len(piece.stream) for piece in pieces)
    seconds_per_byte = sum(piece.seconds for piece in pieces) / length
    for piece in pieces:
        if piece.lost:
            mixer.lose(piece.lost * seconds_per_byte)
        due, opened = mixer.seconds + piece.seconds, io.BytesIO(piece.stream)
        least = SHORTEST_LOSS
        with contextlib.suppress(av.error.FFmpegError), _listening() as said:
            with av.open(opened, mode="r", format="aac") as container:
                stream = container.streams.audio[0]
                faults = _add(container, stream, mixer, said, due)
            least = SHORTEST_LOSS if faults.new else END_TOLERANCE
        if due - mixer.seconds > least:
            mixer.lose(due - mixer.seconds)
    if mixer.empty:
        raise Unreadable("its frames cannot be decoded")
    return mixer.finish()


def _chosen(streams: Any, name: str, track: int | None) -> Any:
    """The sound track of this number, from 1; else the one that players take."""
    import av.stream  # pyright: ignore[reportMissingImports]

    if track is not None and not 1 <= track <= len(streams):
        plural = "track" if len(streams) == 1 else "tracks"
        raise MediaError(
            f"{name} has {len(streams)} sound {plural}: there is no track {track}."
        )
    if track is not None:
        return streams[track - 1]
    default = av.stream.Disposition.default
    marked = [n for n, stream in enumerate(streams) if stream.disposition & default]
    number = marked[0] if marked else 0
    if len(streams) > 1:
        warnings.warn(
            f"{name} has {len(streams)} sound tracks: track {number + 1} is heard; "
            "--track chooses another.",
            stacklevel=2,
        )
    return streams[number]


@contextlib.contextmanager
def _listening() -> Iterator[list]:
    """What FFmpeg's readers say of the file meanwhile: some skip what is damaged, and
    nothing else tells."""
    import av.logging  # pyright: ignore[reportMissingImports]

    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as said:
            yield said
    finally:
        av.logging.set_level(before)


def _decoded(
    container: Any, stream: "av.AudioStream", mixer: Mixer, said: list
) -> Recording:
    end = _stated_end(container, stream)
    faults = _add(container, stream, mixer, said, end)
    if mixer.empty and faults.first:
        raise Unreadable(faults.first)
    short = end - mixer.seconds > END_TOLERANCE
    return mixer.finish(end if short else 0.0, bool(faults.new))


def _add(
    container: Any,
    stream: "av.AudioStream",
    mixer: Mixer,
    said: list,
    end: float,
) -> "_Faults":
    """All that can be decoded, with silence where time stamps leave sound out. Returns
    the faults, those in `new` since the last good block. end: of the sound, in seconds,
    0 if nobody knows."""
    if stream.codec_context is None:
        raise Unreadable("it has no decoder for this kind of sound")
    mixer.compressed = not stream.codec_context.name.startswith("pcm")
    clock = _Clock(container, end)
    faults = _Faults()
    for block, block_rate, stamp, names in _blocks(container, stream, faults):
        least = SHORTEST_LOSS if faults.new else SHORTEST_HOLE
        hole = clock.hole(stamp, mixer.seconds, least)
        if hole and not mixer.empty and any(SKIPPED.search(line) for *_, line in said):
            faults.add("a part of it is damaged")
        if faults.new and not mixer.empty:
            lost = min(hole, faults.seconds)
            mixer.lose(lost)
            hole -= lost
        mixer.silence(hole)
        faults.new, faults.seconds = 0, 0.0
        mixer.add(block, block_rate, names)
    return faults


class _Faults:
    """What could not be decoded: the first reason, and how many since a good block,
    and at most how many seconds they are."""

    def __init__(self) -> None:
        self.first = ""
        self.new = 0
        self.seconds = 0.0

    def add(self, error: Exception | str, seconds: float = math.inf) -> None:
        reason = getattr(error, "strerror", None) or error
        self.first = self.first or str(reason)
        self.new += 1
        self.seconds += seconds


def _blocks(
    container: Any, stream: "av.AudioStream", faults: _Faults
) -> Iterator[tuple[Any, int, float | None, list[str]]]:
    """Blocks `[n, channels]` with their rate, time stamp in seconds and channels."""
    import av  # pyright: ignore[reportMissingImports]
    import av.error  # pyright: ignore[reportMissingImports]

    planar, shape = av.AudioResampler(format="fltp"), None
    for packet in _packets(container, stream, faults):
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            if not isinstance(error, EOFError):
                faults.add(error, _seconds(packet))
            continue
        for frame in frames:
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != shape:
                planar, shape = av.AudioResampler(format="fltp"), now
            stamp = None
            if frame.pts is not None and frame.time_base is not None:
                stamp = float(frame.pts * frame.time_base)
            names = [channel.name for channel in frame.layout.channels]
            for part in planar.resample(frame):
                yield part.to_ndarray().T, frame.sample_rate, stamp, names
                stamp = None


def _packets(container: Any, stream: "av.AudioStream", faults: _Faults) -> Iterator:
    """Packets up to the end; reading goes on behind what is damaged."""
    import av.error  # pyright: ignore[reportMissingImports]

    while faults.new < MOST_FAULTS:
        try:
            yield from container.demux(stream)
            return
        except av.error.FFmpegError as error:
            faults.add(error)


def _seconds(packet: Any) -> float:
    """How long its sound is; in front of a pause it may state the pause as well."""
    if not (packet.duration and packet.time_base):
        return math.inf
    return min(float(packet.duration * packet.time_base), LONGEST_PACKET)


class _Clock:
    """Time stamps against the sound so far."""

    def __init__(self, container: Any, end: float) -> None:
        # The film begins with the stream that begins first.
        self.zero = (container.start_time or 0) / 1_000_000
        formats = set(container.format.name.split(","))
        known = container.duration and not formats & CLOCK_CHANGES
        length = max(container.duration / 1_000_000 if known else 0.0, end)
        self.last = length + END_TOLERANCE if length else LONGEST_HOLE
        self.most = JUMP if formats & CLOCK_CHANGES else LONGEST_HOLE

    def hole(
        self, stamp: float | None, seconds: float, least: float = SHORTEST_HOLE
    ) -> float:
        """Seconds without sound in front of a block with this stamp."""
        if stamp is None:
            return 0.0
        hole = stamp - self.zero - seconds
        if hole < -SHORTEST_HOLE or hole > self.most or stamp - self.zero > self.last:
            self.zero = stamp - seconds  # another clock from here on
            return 0.0
        return hole if hole >= least else 0.0


def _stated_end(container: Any, stream: "av.AudioStream") -> float:
    """When the sound ends by what the container says, 0 if it does not know."""
    if set(container.format.name.split(",")) & EXACT and stream.duration:
        end = (stream.start_time or 0) + stream.duration
        zero = (container.start_time or 0) / 1_000_000
        return float(end * (stream.time_base or 0)) - zero
    return stated_seconds(stream.metadata)
