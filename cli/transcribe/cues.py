"""Subtitles: the text of a segment over the time in which somebody speaks.

A model gives no times for its words. But pauses are heard, and where one is, a sentence
or a clause ends more often than not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lines import CLAUSES, SCRIPTS, SENTENCES, WORDS, columns, places, split_text

if TYPE_CHECKING:
    from mlx_gemma4.recordings.pieces import Part

# Seconds by which a place may be off for the sake of its kind, worst kind last.
FAR = ((SENTENCES, 0.0), (CLAUSES, 0.8), (f"{WORDS}|{SCRIPTS}", 2.0))


@dataclass(frozen=True)
class Cue:
    start: float
    end: float
    text: str


def cues(
    start: float, end: float, text: str, parts: Sequence["Part"] = ()
) -> list[Cue]:
    """`text` in parts short enough for a screen. parts: when somebody speaks between
    start and end; no cue goes on over a pause between two."""
    spans = [(part.start, part.end) for part in parts] or [(start, end)]
    return [cue for span, said in spread(text, spans) for cue in _shared(*span, said)]


def _shared(start: float, end: float, text: str) -> list[Cue]:
    """Cues that share the time by their length."""
    shown = list(split_text(text))
    total = sum(map(_length, shown))
    result, before = [], 0
    for part in shown:
        begins = start + (end - start) * before / total
        before += _length(part)
        ends = start + (end - start) * before / total
        result.append(Cue(begins, ends, part))
    return result


def _length(text: str) -> int:
    return max(columns(text), 1)


Span = tuple[float, float]


def spread(text: str, spans: Sequence[Span]) -> list[tuple[Span, str]]:
    """What is said in each stretch of speech, as far as its lengths and the marks in
    the text tell; stretches for which no words are left are not there."""
    if not text:
        return []
    if len(spans) == 1:
        return [(spans[0], text)]
    pauses = [
        after[0] - before[1] for before, after in zip(spans, spans[1:], strict=False)
    ]
    longest = max(range(len(pauses)), key=pauses.__getitem__)
    first, second = spans[: longest + 1], spans[longest + 1 :]
    place = _place(text, _speech(first), _speech(second))
    if place is None:  # one word: it is said where most is
        return [(max(spans, key=lambda span: span[1] - span[0]), text)]
    end, start = place
    return spread(text[:end], first) + spread(text[start:], second)


def _speech(spans: Sequence[Span]) -> float:
    return sum(end - start for start, end in spans)


def _place(text: str, before: float, after: float) -> tuple[int, int] | None:
    """Where a text is parted by a pause with so many seconds of speech around it."""
    best, least = None, float("inf")
    seconds = (before + after) / max(columns(text), 1)
    for pattern, far in FAR:
        for end, start in places(text, pattern):
            off = abs(columns(text[:end]) * seconds - before) + far
            if off < least:
                best, least = (end, start), off
    return best
