"""Long recordings in pieces the model can hear, and their texts in one again.

A cut goes where nobody speaks: into the longest pause between 20 and 28 of the 30 s
that are heard at once (in proportion where it is another time), found by loudness
alone. Only if there is no pause do two pieces overlap, by about 2 s; what both texts
say of that stretch is then recognised by its words and kept once. Pauses of many
seconds are left out of the pieces, so that the model is never asked about nothing.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

RATE = 16_000
LIMIT = 30.0  # seconds of sound the published models hear at once
EARLIEST, LATEST = 20.0, 28.0  # seconds; where a cut is wanted
POSSIBLE = 8.0  # seconds; where a pause is still taken before overlapping
OVERLAP = 2.0  # seconds; holds several words, so that one is whole on both sides
PAUSE = 0.2  # seconds; longer than the closure of a consonant
LONG_PAUSE = 5.0  # seconds; left out
MARGIN = 0.25  # seconds kept around what is not left out
HOP = 160  # samples: loudness is measured every 10 ms
SECOND = RATE // HOP  # measurements
FLOOR = 1e-12  # power of what counts as nothing at all, -120 dB

WORDS_COMPARED = 16  # on each side of a seam: more than fit into an overlap
# Scripts written without spaces: each character is compared by itself.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
)
TOKEN = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")


class Part(NamedTuple):
    """Where somebody speaks without a pause, in seconds."""

    start: float
    end: float


class Piece(NamedTuple):
    """A stretch of a recording, `start` to `end` in seconds, samples float32 `[n]`.

    `overlap`: the seconds at its start that the piece before also holds. `parts`: where
    in it is speech, if that is known.
    """

    start: float
    end: float
    samples: np.ndarray
    overlap: float = 0.0
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Segment:
    """What is said from `start` to `end`, in seconds; perhaps with its translation.

    `parts`: where between them somebody speaks, if that is known.
    """

    start: float
    end: float
    text: str
    translation: str = ""
    parts: tuple[Part, ...] = ()

    def until(self, end: float) -> "Segment":
        """Without what comes after `end`."""
        if self.end <= end:
            return self
        kept = (Part(p.start, min(p.end, end)) for p in self.parts if p.start < end)
        return replace(self, start=min(self.start, end), end=end, parts=tuple(kept))

    def since(self, start: float) -> "Segment":
        """Without what comes before `start`."""
        if self.start >= start:
            return self
        kept = (Part(max(p.start, start), p.end) for p in self.parts if p.end > start)
        return replace(self, start=start, end=max(self.end, start), parts=tuple(kept))


def cut(samples: np.ndarray, limit: float = LIMIT) -> Iterator[Piece]:
    """Pieces of a recording, in order, none longer than `limit` seconds.

    `samples`: float32 mono at 16 kHz, `[n]`. Together the pieces hold all that can be
    heard; of digital silence there are none.
    """
    levels = loudness(samples)
    for first, last in _spans(levels):
        overlap = 0
        while last - first > limit * SECOND:
            end, after = _next_cut(levels[first:last], limit)
            yield _piece(samples, first, first + end, overlap)
            first, overlap = first + after, end - after
        yield _piece(samples, first, last, overlap)


def _piece(samples: np.ndarray, first: int, last: int, overlap: int) -> Piece:
    start, end = first * HOP, min(last * HOP, len(samples))
    return Piece(start / RATE, end / RATE, samples[start:end], overlap / SECOND)


def loudness(samples: np.ndarray) -> np.ndarray:
    """Decibels below full scale every 10 ms, over 50 ms each, `[ceil(n / 160)]`."""
    whole = len(samples) // HOP * HOP
    frames = samples[:whole].reshape(-1, HOP)
    power = np.einsum("ij,ij->i", frames, frames) / HOP
    if whole < len(samples):
        power = np.append(power, np.mean(np.square(samples[whole:])))
    smooth = np.convolve(power, np.full(5, 0.2), "same") if len(power) >= 5 else power
    return 10 * np.log10(np.maximum(smooth, FLOOR))


def _spans(levels: np.ndarray) -> list[tuple[int, int]]:
    """Where there is anything to hear, without the pauses of many seconds."""
    if levels.max(initial=-120) <= -119:
        return []
    # 50 dB under the loudest word nothing can be understood. A click is no word.
    word = max(int(PAUSE * SECOND), 1)
    loudest = np.convolve(10 ** (levels / 10), np.full(word, 1 / word), "same").max()
    nothing = min(10 * np.log10(loudest) - 50, -60)
    heard = np.flatnonzero(levels > nothing)
    breaks = np.flatnonzero(np.diff(heard) > LONG_PAUSE * SECOND)
    starts = heard[np.append(0, breaks + 1)]
    ends = heard[np.append(breaks, len(heard) - 1)] + 1
    margin = int(MARGIN * SECOND)
    return [
        (max(int(a) - margin, 0), min(int(b) + margin, len(levels)))
        for a, b in zip(starts, ends, strict=True)
    ]


def _next_cut(levels: np.ndarray, limit: float) -> tuple[int, int]:
    """Where the first piece of too long a stretch ends and the next begins: one place
    in a pause, or two that overlap."""
    longest = int(limit * SECOND)
    window = levels[:longest]
    quiet = window < _pause_level(window)
    scale = limit / LIMIT * SECOND
    least, earliest, latest = (int(s * scale) for s in (POSSIBLE, EARLIEST, LATEST))
    # Near the end the cut comes earlier, so that no scrap is left over.
    earliest = min(earliest, max(len(levels) - latest, least))
    latest = min(latest, len(levels) - least)
    for where in (slice(earliest, latest), slice(least, longest - 1)):
        pause = _longest_pause(quiet, where)
        if pause is not None:
            return pause, pause
    overlap = int(min(OVERLAP, limit / 4) * SECOND)
    end = _quietest(window, longest - overlap // 2, longest)
    after = _quietest(window, end - overlap - overlap // 8, end - overlap * 7 // 8)
    return end, after


def _pause_level(window: np.ndarray) -> float:
    """Loudness under which nobody speaks. Unstressed words lie some 15 dB under loud
    ones; where noise leaves less room than that, no pause is believed in."""
    background, speech = np.percentile(window, (1, 90))
    return min(max(background + 4, speech - 35), speech - 18)


def _longest_pause(quiet: np.ndarray, where: slice) -> int | None:
    """The middle of the longest pause in a part of `quiet`, a later one if equal."""
    edges = np.diff(np.concatenate(([0], quiet[where].astype(np.int8), [0])))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = ends - starts
    if not len(lengths) or lengths.max() < PAUSE * SECOND:
        return None
    best = len(lengths) - 1 - int(np.argmax(lengths[::-1]))
    return where.start + int(starts[best] + ends[best]) // 2


def _quietest(window: np.ndarray, low: int, high: int) -> int:
    return low + int(np.argmin(window[low:high]))


def merge(transcribed: Iterable[tuple[Piece, str, str]]) -> Iterator[Segment]:
    """One segment per piece with text: `(piece, text, translation)` in order.

    Times never overlap. What two overlapping pieces both say appears once. A segment
    comes out as soon as the piece after it is there, the last one at the end or before
    a KeyboardInterrupt goes on its way.
    """
    last: Segment | None = None
    stopped: KeyboardInterrupt | None = None
    try:
        for piece, text, translation in transcribed:
            segment = _segment(piece, _flat(text), _flat(translation))
            if last is not None and piece.overlap:
                last, segment = _joined(last, segment, piece.start + piece.overlap / 2)
            if last is not None and (last.text or last.translation):
                yield last
            last = segment
    except KeyboardInterrupt as error:
        stopped = error
    if last is not None and (last.text or last.translation):
        yield last
    if stopped is not None:
        raise stopped


def _segment(piece: Piece, text: str, translation: str) -> Segment:
    """From the first word to the last one where that is known."""
    parts = piece.parts or (Part(piece.start, piece.end),)
    return Segment(parts[0].start, parts[-1].end, text, translation, piece.parts)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _joined(last: Segment, segment: Segment, seam: float) -> tuple[Segment, Segment]:
    """Both without what they share, meeting at the seam, the middle of the overlap."""
    texts = seam_texts(last.text, segment.text)
    translations = seam_texts(last.translation, segment.translation)
    return (
        replace(last.until(seam), text=texts[0], translation=translations[0]),
        replace(segment.since(seam), text=texts[1], translation=translations[1]),
    )


def seam_texts(before: str, after: str) -> tuple[str, str]:
    """Two texts of overlapping sound, less what both say.

    The words next to the ends may have been cut through: up to two are given up for a
    run of equal words. Words said twice in a row just at the seam stay ambiguous.
    """
    tail = _words(before)[-WORDS_COMPARED:]
    head = _words(after)[:WORDS_COMPARED]
    run = _best_run([w for w, _ in tail], [w for w, _ in head])
    if run is None:
        return _without_halves(before, after, tail, head)
    i, j, length = run
    half = length // 2  # the middle is farthest from where the sound was cut
    return before[: tail[i + half][1]].rstrip(), after[head[j + half][1] :]


def _words(text: str) -> list[tuple[str, int]]:
    """Words in the form they are compared in, each with where it begins."""
    found = []
    for match in TOKEN.finditer(text):
        word = "".join(c for c in match[0].casefold() if c.isalnum())
        if word or re.match(f"[{UNSPACED}]", match[0]):
            found.append((word or match[0], match.start()))
    return found


def _best_run(tail: list[str], head: list[str]) -> tuple[int, int, int] | None:
    """Where in `tail` and `head` the run of words begins that both share, and its
    length. Words behind it in `tail` or before it in `head` count against it."""
    best, best_score = None, 0.0
    for i in range(len(tail)):
        for j in range(min(len(head), 3)):
            length = 0
            while (
                i + length < len(tail)
                and j + length < len(head)
                and tail[i + length] == head[j + length]
            ):
                length += 1
            lost = len(tail) - i - length
            allowed = min(length, 2)
            score = length - 0.45 * (lost + j)
            if lost <= allowed and j <= allowed and score > best_score:
                best, best_score = (i, j, length), score
    return best


def _without_halves(
    before: str,
    after: str,
    tail: list[tuple[str, int]],
    head: list[tuple[str, int]],
) -> tuple[str, str]:
    """For texts that share no whole word: drops a half that the other has whole."""
    if tail and head:
        (last, begins), (first, _) = tail[-1], head[0]
        if len(last) > 1 and first.startswith(last):
            return before[:begins].rstrip(), after
        if len(first) > 1 and last.endswith(first):
            return before, after[head[1][1] :] if len(head) > 1 else ""
    return before, after
