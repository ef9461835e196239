"""The examination in hearing: recordings the training never spoke, and word errors.

`python -m assets.recipe.listening FILE` writes the recording that comes with the
repository and prints what is said in it.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import soundfile
import soxr

from .espeak import Voice, say
from .speech import RATE, Recording, recording, spoken_by, voice, written

SEED = 1_000_003  # of the examination; training uses other seeds
SAMPLE = "hello, open three red window, play music, stop"
SAMPLE_VOICE = Voice("en-us+f5", 135, 50)


def exam(part: str, count: int, seed: int = SEED) -> list[Recording]:
    """`count` recordings of a `part` of speech.PARTS, the same for the same seed."""
    rng = Random(f"{seed}/{part}")
    return [recording(rng, part) for _ in range(count)]


def errors(wanted: str, answered: str) -> int:
    """How many words to insert, drop or replace to make `answered` of `wanted`.

    Words are what spaces separate; case and marks around a word do not count.
    """
    target, found = _words(wanted), _words(answered)
    row = list(range(len(found) + 1))
    for i, word in enumerate(target, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            best = min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], best
    return row[-1]


def error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Word error rate in percent over pairs of what is said and what was written."""
    wrong = total = 0
    for wanted, answered in pairs:
        wrong += errors(wanted, answered)
        total += len(_words(wanted))
    return 100 * wrong / total


def _words(text: str) -> list[str]:
    return [word.strip(".,!?").lower() for word in text.split()]


def long_recording(rng: Random, seconds: float, part: str) -> tuple[np.ndarray, str]:
    """One voice for at least `seconds`, pauses between its phrases, and what it says.

    Samples float32 `[n]` at 16 kHz: far longer than the model hears at once.
    """
    speaker, phrases, words = voice(rng, part), [], []
    length = 0
    while length < seconds * RATE:
        one = spoken_by(rng, speaker, noise=False)
        pause = np.zeros(round(rng.uniform(0.3, 0.8) * RATE), np.float32)
        phrases += [one.samples, pause]
        words += one.words
        length += len(one.samples) + len(pause)
    return np.concatenate(phrases), written(tuple(words))


def main() -> None:
    """Write the sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="wav or flac")
    file: Path = parser.parse_args().file
    spoken = say(SAMPLE, SAMPLE_VOICE)
    samples = soxr.resample(spoken.samples, spoken.rate, RATE)
    soundfile.write(file, samples, RATE, subtype="PCM_16")
    words = re.findall(r"\w+", SAMPLE)
    print(f"{len(samples) / RATE:.2f} s: {written(tuple(words))}")


if __name__ == "__main__":
    main()
