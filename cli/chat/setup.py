"""What a conversation is held with, and whether it is kept."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..attach.messages import Message
from ..settings import Settings

NO = ("", "0", "false", "f", "no", "n", "off")  # as options take it


@dataclass(frozen=True)
class Setup:
    """model: None is the one that is taken where none is named."""

    model: str | None
    adapter: Path | None
    system: str | None
    tools: list[Message] | None
    settings: Settings


def is_kept(
    asked: bool | None, as_json: bool, named: bool = False, private: bool = False
) -> bool:
    """Whether a run is kept: as `asked`; else where a kept conversation is `named`, and
    on a terminal, unless even what is typed is `private`."""
    if asked is not None:
        return asked
    private = is_private(private)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return named or (terminal and not private and not as_json)


def is_private(asked: bool) -> bool:
    """Whether not even what is typed is kept."""
    return asked or os.environ.get("GEMMA4_NO_HISTORY", "").lower() not in NO
