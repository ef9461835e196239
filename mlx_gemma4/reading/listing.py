"""Lists in messages, cut to a readable length."""

from collections.abc import Sequence

SHOWN = 8


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """The first few items, and how many more there are."""
    shown = separator.join(items[:SHOWN])
    rest = len(items) - SHOWN
    return f"{shown}{separator}and {rest} more" if rest > 0 else shown
