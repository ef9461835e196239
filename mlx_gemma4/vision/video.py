"""Video files to frames with their times.

Sampling follows the reference: n frames of a video of N are the frames i * N // n, and
the time of a frame is its number divided by the average frame rate, also where the
rate varies. Shorter videos than n frames, which the reference refuses, give all they
have.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import MediaError
from ..reading.containers import ONLY_MEDIA
from ..reading.sources import open_source, stated_seconds
from .images import PictureSource, open_image

FRAMES = 32
# Assumed of a list of pictures, as the reference does.
PICTURES_PER_SECOND = 24.0
# Of the frames counted, so many have to be there: some codecs store a few that are
# never shown. Where the last ones are missing, the sample is that much shorter.
ENOUGH = 0.9

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


def timestamp(seconds: float) -> str:
    """A frame's time as prompts write it: `mm:ss`, rounded down, no hours."""
    return f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"


def sample(total: int, rate: float, frames: int, fps: float | None) -> list[int]:
    """Numbers of the frames to take from `total` at `rate` a second."""
    if fps is not None:
        frames = max(1, int(total / rate * fps))
    frames = min(frames, total)
    return [i * total // frames for i in range(frames)]


def _from_file(
    source: str | Path | bytes, frames: int, fps: float | None
) -> Iterator[Frame]:
    av = _pyav()
    file, name = open_source(source, "video")
    try:
        total, rate = _length(av, file, name)
        wanted = sample(total, rate, frames, fps)
        yield from _decoded(av, file, wanted, rate, name)
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
            "Reading video needs PyAV: pip install 'mlx-gemma4[media]'"
        ) from error
    return av


def _opened(av: Any, file: Path | bytes) -> Any:
    # Absolute, so that a name is never taken for a protocol such as `concat:`.
    opened = BytesIO(file) if isinstance(file, bytes) else str(file.absolute())
    return av.open(opened, options=ONLY_MEDIA)


def _stream(av: Any, container: Any, name: str) -> Any:
    """The first stream of pictures that is not the cover of a recording."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise MediaError(f"{name} has no pictures: it is not a video.")


def _length(av: Any, file: Path | bytes, name: str) -> tuple[int, float]:
    """Frames, and frames a second.

    Counted, because some containers do not say how many there are and others say it
    wrongly once a video was trimmed.
    """
    with _opened(av, file) as container:
        stream = _stream(av, container, name)
        rate: Fraction | None = stream.average_rate or stream.guessed_rate
        total, end, stated = 0, 0.0, stated_seconds(stream.metadata)
        for packet in container.demux(stream):
            # Broadcasts, which do not state their length, hold stray packets anyway.
            if packet.is_corrupt and stream.frames:
                raise MediaError(f"{name} is cut off: get the file again.")
            total += bool(packet.size) and not packet.is_discard
            if packet.pts is not None:
                last = (packet.pts + (packet.duration or 0)) * packet.time_base
                end = max(end, float(last))
    if stated - end > 1:
        warnings.warn(
            f"{name} is damaged: only {end:.1f} of {stated:.1f} s could be read.",
            stacklevel=2,
        )
    if not total or not rate:
        raise MediaError(f"{name} has no frames, or no frame rate: get the file again.")
    return total, float(rate)


def _decoded(
    av: Any, file: Path | bytes, wanted: list[int], rate: float, name: str
) -> Iterator[Frame]:
    with _opened(av, file) as container:
        stream = _stream(av, container, name)
        stream.thread_type = "AUTO"
        chosen, last = set(wanted), -1
        for last, frame in enumerate(container.decode(stream)):
            if last in chosen:
                yield _picture(frame), last / rate
            if last == wanted[-1]:
                return
    if last + 1 < (wanted[-1] + 1) * ENOUGH:
        raise MediaError(
            f"{name} is damaged: only {last + 1} of at least {wanted[-1] + 1} frames "
            "can be read. Get the file again."
        )


def _picture(frame: Any) -> Image.Image:
    """RGB, turned as the file says: phones film sideways."""
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if not frame.rotation % 360:
        return picture
    return picture.rotate(frame.rotation, expand=True)
