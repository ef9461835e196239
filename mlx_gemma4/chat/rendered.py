"""A rendered conversation, in which the words of its messages are only words.

A chat template writes `<|turn>` where a turn begins, and copies messages that may hold
the same letters. The first becomes a control token, the second must not. Which is
which cannot be seen in the text, so the template renders the conversation once more
with stand-ins in it: for each character that begins a special token, one that occurs
nowhere else. What stands in both renderings, the template has written itself.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from ..errors import ChatError

# What templates take out of earlier answers, with all that stands between.
THOUGHT = re.compile(r"(<\|channel>|<channel\|>)")
PRIVATE = tuple(map(chr, range(0xE000, 0xE100)))
CONTROLS = tuple(map(chr, (*range(0x01, 0x09), *range(0x0E, 0x1C))))


@dataclass(frozen=True)
class Rendered:
    """The text of a prompt, in parts that are encoded apart.

    Between two parts is the inside of a special token's text that stood in a message,
    so no part holds it whole.
    """

    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def cuts(self) -> tuple[int, ...]:
        """Where in `text` the parts begin, the first left out."""
        return tuple(accumulate(map(len, self.parts)))[:-1]

    def find(self, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        """Place and text of each match that lies within a part."""
        start = 0
        for part in self.parts:
            for match in pattern.finditer(part):
                yield start + match.start(), match[0]
            start += len(part)

    def sub(self, pattern: re.Pattern[str], replace: Callable[[], str]) -> "Rendered":
        """Each match that lies within a part replaced by the next of `replace()`."""
        parts = (pattern.sub(lambda _: replace(), part) for part in self.parts)
        return Rendered(tuple(parts))

    def insert(self, at: int, text: str) -> "Rendered":
        """`text` put in at a place that is not inside a cut special token."""
        parts, start = list(self.parts), 0
        for number, part in enumerate(parts):
            if at <= start + len(part):
                here = at - start
                parts[number] = part[:here] + text + part[here:]
                break
            start += len(part)
        return Rendered(tuple(parts))


def own_parts(
    render: Callable[[Mapping[str, Any]], str],
    said: Mapping[str, Any],
    special_tokens: Iterable[str],
) -> Rendered:
    """What `render` makes of `said`, cut inside each special token that it only quotes.

    said: the messages and tools, of JSON types.

    Raises ChatError where a template changes what is said so much that its own special
    tokens cannot be told from quoted ones.
    """
    text = render(said)
    special = _pattern(special_tokens)
    firsts = {match[0][0] for match in special.finditer(text)}
    used = set().union(*_texts(said))
    if not firsts & used:
        return Rendered((text,))
    own: Counter[str] | None = None
    thoughts: list[str] = []
    for stand_ins in (PRIVATE, CONTROLS):  # one may sort as the other does not
        away = dict(zip(firsts, (c for c in stand_ins if c not in used), strict=False))
        if len(away) < len(firsts):
            continue
        words = _Translation(away, sparing=False).of(said)
        spared_words = _Translation(away, sparing=True).of(said)
        for each in (words, spared_words)[: 1 + (spared_words != words)]:
            marked = render(each)
            found = special.findall(marked)
            spared = list(filter(THOUGHT.fullmatch, found))
            thoughts = spared if own is None else thoughts
            # Words that stay where the template takes thoughts out may make it write
            # more: what it wrote each time is its own.
            own = Counter(found) if own is None else own & Counter(found)
            back = str.maketrans({stand: first for first, stand in away.items()})
            if marked.translate(back) == text and spared == thoughts:
                starts = (match.start() for match in special.finditer(text))
                return _cut(text, (at for at in starts if marked[at] != text[at]))
    quoted = Counter(special.findall(text)) - (own or Counter())
    if not quoted:
        return Rendered((text,))
    raise ChatError(
        "The chat template changes what is said here, and special tokens that a "
        f"message quotes ({', '.join(sorted(quoted))}) cannot be told from its own. "
        "Leave them out, or allow control tokens."
    )


def as_words(text: str, special_tokens: Iterable[str]) -> Rendered:
    """`text` in which all special tokens are only words."""
    found = _pattern(special_tokens).finditer(text)
    return _cut(text, (match.start() for match in found))


def _pattern(special_tokens: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, special_tokens)) or "(?!)")


def _cut(text: str, starts: Iterable[int]) -> Rendered:
    """`text`, cut inside of the special tokens that begin at `starts`."""
    places = [0, *(start + 1 for start in starts), len(text)]
    return Rendered(tuple(text[a:b] for a, b in pairwise(places)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


class _Translation:
    """Puts stand-ins into what is said.

    sparing: not into the marks of thoughts in what the assistant said.
    """

    def __init__(self, away: Mapping[str, str], sparing: bool):
        self._away = str.maketrans(dict(away))
        self._sparing = sparing

    def of(self, value: Any, spare: bool = False, inside: bool = False) -> Any:
        if isinstance(value, str):
            pieces = THOUGHT.split(value) if spare else [value]
            pieces[::2] = [piece.translate(self._away) for piece in pieces[::2]]
            return "".join(pieces)
        if isinstance(value, list):
            return [self.of(item, spare, inside) for item in value]
        if not isinstance(value, dict):
            return value
        answer = self._sparing and not inside and value.get("role") == "assistant"
        inside = inside or "role" in value  # what a message holds is no message
        return {
            self.of(key): self.of(item, spare or (answer and key == "content"), inside)
            for key, item in value.items()
        }
