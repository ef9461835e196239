"""Markdown as rows of a terminal."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .styled import BOLD, DIM, Span, folded, painted, plain
from .tables import table_rows
from .text import printable

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

CODE = "36"
HEADING = "1;35"
STYLES = {"strong": BOLD, "em": "3", "s": "9", "link": "4", "image": "4"}
BULLET, QUOTE, RULE = "• ", "│ ", "─"
# A paragraph without any marks, for which nothing is imported.
UNMARKED = re.compile(r"(?![ \d])[^*_`#>|~\[\\<&$+=\n\t-]+\Z")
BAR = re.compile(r"(?<!\\)\|")  # between the cells of a table
NARROWEST = 8  # columns, however deep something lies in lists and quotes


class Kind(Enum):
    TEXT = "text"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True)
class Block:
    """What can be printed for good once another one follows: a paragraph, an item of a
    list, a line of code."""

    kind: Kind
    line: int  # of the source, where it begins
    rows: list[str]
    gap: bool = False  # whether a blank line is above it in the source
    fence: str = ""  # what opens the code again, if the source is cut here
    inner: Kind | None = None  # of an item, what it ends with

    @property
    def end(self) -> Kind:
        return self.inner or self.kind


def blocks(source: str, room: int, unfinished: bool = False) -> list[Block]:
    """The blocks of `source`, at most `room` columns wide but for words and code."""
    source = printable(source)
    tree = None if UNMARKED.match(source) else _tree(source, unfinished)
    if tree is None:
        return [Block(Kind.TEXT, 0, list(folded([Span(source)], room)))]
    lines = source.split("\n")
    return [b for b in _blocks(tree.children, lines, room) if b.rows]


def _tree(source: str, unfinished: bool) -> "SyntaxTreeNode | None":
    from .parser import parse

    return parse(source, unfinished)


def stacked(found: Iterable[Block], above: Kind | None = None) -> list[str]:
    """The rows of blocks one below the other; `above`: what is over the first."""
    rows: list[str] = []
    for block in found:
        if not block.rows:
            continue
        if above is not None and (block.gap or block.kind is not above):
            rows.append("")
        rows += block.rows
        above = block.end
    return rows


def _blocks(
    nodes: "Sequence[SyntaxTreeNode]", lines: Sequence[str], room: int
) -> Iterator[Block]:
    room = max(room, NARROWEST)
    for node in nodes:
        line = first_line(node)
        gap = is_blank_above(line, lines)
        if node.type in ("bullet_list", "ordered_list"):
            yield from _items(node, lines, room)
        elif node.type == "fence":
            yield from _fence(node, lines[line], gap)
        elif node.type == "code_block":
            yield Block(Kind.CODE, line, code_rows(node), gap)
        elif node.type == "table":
            yield Block(Kind.TABLE, line, _table(node, lines, room), gap)
        else:
            yield Block(Kind.TEXT, line, _text(node, lines, room), gap)


def first_line(node: "SyntaxTreeNode") -> int:
    return node.map[0] if node.map else 0


def is_blank_above(line: int, lines: Sequence[str]) -> bool:
    """Whether the line before has nothing in it but the marks of a quote."""
    return line > 0 and not lines[line - 1].strip("> \t")


def _items(node: "SyntaxTreeNode", lines: Sequence[str], room: int) -> Iterator[Block]:
    for item in node.children:
        line = first_line(item)
        mark = f"{item.info}{item.markup} " if item.info else BULLET
        found = list(_blocks(item.children, lines, room - len(mark)))
        first, *rest = stacked(found) or [""]
        rows = [mark + first, *(" " * len(mark) + row if row else "" for row in rest)]
        inner = found[-1].end if found else None
        yield Block(Kind.TEXT, line, rows, is_blank_above(line, lines), inner=inner)


def _fence(node: "SyntaxTreeNode", opening: str, gap: bool) -> Iterator[Block]:
    line = first_line(node)
    if label := printable(node.info.strip()):
        yield Block(Kind.CODE, line, [painted(label, DIM)], gap)
        gap = False
    indent = opening[: len(opening) - len(opening.lstrip())]
    for number, row in enumerate(code_rows(node), line + 1):
        yield Block(Kind.CODE, number, [row], gap, f"{indent}{node.markup}\n")
        gap = False


def code_rows(node: "SyntaxTreeNode") -> list[str]:
    content = node.content.removesuffix("\n")
    return [painted(row, CODE) for row in content.split("\n")] if node.content else []


def _table(node: "SyntaxTreeNode", lines: Sequence[str], room: int) -> list[str]:
    head, *body = [row.children for part in node.children for row in part.children]
    written = lines[first_line(node) : node.map[1] if node.map else None]
    if any(len(BAR.findall(line.strip("|> \t"))) >= len(head) for line in written):
        return [*written]  # the parser would drop what stands in a column too many
    styles = [str(cell.attrs.get("style", "")) for cell in head]
    return table_rows(
        [list(spans(cell.children[0], BOLD)) for cell in head],
        [[list(spans(cell.children[0])) for cell in cells] for cells in body],
        [style.removeprefix("text-align:") for style in styles],
        room,
    )


def _text(node: "SyntaxTreeNode", lines: Sequence[str], room: int) -> list[str]:
    if node.type == "blockquote":
        rows = stacked(_blocks(node.children, lines, room - len(QUOTE)))
        return [painted(QUOTE, DIM) + row for row in rows]
    if node.type == "hr":
        return [painted(RULE * room, DIM)]
    if node.type == "math_block":
        return list(folded([Span(node.content)], room))
    style = HEADING if node.type == "heading" else ""
    return list(folded(list(spans(node.children[0], style)), room))


def spans(node: "SyntaxTreeNode", style: str = "") -> Iterator[Span]:
    """The text inside of a paragraph. A link is followed by its address."""
    for child in node.children:
        if child.type in ("softbreak", "hardbreak"):
            yield Span("\n")
        elif child.type in STYLES:
            inner = list(spans(child, f"{style};{STYLES[child.type]}".strip(";")))
            yield from inner
            address = str(child.attrs.get("href") or child.attrs.get("src") or "")
            if address.removeprefix("mailto:") not in ("", plain(inner)):
                yield Span(f" ({printable(address)})", DIM)
        else:
            code = child.type == "code_inline"
            yield Span(printable(child.content), CODE if code else style)
