"""Text cut to the width of subtitles, wherever its script lets a line end."""

from collections.abc import Iterator, Sequence

from ..terminal.text import SCRIPTS, clusters, columns, places

LINE = 42  # columns: what a line of subtitles holds
CUE = 2 * LINE
# Where a cue may end, best first: sentences, clauses, words, syllables, characters.
SENTENCES = r"(?<=[.!?…])\s+|(?<=[。！？])(?![」』）”’])|(?<=[。！？][」』）”’])"
CLAUSES = r"(?<=[,;:])\s+|(?<=[、，；：])"
WORDS = r"\s+"
BREAKS = (SENTENCES, CLAUSES, WORDS, SCRIPTS)


def split_text(text: str, breaks: Sequence[str] = BREAKS) -> Iterator[str]:
    """Parts of at most CUE columns, cut at the best places there are."""
    if columns(text) <= CUE:
        if text:
            yield text
        return
    if not breaks:
        yield from _split_anywhere(text)
        return
    part, gap, end = "", "", 0
    for begin, stop in (*places(text, breaks[0]), (len(text), len(text))):
        unit = text[end:begin]
        if columns(part + gap + unit) <= CUE:
            part += gap + unit if part else unit
        else:
            yield from split_text(part, breaks[1:])
            part = unit
        gap, end = text[begin:stop], stop
    yield from split_text(part, breaks[1:])


def _split_anywhere(text: str) -> Iterator[str]:
    part, width = "", 0
    for cluster in clusters(text):
        if width + columns(cluster) > CUE:
            yield part
            part, width = "", 0
        part += cluster
        width += columns(cluster)
    yield part


def two_lines(text: str) -> str:
    """A cue on at most two lines, cut near its middle."""
    if columns(text) <= LINE:
        return text
    found = places(text, f"{WORDS}|{CLAUSES}|{SENTENCES}") + places(text, SCRIPTS)
    if not found and columns(text) > CUE // 2 and not text.isascii():
        found = _between_clusters(text)
    if not found:
        return text
    end, start = min(found, key=lambda place: _unevenness(text, *place))
    return text[:end] + "\n" + text[start:]


def _between_clusters(text: str) -> list[tuple[int, int]]:
    at, found = 0, []
    for cluster in clusters(text):
        at += len(cluster)
        found.append((at, at))
    return found[:-1]


def _unevenness(text: str, end: int, start: int) -> float:
    """Less is better: lines of like length, and a mark at the end of the first."""
    longer = max(columns(text[:end]), columns(text[start:]))
    marked = text[end - 1] in "、。，；：！？,;:.!?"
    return longer - (4 if marked and longer <= LINE else 0)
