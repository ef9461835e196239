"""An answer in Markdown, rendered as it comes.

Blocks that cannot change any more are printed for good, so that they scroll and can be
copied as any text; the last one is drawn anew as it grows.
"""

import re
import time

from .blocks import Kind, blocks, stacked
from .live import Live

INTERVAL = 1 / 30  # seconds between two drawings
SHARE = 10  # of the time that passes, the part that drawing may take

# What may still become something else at the end of a text, and waits for it.
WAITING = re.compile(
    "(?:"
    r"^[ \t>]*(?:[-+*=#~`_:.\d][-+*=#~`_:.\d) ]*)?"  # the marks that a line begins with
    r"|^[ \t>]*(?:\||```|~~~)[^\n]*"  # a line of a table, or around code
    r"|(?<!\|\n)^\|[^\n]*\n[ |:-]*"  # the head of a table
    r"|!?\[[^\]\n]{0,80}(?:\](?:\([^)\s]*)?)?|<[^>\s]{0,200}"  # a link
    r"|&#?\w{0,8}|[*_`~\\!]{1,9}"  # a character by its name, emphasis
    r")\Z",
    re.MULTILINE,
)


class Markdown:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._source = ""  # of what is not yet printed for good
        self._above: Kind | None = None  # what is
        self._next = 0.0  # when to draw again

    def take(self, text: str) -> None:
        self._source += text
        started = time.perf_counter()
        if started >= self._next:
            self._draw(unfinished=True)
            ended = time.perf_counter()
            self._next = ended + max(INTERVAL, (SHARE - 1) * (ended - started))

    def anew(self) -> None:
        """Draws what may still change once more, below what others have written."""
        self._live.forget()
        self._draw(unfinished=True)

    def end(self) -> None:
        """Prints what is left."""
        self._draw(unfinished=False)
        self._source, self._above = "", None

    def _draw(self, unfinished: bool) -> None:
        source = WAITING.sub("", self._source, 1) if unfinished else self._source
        found = blocks(source, self._live.room, unfinished)
        done = found[:-1] if unfinished else found
        last = found[len(done) :]
        above = done[-1].end if done else self._above
        rows = stacked(last, above) or [""]
        self._live.draw(stacked(done, self._above), rows)
        if done and last:
            (block,) = last
            lines = self._source.split("\n")[block.line :]
            self._source = "\n" * block.gap + block.fence + "\n".join(lines)
            self._above = above
