"""When the frames of a video are shown, and which of them are taken.

At an even rate sampling follows the reference: n frames of a video of N are the frames
i * N // n, and the time of a frame is its number divided by the rate. Where the rate
varies, as in recordings of a screen, which the reference takes for even, frames are
those shown at n moments that lie evenly in time, each once and at its own time.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

# Containers round times, to milliseconds or more coarsely.
ROUNDING = 0.002


@dataclass(frozen=True)
class Timeline:
    """`times` at which frames are shown and `end`, the last one's, in seconds from the
    first; `rate`, in frames a second, where it is even, else None."""

    times: Sequence[float]
    end: float
    rate: float | None

    @classmethod
    def of(cls, times: Sequence[float], end: float, rate: float) -> "Timeline":
        """`rate` counts if no frame is half a frame away from where it would be."""
        off = 0.5 / rate + ROUNDING
        even = all(abs(time - i / rate) <= off for i, time in enumerate(times))
        return cls(times, end, rate if even else None)

    def chosen(self, frames: int, fps: float | None) -> list[int]:
        """Numbers of the frames to take: `frames`, or `fps` a second; at least one,
        and no more than there are."""
        if self.rate is not None:
            return sample(len(self.times), self.rate, frames, fps)
        if fps is not None:
            frames = max(1, int(self.end * fps))
        moments = (i * self.end / frames + ROUNDING for i in range(frames))
        shown = (max(0, bisect_right(self.times, moment) - 1) for moment in moments)
        return list(dict.fromkeys(shown))

    def time(self, number: int) -> float:
        """When a frame is shown, in seconds."""
        return self.times[number] if self.rate is None else number / self.rate


def sample(total: int, rate: float, frames: int, fps: float | None) -> list[int]:
    """Numbers of the frames to take from `total` at an even `rate` a second."""
    frames = sampled(total, rate, frames, fps)
    return [i * total // frames for i in range(frames)]


def sampled(total: int, rate: float, frames: int, fps: float | None) -> int:
    """How many that are."""
    if fps is not None:
        frames = max(1, int(total / rate * fps))
    return min(frames, total)
