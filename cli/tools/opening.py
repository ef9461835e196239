"""Opening the tools that a command line names."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..render import Screen
from .aside import aside

if TYPE_CHECKING:
    from mlx_gemma4.tools.servers import Servers
    from mlx_gemma4.tools.tool import Tool
    from mlx_gemma4.tools.toolbox import Toolbox

    from ..chat.session import Session


@dataclass(frozen=True)
class Chosen:
    """The tools of files, and of servers, which start while a model is loaded."""

    tools: "list[Tool]"
    servers: "Servers | None" = None

    def toolbox(self) -> "Toolbox":
        """Waits for the servers. Raises ChatError for one that does not start."""
        from mlx_gemma4.tools.toolbox import Toolbox

        served = self.servers.tools if self.servers is not None else []
        return Toolbox([*self.tools, *served])


@contextmanager
def chosen_tools(
    files: Sequence[Path],
    servers: Sequence[str],
    declared: Sequence[Mapping[str, Any]],
    screen: Screen,
) -> "Iterator[Chosen | None]":
    """What `--tool` and `--mcp` name; None where that is nothing. Servers stop at the
    end. Raises UsageError and ChatError.

    declared: what `--tools` declares, whose names are taken.
    """
    if not files and not servers:
        yield None
        return
    taken = names(declared)
    tools = read_files(files, taken)
    if not servers:
        yield Chosen(tools)
        return
    from mlx_gemma4.tools.servers import Servers

    from ..config.file import Configuration, config_file
    from .servers import chosen_servers
    from .wording import visible

    asked = chosen_servers(servers, Configuration.read(config_file()))

    def progress(text: str) -> None:
        screen.passed()
        screen.passing(visible(text))

    taken |= {tool.name for tool in tools}
    with Servers(asked, taken, progress) as started:
        yield Chosen(tools, started)


def read_files(files: Sequence[Path], taken: Collection[str]) -> "list[Tool]":
    """Runs files and takes their functions. Raises UsageError and ChatError.

    taken: the names of what is declared elsewhere.
    """
    from mlx_gemma4.tools.files import load_tools
    from mlx_gemma4.tools.toolbox import Toolbox

    with aside():
        tools = [tool for path in files for tool in load_tools(path)]
    for tool in Toolbox(tools).tools.values():  # which have names of their own
        if tool.name in taken:
            raise UsageError(
                f"{tool.name} of {tool.source} is declared by --tools as well: rename "
                "one of them."
            )
    return tools


def names(declared: Sequence[Mapping[str, Any]]) -> set[str]:
    return {tool["function"]["name"] for tool in declared}


def use(session: "Session", chosen: Chosen, yes: bool, most: int) -> None:
    """Lets the model call tools that are run. One that a kept conversation only
    declares gives way.

    yes: nobody is asked. most: see `Calls`.
    """
    from .approval import Approval
    from .calls import Calls

    chat, screen = session.chat, session.screen
    screen.passing("Waiting for the tools …")
    try:
        toolbox = chosen.toolbox()
    finally:
        screen.passed()
    declared = [
        tool
        for tool in chat.declared or ()
        if tool["function"]["name"] not in toolbox.tools
    ]
    chat.declared = declared or None
    chat.declare(toolbox.declarations)
    approval = Approval(screen, yes)
    session.calls = Calls(toolbox, approval, screen, names(declared), most)


def note_missing(session: "Session") -> None:
    """Says which tools of a conversation are not there now."""
    chat = session.chat
    there = names(chat.tools or ())
    called = [
        call["function"]["name"]
        for message in chat.messages
        for call in message.get("tool_calls", ())
    ]
    missing = [name for name in dict.fromkeys(called) if name not in there]
    if missing:
        session.screen.note(
            f"Called before, and not there now: {', '.join(missing)}. --tool, --mcp "
            "and --tools give tools again."
        )
