"""One MCP server while it runs, in the event loop of another thread.

The official client (extra `mcp`) is asynchronous and this library is not: each server
has a task of its own, and whoever calls a tool waits in his own thread. Ctrl-C, raised
there, cancels the call, of which the server is told, and leaves the server running.
"""

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ChatError
from .foreign import result_of
from .result import Result
from .server import Server, Status, transport_of

if TYPE_CHECKING:
    import mcp_types
    from anyio.from_thread import BlockingPortal
    from mcp import Client

PAGES = 100  # of a list of tools
TAIL = 2000  # bytes of what a server wrote on stderr that are told
LINES = 5
KEYLESS = (401, 403)  # statuses of refusals for want of a key

Progress = Callable[[str], None]

# Else what it logs of the mistakes of servers goes to stderr, tracebacks and all.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class Connection:
    """Starts a server; `listed` is what it offers, once it has said so.

    stderr: a file for what the server writes there; its end is told when it fails.
    progress: is told, in the thread of the servers, what one says while it works.
    """

    def __init__(
        self,
        server: Server,
        portal: "BlockingPortal",
        stderr: TextIO,
        progress: Progress | None,
    ) -> None:
        self.server = server
        self._portal = portal
        self._stderr = stderr
        self._progress = progress
        self._start()

    def _start(self) -> None:
        self.listed: Future[list[mcp_types.Tool]] = Future()
        self._status = Status()
        self._client: Client | None = None
        self._running = self._portal.start_task_soon(self._run, self.listed)

    def close(self) -> None:
        """Begins to stop the server; its task has ended when the portal is closed."""
        self._running.cancel()

    def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """What a tool answers. What goes wrong is a result, too, for the model.

        A server that has ended is started again for the next call.
        """
        if self._running.done():
            self._start()
            try:
                self.listed.result()
            except ChatError as error:
                return Result(f"Error: {error}", True)
        call = self._portal.start_task_soon(self._call, name, dict(arguments))
        try:
            return call.result()
        finally:
            call.cancel()  # where Ctrl-C ended the wait

    async def _run(self, listed: "Future[list[mcp_types.Tool]]") -> None:
        try:  # also where the client itself cannot be imported
            from anyio import fail_after, sleep_forever
            from mcp import Client

            transport = transport_of(self.server, self._stderr, self._status)
            with fail_after(self.server.timeout) as starting:
                async with Client(transport, client_info=_ourselves()) as client:
                    self._client = client
                    tools = await self._tools(client)
                    starting.deadline = float("inf")
                    listed.set_result(tools)
                    await sleep_forever()
        except Exception as error:
            with suppress(InvalidStateError):  # one that ends later is told by calls
                listed.set_exception(ChatError(self._failure(error)))
        finally:
            listed.cancel()
            if self.listed is listed:  # and it was not started again
                self._client = None

    async def _tools(self, client: "Client") -> "list[mcp_types.Tool]":
        found, cursor = [], None
        for _ in range(PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                return found
        raise ValueError(f"its list of tools has more than {PAGES} pages")

    def _failure(self, error: Exception) -> str:
        """Why there is no list of tools."""
        if isinstance(error, TimeoutError):
            why = f"it has not answered within {self.server.timeout:g} s"
        else:
            why = said(error, self._status)
        failure = f"The MCP server {self.server.name} does not start: {why}."
        if self.server.url and self._status.refused not in KEYLESS:
            return f"{failure} See that it runs there, and that its URL is right."
        return failure + self._tail()

    async def _call(self, name: str, arguments: dict[str, Any]) -> Result:
        from anyio import current_time, move_on_after

        server, client = self.server, self._client
        if client is None:
            return Result(f"Error: {server.name} has ended.{self._tail()}", True)

        async def heard(
            progress: float, total: float | None, message: str | None
        ) -> None:
            scope.deadline = current_time() + server.timeout
            if self._progress:
                of = f" of {total:g}" if total else ""
                self._progress(f"{server.name}: {message or f'{progress:g}{of}'}")

        with move_on_after(server.timeout) as scope:
            try:
                found = await client.call_tool(name, arguments, progress_callback=heard)
                return result_of(found)
            except Exception as error:  # of the server's, or an answer that is none
                tail, why = "", said(error, self._status)
                if _has_ended(error) or self._status.refused == 404:
                    tail = self._tail()
                    self.close()
                return Result(f"Error: {server.name}: {why}.{tail}", True)
        text = f"no answer from {server.name} within {server.timeout:g} s."
        return Result(f"Error: {text}", True)

    def _tail(self) -> str:
        """The last lines that it wrote on stderr."""
        file = self._stderr.fileno()  # read without moving where the server writes
        start = max(0, os.fstat(file).st_size - TAIL)
        lines = os.pread(file, TAIL, start).decode(errors="replace").splitlines()
        last = [line.rstrip() for line in lines if line.strip()][-LINES:]
        return "\n".join(["", "It wrote:", *last]) if last else ""


def _ourselves() -> "mcp_types.Implementation":
    from mcp_types import Implementation

    from .. import __version__

    return Implementation(name="gemma4", version=__version__)


def _has_ended(error: BaseException) -> bool:
    from mcp_types import CONNECTION_CLOSED

    return getattr(error, "code", None) == CONNECTION_CLOSED


def said(error: BaseException, status: Status) -> str:
    """An error of the client's, in one line and without a full stop."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if status.refused in KEYLESS:
        return f"it wants a key (HTTP {status.refused}): give it in its headers"
    if _has_ended(error):
        return "it has ended"
    text = " ".join((str(error) or type(error).__name__).split()).rstrip(".")
    return text if status.refused is None else f"HTTP {status.refused}, {text}"
