"""Texts in which a model got caught: the same words again and again.

People repeat themselves, too, so it takes many repetitions in a row to be a loop.
"""

import re
from typing import NamedTuple

from .pieces import TOKEN

# How often a unit of so many words in a row may be said; longer ones three times.
ALLOWED = {1: 7, 2: 5}
LONG_ALLOWED = 3
MOST_WORDS = 30  # of a unit
SHOWN = 40  # characters of it
LETTERS = re.compile(r"(\S{1,8}?)\1{24,}")  # one endless word


class Once(NamedTuple):
    """A text with its loops kept once; `loop`: the first of them, said `times` times,
    empty if there was none."""

    text: str
    loop: str = ""
    times: int = 0


class Loop(NamedTuple):
    """Places in a text: where it begins, where it begins again, where it ends."""

    first: int
    again: int
    end: int
    times: int


def once(text: str) -> Once:
    loop, times = "", 0
    for match in LETTERS.finditer(text):
        loop, times = loop or match[1], times or len(match[0]) // len(match[1])
    text = LETTERS.sub(r"\1", text)
    at = 0
    while (found := _loop(text, at)) is not None:
        loop = loop or text[found.first : found.again].strip()[:SHOWN]
        times = times or found.times
        text = text[: found.again].rstrip() + text[found.end :]
        at = found.again
    return Once(text, loop, times)


def _loop(text: str, at: int) -> Loop | None:
    """The first loop from `at` on."""
    places = list(TOKEN.finditer(text, at))
    words = [_plain(place[0]) for place in places]
    for first in range(len(words)):
        for size in range(1, min(MOST_WORDS, (len(words) - first) // 2) + 1):
            if words[first] != words[first + size]:
                continue
            end = first + size
            while end < len(words) and words[end] == words[end - size]:
                end += 1
            times = (end - first) // size
            if times > ALLOWED.get(size, LONG_ALLOWED):
                again = places[first + size].start()
                return Loop(places[first].start(), again, places[end - 1].end(), times)
    return None


def _plain(word: str) -> str:
    return "".join(c for c in word.casefold() if c.isalnum()) or word
