"""Blocks of one recording, in whatever way they were decoded, as mono samples.

What is known to be missing is kept as silence, so that times stay right, and is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import MediaError
from .channels import Downmix

BLOCK = 1 << 14  # samples per channel handled at once
LOUDEST = 16.0  # full scale is 1; anything far above is not scaled to it
SLOWEST, FASTEST = 1_000, 1_000_000  # hertz; other rates are mistakes
LONGEST = 24 * 3600.0  # seconds; silence takes next to nothing of a file, but memory
PLACES_TOLD = 4
ROUNDING = 1e-6  # seconds, of a sum of blocks; less than a sample


class Unreadable(Exception):
    """One way of decoding did not work; says why, or nothing if it is not there."""


class Soundless(Unreadable):
    """The file was understood, and there is no sound in it."""

    def __init__(self) -> None:
        super().__init__("it holds no sound")


class Missing(NamedTuple):
    """A stretch that could not be read; 0 seconds if nobody knows how long."""

    start: float  # seconds
    seconds: float


@dataclass(frozen=True)
class Recording:
    """samples: float32 mono `[n]`, silent where something is missing. heard: seconds
    that could be decoded. damage: what is missing, in words; empty if nothing is."""

    samples: np.ndarray
    heard: float
    damage: str = ""
    missing: tuple[Missing, ...] = ()


class Mixer:
    """Collects blocks of one recording at `rate`; theirs may change on the way."""

    def __init__(self, name: str, rate: float) -> None:
        self.name = name
        self.rate = rate
        self.compressed = False  # with loss: its samples are nobody's own
        self.seconds = 0.0  # of sound and silence so far
        self._silent = 0.0
        self._missing: list[Missing] = []
        self._samples = bytearray()  # grows in place, where joining would take twice
        self._source_rate = rate
        self._resampler = None
        self._downmix = Downmix()

    @property
    def empty(self) -> bool:
        return self.seconds <= self._silent

    def add(
        self, block: np.ndarray, source_rate: float, names: Sequence[str] = ()
    ) -> None:
        """A block `[n, channels]` in -1..1 at `source_rate` hertz; `names` of the
        channels, if they are known."""
        if self.compressed and not np.abs(block).max(initial=0.0) <= LOUDEST:
            self.lose(len(block) / source_rate)  # what a decoder makes of damage
            return
        if not np.isfinite(block).all():
            raise MediaError(f"{self.name} holds samples that are not numbers.")
        peak = float(np.abs(block).max(initial=0.0))
        if peak > LOUDEST:
            raise MediaError(
                f"{self.name} has samples up to {peak:g}; they have to lie in -1..1."
            )
        if source_rate != self._source_rate:
            self._change_rate(source_rate)
        self.seconds += len(block) / source_rate
        self._append(self._downmix.mono(block, source_rate, names))

    def silence(self, seconds: float) -> None:
        """Time without sound that the recording itself states."""
        self.seconds += seconds
        self._silent += seconds
        left = round(seconds * self._source_rate)
        while left > 0:
            self._append(np.zeros(min(left, BLOCK), np.float32))
            left -= BLOCK

    def lose(self, seconds: float = 0.0) -> None:
        """A stretch that is damaged, about so long; 0 if nobody knows."""
        self._missing.append(Missing(self.seconds, seconds))
        self.silence(seconds)

    def finish(self, due: float = 0.0, cut: bool = False) -> Recording:
        """All of it. due: the seconds that should be there, 0 if nobody knows. cut:
        whether it is known to end too early."""
        if self.empty:
            raise Soundless
        self._end_resampler()
        samples = np.frombuffer(self._samples, np.float32)
        cut = cut or due - self.seconds > ROUNDING
        damage = self._told(due) if cut or self._missing else ""
        return Recording(
            samples, self.seconds - self._silent, damage, tuple(self._missing)
        )

    def _told(self, due: float) -> str:
        lost = sum(hole.seconds for hole in self._missing)
        found = self.seconds - lost
        due = max(due, self.seconds if lost else 0.0)
        digits = 1 if abs(due - found) >= 0.1 else 4
        of = f" of {due:.{digits}f}" if due else ""
        places = [
            f"{f'{m.seconds:.2f} s' if m.seconds else 'some'} at {m.start:.1f} s"
            for m in self._missing
        ]
        if len(places) > PLACES_TOLD:
            places[PLACES_TOLD:] = [f"{len(places) - PLACES_TOLD} more places"]
        where = f" (missing: {', '.join(places)})" if places else ""
        return (
            f"{self.name} is damaged: only {found:.{digits}f}{of} s could be read"
            f"{where}."
        )

    def _append(self, mono: np.ndarray) -> None:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        self._samples += mono.tobytes()
        if len(self._samples) > mono.itemsize * self.rate * LONGEST:
            raise MediaError(
                f"{self.name} has more than {LONGEST / 3600:g} hours of sound: cut it "
                "into parts."
            )

    def _change_rate(self, source_rate: float) -> None:
        if not SLOWEST <= source_rate <= FASTEST:  # NaN too
            raise MediaError(
                f"{self.name} has {source_rate:g} samples per second; "
                f"{SLOWEST} to {FASTEST} are understood."
            )
        self._end_resampler()
        self._source_rate = source_rate
        if source_rate != self.rate:
            import soxr

            self._resampler = soxr.ResampleStream(
                source_rate, self.rate, 1, dtype="float32"
            )

    def _end_resampler(self) -> None:
        if self._resampler is not None:
            rest = np.zeros(0, np.float32)
            self._samples += self._resampler.resample_chunk(rest, last=True).tobytes()
            self._resampler = None
