"""Markdown as it is parsed here: nothing that was written gets lost.

HTML, mathematics and footnotes cannot be shown, and stay as they are.
"""

import re
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.tree import SyntaxTreeNode

NESTING = 100  # of lists and quotes; the parser drops what lies deeper
MATH = re.compile(
    r"\$\$.+?\$\$|\$(?![\s$])[^$\n]+(?<!\s)\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL
)
MATH_ENDS = {"$$": "$$", r"\[": r"\]"}
BREAK = re.compile("<br */?>", re.IGNORECASE)
CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
# What opens or closes emphasis: not beside a blank on both sides, nor inside a_word.
MARK = re.compile(r"\*\*|\*|~~|(?<!\w)__?(?=\w)|(?<=\w)__?(?!\w)")


class Parser(MarkdownIt):
    def __init__(self) -> None:
        super().__init__("commonmark", {"maxNesting": NESTING})
        self.enable(["table", "strikethrough"])
        self.disable(["reference", "html_block", "html_inline"])
        self.block.ruler.before(
            "fence", "math", math_block, {"alt": ["paragraph", "blockquote", "list"]}
        )
        self.inline.ruler.before("escape", "as_written", as_written)
        self.core.ruler.before("inline", "unfinished", close_marks)

    def normalizeLink(self, url: str) -> str:
        return url

    def normalizeLinkText(self, link: str) -> str:
        return link


@cache
def parser() -> Parser:
    return Parser()


def parse(source: str, unfinished: bool) -> SyntaxTreeNode | None:
    """The blocks of `source`; None where they lie too deep in one another.

    unfinished: more may follow. What is open at its end is taken to be closed there.
    """
    tokens = parser().parse(source, {"unfinished": unfinished})
    if any(token.level > NESTING - 3 for token in tokens):
        return None
    return SyntaxTreeNode(tokens)


def as_written(state: StateInline, silent: bool) -> bool:
    """Keeps mathematics, whose signs mean something else there; <br> is a new line."""
    here = state.src[state.pos]
    pattern = BREAK if here == "<" else MATH if here in "$\\" else None
    match = pattern.match(state.src, state.pos) if pattern else None
    if match is None:
        return False
    if not silent:
        token = state.push("hardbreak" if here == "<" else "text", "", 0)
        token.content = match[0]
    state.pos = match.end()
    return True


def math_block(state: StateBlock, start: int, stop: int, silent: bool) -> bool:
    """Mathematics over several lines, which may begin with a plus or a minus."""

    def text(first: int, after: int) -> str:
        return state.getLines(first, after, state.blkIndent, False)

    line = text(start, start + 1).strip()
    closing = MATH_ENDS.get(line[:2])
    if closing is None or closing in line[2:]:
        return False
    last = start + 1
    while last < stop and not state.isEmpty(last):
        if closing in text(last, last + 1):
            break
        last += 1
    else:  # not closed, or not yet
        if last < stop or not state.env.get("unfinished"):
            return False
    if not silent:
        state.line = min(last + 1, stop)
        token = state.push("math_block", "", 0)
        token.content, token.map = text(start, state.line), [start, state.line]
    return True


def close_marks(state: StateCore) -> None:
    if state.env.get("unfinished"):
        last = next((t for t in reversed(state.tokens) if t.nesting != -1), None)
        if last is not None and last.type == "inline":
            last.content += missing_marks(last.content)


def missing_marks(text: str) -> str:
    """What closes the emphasis and the code that are open at the end of `text`."""
    rest = CODE_SPAN.sub("x", text)
    if ticks := re.search("`+", rest):
        return ticks[0]
    opened: list[str] = []
    for match in MARK.finditer(rest):
        mark = match[0]
        if mark in opened:
            del opened[opened.index(mark) :]
        elif rest[match.end() : match.end() + 1].strip():
            opened.append(mark)
    return "".join(reversed(opened))
