"""Text cut to the width of subtitles, wherever its script lets a line end.

Width is counted in columns: a Chinese or Japanese character takes two, a mark over a
letter none. Nothing is cut inside what a reader sees as one character.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

LINE = 42  # columns: what a line of subtitles holds
CUE = 2 * LINE
# Where a cue may end, best first: sentences, clauses, words, syllables, characters.
SENTENCES = r"(?<=[.!?…])\s+|(?<=[。！？])(?![」』）”’])|(?<=[。！？][」』）”’])"
CLAUSES = r"(?<=[,;:])\s+|(?<=[、，；：])"
WORDS = r"\s+"

WIDE = "\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
NO_START = "、。，．・：；！？!?,.:;）」』】〕》〉”’…ー々ゝゞ%％" + (
    "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
)
NO_END = "（「『【〔《〈“‘"
# Between two characters of Chinese or Japanese; in Thai and Lao, whose words nothing
# parts, in front of a vowel that is written before its syllable, or behind one that
# ends it; in Khmer, Burmese and Tibetan behind a mark of their own.
SCRIPTS = (
    f"(?<=[{WIDE}、。，；：！？」』）])(?=[{WIDE}（「『])|"
    "(?<=[\u0e01-\u0e2e\u0e30\u0e32\u0e33\u0e45\u0e46\u0e4c])(?=[\u0e40-\u0e44])|"
    "(?<=[\u0e30\u0e33\u0e46])(?=[\u0e01-\u0e2e])|"
    "(?<=[\u0e81-\u0eae\u0eb0\u0eb2\u0eb3])(?=[\u0ec0-\u0ec4])|"
    "(?<=[\u17d4\u17d5\u104a\u104b\u0f0b])"
)
BREAKS = (SENTENCES, CLAUSES, WORDS, SCRIPTS)
JOINERS = "\u200d"  # makes one picture of two
# What belongs to the character before it although it is no mark: skin tones, and the
# vowels of Thai and Lao that stand behind a consonant.
FOLLOWERS = re.compile("[\U0001f3fb-\U0001f3ff\u0e33\u0eb3]")
FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
HANGUL = re.compile("[\u1100-\u11ff]")


def columns(text: str) -> int:
    return sum(map(_width, clusters(text)))


def _width(cluster: str) -> int:
    wide = any(unicodedata.east_asian_width(c) in "WF" for c in cluster)
    if wide or "\ufe0f" in cluster or FLAG.match(cluster):
        return 2
    return 0 if unicodedata.category(cluster[0]) in ("Mn", "Me", "Cf") else 1


def clusters(text: str) -> Iterator[str]:
    """What a reader takes for single characters."""
    cluster = ""
    for c in text:
        if cluster and not _belongs(cluster, c):
            yield cluster
            cluster = ""
        cluster += c
    if cluster:
        yield cluster


def _belongs(cluster: str, c: str) -> bool:
    last = cluster[-1]
    if last in JOINERS or c in JOINERS or unicodedata.category(c)[0] == "M":
        return True
    if FLAG.match(c) and FLAG.match(last):
        return len(cluster) % 2 == 1
    return bool(FOLLOWERS.match(c) or HANGUL.match(c) and HANGUL.match(last))


def places(text: str, pattern: str) -> list[tuple[int, int]]:
    """Where a text may be cut, each with where the next part begins."""
    found = (match.span() for match in re.finditer(pattern, text))
    return [place for place in found if _may_cut(text, *place)]


def _may_cut(text: str, end: int, start: int) -> bool:
    """Whether the marks beside a place are not against it."""
    if not 0 < end or start >= len(text):
        return False
    return end < start or (text[start] not in NO_START and text[end - 1] not in NO_END)


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
        if width + _width(cluster) > CUE:
            yield part
            part, width = "", 0
        part += cluster
        width += _width(cluster)
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
