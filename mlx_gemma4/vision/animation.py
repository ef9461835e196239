"""Moving pictures (GIF, APNG, WebP, AVIF) to frames with the times they are shown at.

Pillow reads all of them, transparency included; PyAV only some.
"""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from PIL import Image

from ..errors import MediaError
from .images import check_size, decoding, frames_of, loaded, opened
from .timeline import Timeline

# What browsers make of a frame that says it is shown for next to no time.
TOO_SHORT, INSTEAD = 10, 100  # milliseconds
MOST_FRAMES = 20_000
MOST_DRAWN = 10**10  # pixels of all frames: minutes of work


def is_animation(file: Path | bytes) -> bool:
    """Whether it is a picture that moves. False for what cannot be read."""
    try:
        with decoding("The picture"), opened(file) as image:
            return frames_of(image) > 1
    except (ValueError, OSError):
        return False


def animation_size(file: Path | bytes) -> tuple[int, int, int]:
    """Width, height and frames of a moving picture, none of them decoded."""
    with decoding("The picture"), opened(file) as image:
        return *image.size, frames_of(image)


def animation_frames(
    file: Path | bytes, name: str, frames: int, fps: float | None
) -> Iterator[tuple[Image.Image, float]]:
    """The frames that `Timeline.chosen` takes, one by one, RGB, each with its time in
    seconds. Raises MediaError for a damaged file."""
    with decoding(name):
        image = opened(file)
    with image:
        with decoding(name):
            timeline = _timeline(image, name)
        for number in timeline.chosen(frames, fps):
            with decoding(name):
                image.seek(number)
                frame = loaded(image.copy(), name)
            yield frame, timeline.time(number)


def _timeline(image: Image.Image, name: str) -> Timeline:
    check_size(image, name)
    count = frames_of(image)
    if count > min(MOST_FRAMES, MOST_DRAWN // (image.width * image.height)):
        raise MediaError(
            f"{name} has {count} frames of {image.width} x {image.height} pixels, too "
            "many for a moving picture: convert it to a video first: ffmpeg -i PICTURE "
            "video.mp4"
        )
    lasting: list[float] = []
    for number in range(count):
        image.seek(number)
        image.load()  # only now a WebP says how long
        shown = image.info.get("duration") or 0
        lasting.append(shown if shown > TOO_SHORT else INSTEAD)
    *times, end = (at / 1000 for at in accumulate(lasting, initial=0.0))
    even = len(set(lasting)) == 1
    return Timeline(times, end, 1000 / lasting[0] if even else None)
