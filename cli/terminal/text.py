"""What of a text a terminal may get, how wide it is, and where its rows may end.

Width is counted in columns: a Chinese or Japanese character takes two, a mark over a
letter none. Nothing is cut inside what a reader sees as one character.
"""

import re
import unicodedata
from collections.abc import Iterator

# Control characters of a model's answer could move the cursor or retitle the
# window, and so could a checkpoint's names in notes and errors. C0 and C1 but for
# newline and tab are dropped: always beside the answer, in it on a terminal.
CONTROLS: dict[int, None] = {
    c: None for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\t"
}

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
JOINERS = "\u200d"  # makes one picture of two
# What belongs to the character before it although it is no mark: skin tones, and the
# vowels of Thai and Lao that stand behind a consonant.
FOLLOWERS = re.compile("[\U0001f3fb-\U0001f3ff\u0e33\u0eb3]")
BEHIND = re.compile("[\u0e33\u0eb3]")  # of these the vowels, which take a column
FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
HANGUL = re.compile("[\u1100-\u11ff]")


def printable(text: str) -> str:
    """`text` without control characters."""
    return text.translate(CONTROLS)


def columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(map(_width, clusters(text)))


def _width(cluster: str) -> int:
    wide = any(unicodedata.east_asian_width(c) in "WF" for c in cluster)
    if wide or "\ufe0f" in cluster or FLAG.match(cluster):
        return 2
    behind = len(BEHIND.findall(cluster, 1))
    return behind + (unicodedata.category(cluster[0]) not in ("Mn", "Me", "Cf"))


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
