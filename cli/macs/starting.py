"""Whether a command is one of several processes that hold its model together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from mlx_gemma4.launched import rank_of, unusable

from ..errors import USAGE, UsageError

if TYPE_CHECKING:
    from mlx_gemma4.processes.lead import Lead

# Of the other commands each process runs its own, `pull` for example.
TOGETHER = ("chat", "describe", "transcribe", "serve", "batch")

_leads: "list[Lead]" = []


def lead() -> "Lead | None":
    """What tells other processes what this one does, where there are any."""
    return _leads[-1] if _leads else None


@contextmanager
def together(words: Sequence[str]) -> Iterator[bool]:
    """Around the command that `words` begin with; whether it is to be run here, and not
    in another process that this one follows."""
    if not words or words[0] not in TOGETHER:
        yield True
        return
    check_backend()
    if (rank := rank_of()) is None:
        yield True
        return
    if rank > 0:
        from .following import follow

        follow()
        yield False
        return
    from .leading import open_lead

    with open_lead() as first:
        _leads.append(first)
        try:
            yield True
        finally:
            _leads.remove(first)


def check_backend() -> None:
    """Raises UsageError where this was started by a backend that cannot be used; all
    processes but the first end without a word."""
    found = unusable()
    if found is None:
        return
    name, rank = found
    if rank:
        raise typer.Exit(USAGE)
    why = "needs Macs" if name == "jaccl" else "is not supported"
    raise UsageError(f"mlx.launch --backend {name} {why}: take --backend ring.")
