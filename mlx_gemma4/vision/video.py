"""Video files to frames with their times, as `timeline` chooses them.

Shorter videos than n frames, which the reference refuses, give all they have.
"""

import contextlib
import math
import struct
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import MediaError, install_command
from ..reading.containers import ONLY_MEDIA
from ..reading.sources import open_source, stated_seconds
from .animation import animation_frames, animation_size, is_animation
from .images import PictureSource, open_image
from .pages import page_sizes
from .timeline import ROUNDING, Timeline, sampled

FRAMES = 32
# Assumed of a list of pictures, as the reference does.
PICTURES_PER_SECOND = 24.0
# Of the frames counted, so many have to be there: some codecs store a few that are
# never shown. Where the last ones are missing, the sample is that much shorter.
ENOUGH = 0.9

# Of frames, by what a file states; more is nonsense, or days.
MOST_STATED = 10**7
# Pixels are square if they are so by one in a hundred; a shape beyond is a mistake.
SQUARE, MOST_STRETCHED = 0.01, 8.0
# By the signs of a display matrix, of a and d or of b and c.
UPRIGHT = {
    (False, False): None,
    (True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (True, True): Image.Transpose.ROTATE_180,
}
SIDEWAYS = {
    (False, False): Image.Transpose.TRANSPOSE,
    (True, False): Image.Transpose.ROTATE_90,
    (False, True): Image.Transpose.ROTATE_270,
    (True, True): Image.Transpose.TRANSVERSE,
}

Frame = tuple[Image.Image, float]


def video_frames(
    source: str | Path | bytes | Sequence[PictureSource],
    frames: int = FRAMES,
    fps: float | None = None,
) -> Iterator[Frame]:
    """RGB frames of a video, upright, each with its time in seconds, one by one: not
    every video fits in memory.

    From a file, `frames` of them evenly, or `fps` a second of its length, at least one;
    in either case no more than there are. A list of pictures is taken whole: `fps` then
    is the rate they were taken at, 24 unless given.

    Raises MediaError that names the file and the remedy: no PyAV, no such file, empty,
    damaged, without a picture.
    """
    if frames < 1 or (fps is not None and not 0 < fps < math.inf):
        raise MediaError("A video needs at least one frame, and a positive fps.")
    if isinstance(source, str | Path | bytes):
        yield from _from_file(source, frames, fps)
        return
    if not source:
        raise MediaError("A video without frames has nothing to see.")
    rate = PICTURES_PER_SECOND if fps is None else float(fps)
    for i, picture in enumerate(source):
        yield open_image(picture), i / rate


def frame_sizes(
    source: str | Path | bytes | Sequence[PictureSource],
    frames: int = FRAMES,
    fps: float | None = None,
) -> list[tuple[int, int]]:
    """Width and height of about what `video_frames` gives, not turned upright, by what
    the file says of itself; nothing where it does not say, or something is wrong with
    it, which `video_frames` says."""
    with contextlib.suppress(Exception):
        if not isinstance(source, str | Path | bytes):
            # What can be gone through only once is left to be read.
            pictures = source if isinstance(source, Sequence) else ()
            return [size for picture in pictures for size in page_sizes(picture)[:1]]
        file, name = open_source(source, "video")
        if is_animation(file):
            width, height, count = animation_size(file)
            return [(width, height)] * (min(frames, count) if fps is None else 1)
        with _opened(av := _pyav(), file) as container:
            stream = _stream(av, container, name)
            count = _stated_count(stream, frames, fps)
            width, height = _square(
                stream.width, stream.height, _pixel_shape(stream.sample_aspect_ratio)
            )
            return [(width, height)] * count
    return []


def _stated_count(stream: Any, frames: int, fps: float | None) -> int:
    """How many frames are taken, by the length that the file states, if any."""
    length = stream.duration and stream.duration * stream.time_base
    seconds = float(length or stated_seconds(stream.metadata))
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    if not 1 <= (total := int(seconds * rate)) <= MOST_STATED:
        return 0
    return sampled(total, rate, frames, fps)


def timestamp(seconds: float) -> str:
    """A frame's time as prompts write it: `mm:ss`, rounded down, no hours."""
    return f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"


def _from_file(
    source: str | Path | bytes, frames: int, fps: float | None
) -> Iterator[Frame]:
    file, name = open_source(source, "video")
    if is_animation(file):
        yield from animation_frames(file, name, frames, fps)
        return
    av = _pyav()
    try:
        timeline = _timeline(av, file, name)
        yield from _decoded(av, file, timeline, timeline.chosen(frames, fps), name)
    except av.FFmpegError as error:
        raise MediaError(
            f"{name} is damaged or not a video ({error.strerror}); get the file again, "
            "or convert it: ffmpeg -i VIDEO fixed.mp4"
        ) from error


def _pyav() -> Any:
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MediaError(
            f"Reading video needs PyAV: {install_command('media')}"
        ) from error
    return av


class _Unnamed(BufferedReader):
    """A file without a name: FFmpeg would trust its ending more than its content."""

    @property
    def name(self) -> str:
        return ""


@contextlib.contextmanager
def _opened(av: Any, file: Path | bytes) -> Iterator[Any]:
    with BytesIO(file) if isinstance(file, bytes) else _Unnamed(FileIO(file)) as opened:
        with av.open(opened, options=ONLY_MEDIA) as container:
            yield container


def _stream(av: Any, container: Any, name: str) -> Any:
    """The first stream of pictures that is not the cover of a recording."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise MediaError(f"{name} has no pictures: it is not a video.")


def _timeline(av: Any, file: Path | bytes, name: str) -> Timeline:
    """When the frames are shown.

    Counted, because some containers do not say how many there are and others say it
    wrongly once a video was trimmed.
    """
    with _opened(av, file) as container:
        stream = _stream(av, container, name)
        rate: Fraction | None = stream.average_rate or stream.guessed_rate
        total, end, stated = 0, 0.0, stated_seconds(stream.metadata)
        times: list[float] = []
        for packet in container.demux(stream):
            # Broadcasts, which do not state their length, hold stray packets anyway.
            if packet.is_corrupt and stream.frames:
                raise MediaError(f"{name} is cut off: get the file again.")
            shown = bool(packet.size) and not packet.is_discard
            total += shown
            if packet.pts is not None:
                if shown:
                    times.append(float(packet.pts * packet.time_base))
                last = (packet.pts + (packet.duration or 0)) * packet.time_base
                end = max(end, float(last))
    if stated - end > 1:
        warnings.warn(
            f"{name} is damaged: only {end:.1f} of {stated:.1f} s could be read.",
            stacklevel=2,
        )
    if not total or not rate:
        raise MediaError(f"{name} has no frames, or no frame rate: get the file again.")
    if len(times) < total:  # some containers give no times: an even rate
        return Timeline(range(total), total / float(rate), float(rate))
    times.sort()
    since = [time - times[0] for time in times]
    return Timeline.of(since, end - times[0], float(rate))


def _decoded(
    av: Any, file: Path | bytes, timeline: Timeline, wanted: list[int], name: str
) -> Iterator[Frame]:
    with _opened(av, file) as container:
        stream = _stream(av, container, name)
        stream.thread_type = "AUTO"
        pixel = _pixel_shape(stream.sample_aspect_ratio)
        left, count, first = deque(wanted), 0, None
        for count, frame in enumerate(container.decode(stream), 1):
            if timeline.rate is not None or frame.time is None:
                time, due = timeline.time(count - 1), count > left[0]
            else:
                first = frame.time if first is None else first
                time = frame.time - first
                due = time >= timeline.times[left[0]] - ROUNDING
            if due:
                yield _picture(frame, pixel), time
                left.popleft()
            if not left:
                return
    if count < (wanted[-1] + 1) * ENOUGH:
        raise MediaError(
            f"{name} is damaged: only {count} of at least {wanted[-1] + 1} frames "
            "can be read. Get the file again."
        )


def _pixel_shape(stated: Fraction | None) -> float:
    """How much wider than tall the pixels of a film are; 1 where nothing is said."""
    shape = float(stated or 1)
    return shape if 1 / MOST_STRETCHED <= shape <= MOST_STRETCHED else 1.0


def _square(width: int, height: int, pixel: float) -> tuple[int, int]:
    """Width and height with square pixels: the shorter side is stretched, so that
    nothing is lost."""
    if abs(pixel - 1) <= SQUARE:
        return width, height
    return round(width * max(pixel, 1)), round(height / min(pixel, 1))


def _picture(frame: Any, pixel: float) -> Image.Image:
    """RGB, with square pixels, turned and mirrored as the file says."""
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if (size := _square(*picture.size, pixel)) != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    turn = _turn(frame)
    return picture if turn is None else picture.transpose(turn)


def _turn(frame: Any) -> Image.Transpose | None:
    """What its display matrix asks for: phones film sideways, or mirrored."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("9i", bytes(data))
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return UPRIGHT[a < 0, d < 0]
            return SIDEWAYS[b < 0, c < 0]
    return None
