"""A made-up talk and somebody who writes down what is in a piece of it.

A word is a burst of noise. The listener knows when each word is said. What a piece cuts
through it hears as half a word, as another word, or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RATE = 16_000
FADE = 400  # samples: words do not begin at once
AUDIBLE = 0.02  # seconds of a word that may be missing


@dataclass(frozen=True)
class Word:
    start: float
    end: float
    text: str


class Talk:
    """`gap` draws the silence after a word, `noise` is what is heard in it."""

    def __init__(
        self,
        seconds: float,
        gap: Callable[[np.random.Generator], float],
        noise: float,
        seed: int,
    ) -> None:
        self.random = np.random.default_rng(seed)
        samples = self.random.standard_normal(round(seconds * RATE)) * noise
        self.samples = samples.astype(np.float32)
        self.words: list[Word] = []
        at = self.random.uniform(0, 1)
        while at < seconds - 1:
            end = at + self.random.uniform(0.12, 0.8)
            self._say(at, end)
            at = end + gap(self.random)

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    def _say(self, start: float, end: float) -> None:
        first, last = round(start * RATE), round(end * RATE)
        rise = np.arange(last - first) / FADE
        loud = np.minimum(1, np.minimum(rise, rise[::-1]))
        loud *= self.random.uniform(0.05, 0.2)
        burst = self.random.standard_normal(last - first) * loud
        self.samples[first:last] += burst.astype(np.float32)
        before = self.words[-1].text if self.words else ""
        text = before
        while text == before:  # said twice at a seam, a word is ambiguous
            text = f"word{self.random.integers(400)}"
        self.words.append(Word(start, end, text))

    def heard(self, start: float, end: float) -> str:
        """What is written down of the part from `start` to `end` seconds."""
        found = []
        for word in self.words:
            if word.start >= start - AUDIBLE and word.end <= end + AUDIBLE:
                found.append(word.text)
            elif word.end > start + AUDIBLE and word.start < end - AUDIBLE:
                found.append(self._misheard(word.text, word.end > end))
        return " ".join(found)

    def _misheard(self, text: str, begins: bool) -> str:
        half = text[: len(text) // 2] if begins else text[len(text) // 2 :]
        return ("", half, f"other{self.random.integers(400)}")[self.random.integers(3)]
