"""Spoken clips of a small vocabulary, with what is said and when.

Each clip is spoken afresh by eSpeak NG: about 8 ms on one core, features included, so
nothing is stored. Voices, an accent and speeds of the examination are named here and
never spoken in training.
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import soxr

from mlx_gemma4.audio.features import log_mel
from mlx_gemma4.audio.framing import AudioFeatureConfig
from mlx_gemma4.recordings.transcribe import transcription_prompt

from .espeak import Spoken, Voice, say

RATE = 16_000
LONGEST = 6.0  # seconds of a clip in training
LIMIT = 3.0  # what the demo states as its limit: beyond, it loses its place
SHORTEST = 0.3
NUMBERS = "zero one two three four five six seven eight nine ten".split()
COLOURS = "red green blue yellow black white orange purple".split()
COMMANDS = (
    "hello yes no stop start go left right up down open close door window music play"
).split()
WORDS = (*NUMBERS, *COLOURS, *COMMANDS)
MOST_WORDS = 16

ACCENTS = (
    *("en", "en-us", "en-us", "en-gb-scotland"),
    *("en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc", "en-029"),
)
HELD_OUT_ACCENT = "en-gb-x-rp"
VARIANTS = (
    *("", "m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f3", "f4"),
    *("klatt3", "klatt4", "adam", "Andy", "Annie", "Alex", "Alicia", "Gene", "Lee"),
    *("Michael", "Denis", "Mario", "Reed", "grandma", "grandpa", "belinda", "john"),
    *("linda", "max", "norbert", "quincy", "rob", "steph", "travis", "victor"),
)
HELD_OUT_VARIANTS = ("m5", "f5", "Mike", "robert", "shelby", "edward")
SPEEDS = (*range(115, 150), *range(160, 206))  # words a minute
HELD_OUT_SPEEDS = (110, 112, *range(152, 158), 210, 214)
PARTS = ("voices", "accent", "speeds")  # of the examination

QUESTIONS = (
    "What did I say?",
    "What did I just say?",
    "What do you hear?",
    "What was said?",
    "Write what you hear.",
    "Transcribe this.",
    "Transcribe the recording.",
)
PROMPT_SHARE = 0.75  # of the clips asked about in the product's own words


@dataclass(frozen=True)
class Recording:
    """Samples float32 `[n]` at 16 kHz, words of WORDS, and when each is spoken."""

    samples: np.ndarray
    words: tuple[str, ...]
    times: tuple[tuple[float, float], ...]  # seconds from the start of the samples

    @property
    def sentence(self) -> str:
        return written(self.words)


def written(words: tuple[str, ...]) -> str:
    """The transcription: in lower case, numbers in digits as the prompt wants them."""
    return " ".join(str(NUMBERS.index(w)) if w in NUMBERS else w for w in words)


def question(rng: Random) -> str:
    """What the user asks of a clip: mostly what `gemma4 transcribe` asks."""
    if rng.random() < PROMPT_SHARE:
        return transcription_prompt("English" if rng.random() < 0.2 else None)
    return rng.choice(QUESTIONS)


def clip(rng: Random, held_out: bool = False) -> tuple[np.ndarray, np.ndarray, str]:
    """Features float32 `[T, 128]`, which of them count `[T]`, and the sentence."""
    part = rng.choice(PARTS) if held_out else None
    spoken = recording(rng, part)
    features, mask = frames(spoken.samples)
    return features, mask, spoken.sentence


def frames(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 `[T, 128]` and mask bool `[T]` without the filling."""
    features, mask = log_mel(samples, AudioFeatureConfig())
    count = int(np.array(mask).sum())
    return np.array(features)[:count], np.ones(count, dtype=bool)


def recording(rng: Random, part: str | None = None) -> Recording:
    """A fresh recording in a voice of the training or of a `part` of PARTS."""
    return spoken_by(rng, voice(rng, part))


def spoken_by(rng: Random, speaker: Voice, noise: bool = True) -> Recording:
    """A fresh recording of one or two phrases, SHORTEST to LONGEST seconds long."""
    while True:
        words = tuple(rng.choice(WORDS) for _ in range(_length(rng)))
        cut = rng.randrange(len(words)) if rng.random() < 0.3 else 0
        parts = [part for part in (words[:cut], words[cut:]) if part]
        phrases = [say(_punctuated(rng, part), speaker) for part in parts]
        if sum(len(phrase.starts) for phrase in phrases) != len(words):
            continue
        spoken = _joined(phrases, rng.uniform(0.1, 1.2))
        made = _augmented(rng, spoken, words, noise)
        if made is not None:
            return made


