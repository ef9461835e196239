"""Whether a command is one of several processes that hold its model together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlx_gemma4.processes.launched import rank_of

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
    rank = rank_of()
    if rank is None or not words or words[0] not in TOGETHER:
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
