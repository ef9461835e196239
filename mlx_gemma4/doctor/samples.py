"""Pictures and sounds made here to be shown to a model: two of each, far apart."""

import math

import numpy as np
from PIL import Image

from ..audio.framing import AudioFeatureConfig, AudioSampleConfig

SECONDS = 1.0
LONGEST = 4  # times as long as wide, at the most
SIDE = 24  # pixels of a square of the second picture

Sound = tuple[np.ndarray, float]


def grid(budget: int) -> tuple[int, int]:
    """Rows and columns of a picture that fills `budget` soft tokens, or nearly.

    A thin picture is none to judge by: of a prime number, one less is taken.
    """
    for count in range(budget, 0, -1):
        rows = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
        if count // rows <= LONGEST * rows:
            return rows, count // rows
    raise ValueError(f"{budget} soft tokens hold no picture.")


def pictures(budget: int, side: int) -> tuple[Image.Image, Image.Image]:
    """A red disc on white, and squares of green and black.

    side: pixels of one soft token.
    """
    rows, columns = grid(budget)
    height, width = rows * side, columns * side
    y, x = np.mgrid[:height, :width]
    disc = np.full((height, width, 3), 255, np.uint8)
    inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3) ** 2
    disc[inside] = (220, 20, 20)
    squares = np.zeros((height, width, 3), np.uint8)
    squares[(y // SIDE + x // SIDE) % 2 == 0] = (10, 200, 60)
    return Image.fromarray(disc), Image.fromarray(squares)


def sounds(settings: AudioFeatureConfig | AudioSampleConfig) -> tuple[Sound, Sound]:
    """A low steady tone, and a high one in beats."""
    rate = settings.sampling_rate
    count = int(min(SECONDS, settings.piece_seconds) * rate)
    t = np.arange(count, dtype=np.float32) / rate
    steady = 0.5 * np.sin(2 * math.pi * 220 * t)
    beats = 0.5 * np.sin(2 * math.pi * 1760 * t) * (np.sin(2 * math.pi * 4 * t) > 0)
    low, high = (wave.astype(np.float32) for wave in (steady, beats))
    return (low, float(rate)), (high, float(rate))


def sound_tokens(samples: int, settings: AudioFeatureConfig | AudioSampleConfig) -> int:
    """Soft tokens of a recording of so many samples."""
    return settings.soft_tokens(samples)