def voice(rng: Random, part: str | None = None) -> Voice:
    """A voice of the training, or one that differs from them all in `part`."""
    accent = HELD_OUT_ACCENT if part == "accent" else rng.choice(ACCENTS)
    variant = rng.choice(HELD_OUT_VARIANTS if part == "voices" else VARIANTS)
    speed = rng.choice(HELD_OUT_SPEEDS if part == "speeds" else SPEEDS)
    name = f"{accent}+{variant}" if variant else accent
    return Voice(name, speed, rng.randint(30, 70), rng.randint(35, 65))


def _length(rng: Random) -> int:
    """How many words: half of all as many as fit, half rather few."""
    longest = MOST_WORDS if rng.random() < 0.5 else 6
    return rng.randint(1, longest)


def _punctuated(rng: Random, words: tuple[str, ...]) -> str:
    """Words with pauses between all, some or none of them."""
    pauses = rng.choice((0.0, 0.15, 0.4, 1.0))
    marks = [rng.choice(",,.") if rng.random() < pauses else "" for _ in words]
    pairs = zip(words[:-1], marks[:-1], strict=True)
    return " ".join([word + mark for word, mark in pairs] + [words[-1]])


def _augmented(
    rng: Random, spoken: Spoken, words: tuple[str, ...], noise: bool
) -> Recording | None:
    """With silence, gain and perhaps noise; None if it gets too short or too long."""
    rate = spoken.rate * rng.uniform(0.95, 1.05)  # of speed and pitch together
    sound = soxr.resample(spoken.samples, rate, RATE)
    ends = _ends(spoken)
    last = min(len(sound), round((ends[-1] / rate + 0.03) * RATE))
    sound = sound[:last]
    before, after = (round(rng.random() ** 2 * 0.8 * RATE) for _ in range(2))
    total = before + len(sound) + after
    if not SHORTEST * RATE <= total <= LONGEST * RATE:
        return None
    samples = np.pad(sound, (before, after))
    level = 10 ** (rng.uniform(-22, -1) / 20) / max(float(np.abs(sound).max()), 1e-3)
    samples *= np.float32(level)
    if noise and rng.random() < 0.65:
        samples = _noisy(rng, samples, float(np.mean(np.square(sound * level))))
    times = tuple(
        (before / RATE + a / rate, before / RATE + b / rate)
        for a, b in zip(spoken.starts, ends, strict=True)
    )
    return Recording(np.clip(samples, -1, 1).astype(np.float32), words, times)


def _joined(phrases: list[Spoken], pause: float) -> Spoken:
    """One recording of all phrases, with `pause` seconds of silence between them."""
    rate = phrases[0].rate
    silence = np.zeros(round(pause * rate), np.float32)
    blocks: list[np.ndarray] = []
    starts: list[int] = []
    offset = 0
    for phrase in phrases:
        starts += [offset + start for start in phrase.starts]
        blocks += [phrase.samples, silence]
        offset += len(phrase.samples) + len(silence)
    return Spoken(np.concatenate(blocks[:-1]), rate, starts)


def _ends(spoken: Spoken) -> list[int]:
    """Where each word ends: its last sample that is not quiet before the next."""
    limits = [*spoken.starts[1:], len(spoken.samples)]
    ends: list[int] = []
    for start, limit in zip(spoken.starts, limits, strict=True):
        loud = np.abs(spoken.samples[start:limit])
        heard = np.flatnonzero(loud > 0.02 * loud.max(initial=0))
        ends.append(start + int(heard[-1]) + 1 if len(heard) else limit)
    return ends


def _noisy(rng: Random, samples: np.ndarray, power: float) -> np.ndarray:
    """With noise 12 to 45 dB under the speech, which has the given `power`."""
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(len(samples))
    if rng.random() < 0.5:  # duller: a moving average over up to 8 samples
        width = rng.randint(2, 8)
        noise = np.convolve(noise, np.full(width, math.sqrt(1 / width)), "same")
    ratio = 10 ** (rng.uniform(12, 45) / 10)
    return samples + noise * math.sqrt(power / ratio)
