"""How kept conversations are printed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..attach.messages import Message, calls_of, worded
from ..chat.conversation_file import saved_form
from ..chat.setup import Setup
from ..terminal.text import cut
from ..terminal.wrap import wrapped
from .rows import Summary, Turn
from .search import Match

NARROW = 72  # columns of a terminal in which a list leaves out the model


def list_line(summary: Summary, columns: int | None) -> str:
    """One conversation; columns: of the terminal, None cuts nothing."""
    what = " ".join(summary.first.split())
    what = f"{summary.name}: {what}" if summary.name else what
    about = when(summary.updated)
    if columns is None or columns >= NARROW:
        about += f"  {summary.messages:>3}  {Path(summary.model).name}"
    else:
        about = about[5:]  # the year
    line = f"{summary.id:>4}  {about}  {what}"
    return line if columns is None else cut(line, columns)


def match_lines(match: Match, columns: int | None) -> Iterator[str]:
    name = f"  {match.name}" if match.name else ""
    yield f"{match.conversation:>4}  {when(match.created)}{name}"
    said, blank = f"{match.role}: {match.excerpt}", " " * 6
    if columns is not None:
        said = wrapped(said, max(columns - len(blank), 1))
    yield from (blank + row for row in said.split("\n"))


def when(moment: float) -> str:
    """In the user's time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def stamp(moment: float) -> str:
    """For programs."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def transcript(turns: Sequence[Turn]) -> str:
    """A conversation as Markdown: questions quoted, answers as the model wrote them."""
    return "\n\n".join(filter(None, (as_markdown(t.message) for t in turns)))


def as_markdown(message: Message) -> str:
    text = worded(message)
    if message["role"] != "assistant":
        mark = "result: " if message["role"] == "tool" else ""
        return "\n".join(f"> {line}".rstrip() for line in (mark + text).split("\n"))
    called = (f"`{call}`" for call in calls_of(message))
    return "\n\n".join(filter(None, (text, *called)))


def summary_object(summary: Summary) -> dict[str, Any]:
    times = {key: stamp(getattr(summary, key)) for key in ("created", "updated")}
    return asdict(summary) | times


def match_object(match: Match) -> dict[str, Any]:
    return asdict(match) | {"created": stamp(match.created)}


def whole_object(
    summary: Summary, setup: Setup, turns: Sequence[Turn]
) -> dict[str, Any]:
    """A conversation with all that is known of it."""
    messages = [
        {
            "id": turn.id,
            "parent": turn.parent,
            "created": stamp(turn.created),
            "finish": turn.finish,
            **turn.message,
        }
        for turn in turns
    ]
    held = {"system": setup.system, "tools": setup.tools, "adapter": setup.adapter}
    held["adapter"] = setup.adapter and str(setup.adapter)
    settings = setup.settings.kept
    about = summary_object(summary)
    return about | held | {"settings": settings, "messages": messages}


def saved_object(setup: Setup, turns: Sequence[Turn]) -> dict[str, Any]:
    """A conversation as /save writes it and /load reads it."""
    messages = [turn.message for turn in turns]
    return saved_form(setup.model, setup.system, setup.settings, messages)
