"""What is known of an MCP server before it runs: how to start or to reach it."""

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ChatError, install_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from httpx2 import Response

TIMEOUT = 60.0
# Programs that run another, by which a server is known; and words of theirs.
LAUNCHERS = re.compile(r"(bunx?|deno|docker|node|npx|pipx|podman|python[\d.]*|uvx?)$")
OWN_WORDS = {"run", "tool", "x"}


@dataclass(frozen=True)
class Server:
    """An MCP server: a command that is started, or a URL.

    env: added to the few variables that a server gets: HOME, PATH and the like.
    trusted: its hints about what its tools do are believed.
    tools: the names of those to take; None is all.
    timeout: seconds that it may be silent, at its start and in each call.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trusted: bool = False
    tools: tuple[str, ...] | None = None
    timeout: float = TIMEOUT

    def check(self) -> None:
        """Raises ChatError for what is missing here, before anything is started."""
        if importlib.util.find_spec("mcp") is None:
            raise ChatError(
                f"MCP servers need the package mcp: {install_command('mcp')}"
            )
        if self.cwd and not self.cwd.is_dir():
            raise ChatError(f"The MCP server {self.name} has no folder {self.cwd}.")
        if self.command and self.program() is None:
            raise ChatError(
                f"The MCP server {self.name}: there is no program {self.command[0]!r}. "
                "Install it, or give its whole path."
            )

    def program(self) -> str | None:
        """The path of its program, looked up where the server itself looks."""
        path = self.env.get("PATH", os.environ.get("PATH"))
        word = os.path.expanduser(self.command[0])
        if self.cwd and os.sep in word:
            word = str(self.cwd / word)
        return shutil.which(word, path=path)


def name_of(command: tuple[str, ...]) -> str:
    """What to call a server: its program, or what a launcher runs; never a path."""
    first, *rest = [os.path.basename(word) or word for word in command]
    words = [word for word in rest if word[:1] != "-" and word not in OWN_WORDS]
    named = words[0] if LAUNCHERS.match(first) and words else first
    return re.sub(r"(?<=.)@.*|\.(py|[cm]?[jt]s)$|[^\w.-]", "", named) or first


def host_of(url: str) -> str:
    """The host in a URL, which a server is called by."""
    after = url.partition("://")[2]
    return re.sub(r"[/?#].*", "", after).rpartition("@")[2]


class Status:
    """The last refusal of an HTTP server, which the client itself does not tell."""

    refused: int | None = None

    async def note(self, response: "Response") -> None:
        if response.request.method == "POST":  # the rest is optional
            failed = response.status_code >= 400
            self.refused = response.status_code if failed else None


def transport_of(server: Server, stderr: TextIO, status: Status) -> Any:
    """What the official client connects to. `stderr` is where a command writes."""
    if not server.url:
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(
            command=server.program() or server.command[0],
            args=list(server.command[1:]),
            env=dict(server.env),
            cwd=server.cwd,
        )
        return stdio_client(parameters, errlog=stderr)
    return _over_http(server, status)


def _over_http(server: Server, status: Status) -> AbstractAsyncContextManager[Any]:
    from httpx2 import AsyncClient, Timeout
    from mcp.client.streamable_http import streamable_http_client

    @asynccontextmanager
    async def connect() -> "AsyncIterator[Any]":
        client = AsyncClient(
            headers=server.headers,
            timeout=Timeout(server.timeout, read=None),  # a call has its own limit
            event_hooks={"response": [status.note]},
        )
        async with client, streamable_http_client(server.url, http_client=client) as io:
            yield io

    return connect()
