"""Tables, as wide as the window at most. No word is broken in them."""

from collections.abc import Sequence
from itertools import zip_longest

from .styled import BOLD, DIM, Span, folded, painted, plain, shown_columns
from .text import columns
from .wrap import rows

Cell = Sequence[Span]
BETWEEN = painted(" │ ", DIM)
GAP = 3  # columns of it
INDENT = "  "


def table_rows(
    head: Sequence[Cell],
    body: Sequence[Sequence[Cell]],
    aligned: Sequence[str],
    room: int,
) -> list[str]:
    """aligned: left, right or center, of each column.

    Where the window is too narrow for columns, each cell stands below the other.
    """
    table = [head, *body]
    across = room - GAP * (len(head) - 1)
    widths = fitting([list(column) for column in zip(*table, strict=True)], across)
    if widths is None:
        return records(head, body, room)
    first, *rest = [grid_rows(cells, widths, aligned) for cells in table]
    rule = painted("─┼─".join("─" * width for width in widths), DIM)
    return [*first, rule, *(row for lines in rest for row in lines)]


def fitting(table: Sequence[Sequence[Cell]], across: int) -> list[int] | None:
    """The widths of columns that are `across` wide together, if there are any."""
    texts = [[plain(cell) for cell in column] for column in table]
    widths = [max(widest(text, across) for text in column) for column in texts]
    least = [max(widest(text, 1) for text in column) for column in texts]
    if sum(least) > across:
        return None
    while sum(widths) > across:
        spare = [w if w > low else 0 for w, low in zip(widths, least, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return widths


def widest(text: str, room: int) -> int:
    return max(columns(text[row]) for row in rows(text, room))


def grid_rows(
    cells: Sequence[Cell], widths: Sequence[int], aligned: Sequence[str]
) -> list[str]:
    """The rows of one line of a table."""
    folds = [list(folded(c, width)) for c, width in zip(cells, widths, strict=True)]
    return [
        BETWEEN.join(map(placed, texts, widths, aligned)).rstrip()
        for texts in zip_longest(*folds, fillvalue="")
    ]


def placed(text: str, width: int, where: str) -> str:
    spare = width - shown_columns(text)
    before = {"right": spare, "center": spare // 2}.get(where, 0)
    return " " * before + text + " " * (spare - before)


def records(
    head: Sequence[Cell], body: Sequence[Sequence[Cell]], room: int
) -> list[str]:
    """Each line as a list of what its cells say, under the names of the columns."""
    found: list[str] = []
    for cells in body or [head]:
        found += [""] if found else []
        for name, cell in zip(head, cells, strict=True):
            named = [*name, Span(": ", BOLD)] if body and name else []
            first, *rest = folded([*named, *cell], room - len(INDENT))
            found += [first, *(INDENT + row for row in rest)]
    return found
