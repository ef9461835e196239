"""Tables in plain text: rows as aligned lines, and the numbers in them."""

from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[str]], left: Sequence[int] = (0, 3)) -> list[str]:
    """Rows as aligned lines; the columns of `left` begin together, others end."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def count(number: int) -> str:
    """`4.63 B`, `403 M`, `12,345`."""
    if number >= 1e9:
        return f"{number / 1e9:.2f} B"
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,}"
