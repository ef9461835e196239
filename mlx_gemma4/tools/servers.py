"""MCP servers, and what they offer as tools."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Self

from ..errors import ChatError
from .connection import Connection, Progress
from .foreign import declaration
from .result import Result
from .server import Server
from .tool import Tool

if TYPE_CHECKING:
    import mcp_types


class Servers:
    """Starts MCP servers, all at once, and stops them at the end of a `with`.

    taken: names of tools that come from elsewhere; those of servers give way to them.
    progress: is told, in a thread of its own, what a server says while it works.

    `with` raises ChatError for what is missing here, and `tools`, which waits for the
    servers, for one that does not start.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        taken: Collection[str] = (),
        progress: Progress | None = None,
    ) -> None:
        names = _numbered([server.name for server in servers])
        pairs = zip(servers, names, strict=True)
        self._servers = [replace(server, name=name) for server, name in pairs]
        self._taken = taken
        self._progress = progress
        self._open = ExitStack()
        self._connections: list[Connection] = []

    def __enter__(self) -> Self:
        for server in self._servers:
            server.check()
        if not self._servers:
            return self
        from anyio.from_thread import start_blocking_portal

        with ExitStack() as opened:
            files = [opened.enter_context(TemporaryFile("w+")) for _ in self._servers]
            portal = opened.enter_context(start_blocking_portal())
            for server, file in zip(self._servers, files, strict=True):
                connection = Connection(server, portal, file, self._progress)
                opened.callback(connection.close)
                self._connections.append(connection)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @cached_property
    def tools(self) -> list[Tool]:
        """What the servers offer, in their order. Where several are called the same,
        each has the name of its server in front."""
        offered = [
            (connection, each)
            for connection in self._connections
            for each in _chosen(connection.server, connection.listed.result())
        ]
        names = [_callable(each.name) for _, each in offered]
        clashing = {name for name, count in Counter(names).items() if count > 1}
        clashing |= set(self._taken)
        names = [
            f"{_callable(connection.server.name)}_{name}" if name in clashing else name
            for name, (connection, _) in zip(names, offered, strict=True)
        ]
        pairs = zip(_numbered(names), offered, strict=True)
        return [_tool(name, connection, each) for name, (connection, each) in pairs]


def _tool(name: str, connection: Connection, offered: "mcp_types.Tool") -> Tool:
    server = connection.server
    hints = offered.annotations
    text = offered.description or offered.title or ""
    try:
        declared = declaration(name, text, offered.input_schema)
    except ChatError as error:
        raise ChatError(
            f"The MCP server {server.name} declares {offered.name} in a way that no "
            f"template can write: {error} Choose others in the configuration: "
            f"tools = […] in [mcp.{server.name}]."
        ) from None

    def run(arguments: Mapping[str, Any]) -> Result:
        return connection.call(offered.name, arguments)

    read_only = hints.read_only_hint if hints else None
    return Tool(name, declared, run, server.name, read_only, server.trusted)


def _chosen(
    server: Server, offered: "Sequence[mcp_types.Tool]"
) -> "Iterable[mcp_types.Tool]":
    """Those that the user takes. Raises ChatError for one that is not offered."""
    if server.tools is None:
        return offered
    names = [each.name for each in offered]
    missing = [name for name in server.tools if name not in names]
    if missing:
        raise ChatError(
            f"The MCP server {server.name} has no tool {missing[0]!r}. It has "
            f"{', '.join(names) or 'none'}."
        )
    return [each for each in offered if each.name in server.tools]


def _callable(name: str) -> str:
    """A name as Gemma's notation of calls can have it."""
    return re.sub(r"[^\w./-]", "_", name)


def _numbered(names: Iterable[str]) -> list[str]:
    """The same name a second time is followed by 2, and so on."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found
