"""Rounds of `gemma4 bench`, as a bar tells of them."""

from collections.abc import Callable

from ..progress import Progress


def told_by(bar: Progress) -> Callable[[str, int], None]:
    """What is told of each contender, and of its round, before it runs."""

    def progress(name: str, number: int) -> None:
        bar.label = f"{name}, " + (f"round {number}" if number else "warm-up")
        bar.update(bar.done)
        bar.done += 1

    return progress
