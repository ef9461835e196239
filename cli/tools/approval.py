"""Who allows a call: the user, who is asked before it runs."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.tools.tool import Tool

from ..models.fetch import can_ask
from ..render import Screen, fitted
from ..terminal.text import columns
from ..terminal.wrap import window
from .wording import argument_lines, visible

if TYPE_CHECKING:
    from ..terminal.keyboard import Interrupt


class Verdict(StrEnum):
    """Whether a call is run; of those that are not, what the model is told."""

    RUN = "run"
    DECLINED = "Not run: the user said no."
    REFUSED = "Not run: nobody is there who could allow it."


class Approval:
    """Asks the user once for each call, or for a tool once and for all.

    yes: everything is allowed.
    """

    def __init__(self, screen: Screen, yes: bool = False) -> None:
        self.refused: list[str] = []  # tools that nobody could be asked about
        self._screen, self._yes = screen, yes
        self._always: set[tuple[str, str]] = set()

    def asks(self, tool: Tool) -> bool:
        return not self.granted(tool) and can_ask(self._screen)

    def unasked(self, tool: Tool) -> Verdict:
        """Of a tool that nobody is asked about."""
        if self.granted(tool):
            return Verdict.RUN
        self.refused.append(tool.name)
        return Verdict.REFUSED

    def granted(self, tool: Tool) -> bool:
        """Whether nobody is asked. That a tool only reads is a server's word, which
        counts where the user trusts the server."""
        spared = tool.trusted and tool.read_only is True
        return self._yes or spared or (tool.source, tool.name) in self._always

    def said(self, tool: Tool) -> str:
        """In words."""
        if self._yes:
            return "runs without a question (--yes)"
        if (tool.source, tool.name) in self._always:
            return "allowed in this session"
        if self.granted(tool):
            return "which is trusted: runs without a question"
        return "asks" if can_ask(self._screen) else "is refused: needs --yes"

    def ask(self, tool: Tool, call: ToolCall, interrupt: "Interrupt") -> Verdict:
        """Shows a call, and what the user says of it. Raises KeyboardInterrupt."""
        name = visible(tool.name)
        about = ", ".join(filter(None, (visible(tool.source), hint(tool))))
        header = fitted(f"The model calls {name} ({about}):", sys.stderr)
        said = [*header.split("\n"), *argument_lines(call)]
        self._screen.end()
        # Arguments are not broken between words, where blanks would be lost.
        print(*said, *above(said), sep="\n", file=sys.stderr)
        interrupt.set_aside()  # typed before all of it was shown
        question = f"Run {name}? [y]es, [a]lways in this session, [n]o:"
        while True:
            asked = fitted(question, sys.stderr)
            print(asked, end=" ", file=sys.stderr, flush=True)
            try:
                line = sys.stdin.readline()
            except BaseException:
                print(file=sys.stderr)
                raise
            if not line:  # Ctrl-D
                print(file=sys.stderr)
                return Verdict.DECLINED
            answer = line.strip().lower()
            if answer in ("a", "always"):
                self._always.add((tool.source, tool.name))
                return Verdict.RUN
            if answer in ("y", "yes"):
                return Verdict.RUN
            if answer in ("n", "no"):
                return Verdict.DECLINED


def above(lines: Sequence[str]) -> list[str]:
    """What there is to say of a question that is taller than its window."""
    size = window(sys.stderr)
    rows = sum(-(-columns(line) // size.columns) for line in lines)
    if rows + 2 <= size.lines:
        return []
    return [f"These are {rows} rows, which begin above: scroll up to read them all."]


def hint(tool: Tool) -> str:
    """What its author says of it."""
    if tool.read_only is None:
        return ""
    does = "only reads" if tool.read_only else "changes things"
    return f"says that it {does}"
