"""Text with styles, laid out in rows. A style is the digits of an escape sequence."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from .text import columns
from .wrap import rows

BOLD, DIM = "1", "2"
STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Span:
    text: str
    style: str = ""


def plain(spans: Sequence[Span]) -> str:
    return "".join(span.text for span in spans)


def painted(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style and text else text


def shown_columns(row: str) -> int:
    """The columns that a row takes, whose styles take none."""
    return columns(STYLE.sub("", row).expandtabs())


def folded(spans: Sequence[Span], room: int) -> Iterator[str]:
    """The rows of a paragraph, broken between words."""
    text = plain(spans)
    styles = [span.style for span in spans for _ in span.text]
    for row in rows(text, room):
        marked = zip(text[row], styles[row], strict=True)
        yield "".join(
            painted("".join(c for c, _ in group), style)
            for style, group in groupby(marked, key=lambda pair: pair[1])
        )
