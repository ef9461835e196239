"""What MCP servers offer and answer, with servers in this process."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra: pip install .[mcp]")

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    BlobResourceContents,
    EmbeddedResource,
    ResourceLink,
    TextResourceContents,
    ToolAnnotations,
)

from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.errors import ChatError
from mlx_gemma4.tools import connection
from mlx_gemma4.tools.result import Result
from mlx_gemma4.tools.server import Server
from mlx_gemma4.tools.servers import Servers
from mlx_gemma4.tools.toolbox import Toolbox

HERE = (sys.executable,)  # a program that is there


def clock() -> MCPServer:
    server = MCPServer("clock")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def get_time(city: str, style: str = "short") -> str:
        """Get the time in a city."""
        return f"12:00 in {city}, {style}"

    @server.tool(name="set the/clock")
    def set_clock(minutes: int) -> dict[str, int]:
        """Set it."""
        if minutes > 60:
            raise ToolError("too late")
        return {"minutes": minutes}

    @server.tool()
    async def wait(seconds: float, steps: int, ctx: Context[Any, Any]) -> str:
        """Wait."""
        import anyio

        for step in range(steps):
            await anyio.sleep(seconds)
            await ctx.report_progress(step + 1, steps)
        await anyio.sleep(seconds)
        return "done"

    @server.tool(structured_output=False)
    def show() -> list[Any]:
        """Everything but text."""
        blob = base64.b64encode(b"123456").decode()
        return [
            Image(data=b"picture", format="png"),
            EmbeddedResource(
                type="resource",
                resource=BlobResourceContents(
                    uri="file:///a.zip", mime_type="application/zip", blob=blob
                ),
            ),
            EmbeddedResource(
                type="resource",
                resource=TextResourceContents(uri="file:///a.txt", text="<b>"),
            ),
            ResourceLink(
                type="resource_link", uri="db://7", name="seven", description="the 7th"
            ),
        ]

    return server


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The servers of this process, by the name they are started by."""
    found: dict[str, Any] = {"clock": clock(), "other": clock()}

    def transport(server: Server, *files: object) -> Any:
        return found[server.name]

    monkeypatch.setattr(connection, "transport_of", transport)
    return found


@pytest.fixture(scope="module")
def module_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def box(module_patch: pytest.MonkeyPatch) -> Iterator[Toolbox]:
    """The tools of one server, which runs for all tests of this file."""
    module_patch.setattr(connection, "transport_of", lambda *of: clock())
    with Servers([Server("clock", HERE)]) as servers:
        yield Toolbox(servers.tools)


def run(box: Toolbox, name: str, **arguments: Any) -> Result:
    return box.run(ToolCall(name, arguments))


def test_what_is_offered(box: Toolbox) -> None:
    first = box.tools["get_time"]
    assert (first.source, first.read_only, first.trusted) == ("clock", True, False)
    function = first.declaration["function"]
    assert function["description"] == "Get the time in a city."
    assert function["parameters"]["properties"] == {
        "city": {"type": "string"},
        "style": {"type": "string", "description": '(default "short")'},
    }
    assert list(box.tools) == ["get_time", "set_the/clock", "wait", "show"]
    assert box.tools["wait"].read_only is None


def test_what_is_answered(box: Toolbox) -> None:
    assert run(box, "get_time", city="Rome") == Result("12:00 in Rome, short", media=[])
    structured = run(box, "set_the/clock", minutes="3")  # near enough
    assert json.loads(structured.text) == {"minutes": 3}


def test_what_goes_wrong_is_told(box: Toolbox) -> None:
    late = run(box, "set_the/clock", minutes=99)
    assert late.is_error and "too late" in late.text
    assert "city is missing" in run(box, "get_time").text


def test_what_is_no_text(box: Toolbox) -> None:
    result = run(box, "show")
    data = base64.b64encode(b"picture").decode()
    assert result.media == [{"type": "image", "image": f"data:image/png;base64,{data}"}]
    assert result.text == (
        "(file:///a.zip: application/zip, 6 bytes that cannot be shown.)\n"
        "file:///a.txt:\n<b>\n(db://7: seven, the 7th)"
    )


def test_a_silent_call_ends() -> None:
    with Servers([Server("clock", HERE, timeout=0.2)]) as servers:
        silent = run(Toolbox(servers.tools), "wait", seconds=600, steps=0)
    assert silent == Result("Error: no answer from clock within 0.2 s.", True)


def test_what_a_server_says_while_it_works() -> None:
    heard: list[str] = []
    with Servers([Server("clock", HERE)], progress=heard.append) as servers:
        assert run(Toolbox(servers.tools), "wait", seconds=0, steps=2).text == "done"
    assert heard == ["clock: 1 of 2", "clock: 2 of 2"]


@pytest.mark.slow
def test_a_call_that_speaks_goes_on() -> None:
    with Servers([Server("clock", HERE, timeout=3)]) as servers:
        result = run(Toolbox(servers.tools), "wait", seconds=0.5, steps=7)
    assert result.text == "done"


def test_a_client_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a server that was never started."""
    monkeypatch.delattr("mcp.Client")
    with (
        Servers([Server("clock", HERE, timeout=5)]) as servers,
        pytest.raises(ChatError, match="does not start: cannot import name"),
    ):
        servers._connections[0].listed.result(5)


def test_names_that_clash() -> None:
    servers = [
        Server("clock", HERE, tools=("get_time", "wait")),
        Server("other", HERE, tools=("get_time",), trusted=True),
    ]
    with Servers(servers, taken={"wait"}) as started:
        tools = started.tools
    assert [(tool.name, tool.trusted) for tool in tools] == [
        ("clock_get_time", False),
        ("clock_wait", False),
        ("other_get_time", True),
    ]
    declared = [tool.declaration["function"]["name"] for tool in tools]
    assert declared == [tool.name for tool in tools]


def test_two_servers_of_one_name(inside: dict[str, Any]) -> None:
    inside["clock-2"] = clock()
    with Servers([Server("clock", HERE, tools=("show",))] * 2) as started:
        assert [tool.name for tool in started.tools] == ["clock_show", "clock-2_show"]


def test_names_that_become_the_same(inside: dict[str, Any]) -> None:
    server = inside["twins"] = MCPServer("twins")
    for name in ("a b", "a_b"):
        server.add_tool(lambda name=name: name, name=name, description="Say it.")
    with Servers([Server("twins", HERE)]) as started:
        box = Toolbox(started.tools)
        assert list(box.tools) == ["twins_a_b", "twins_a_b-2"]
        assert run(box, "twins_a_b-2").text == "a_b"


def test_a_tool_that_is_not_offered() -> None:
    with pytest.raises(ChatError, match="clock has no tool 'nap'. It has get_time, "):
        with Servers([Server("clock", HERE, tools=("wait", "nap"))]) as started:
            started.tools  # noqa: B018


def test_a_server_that_fails(inside: dict[str, Any]) -> None:
    """At its start, with what it is that failed; beside one that does not."""

    def failing(server: Server, stderr: Any, status: Any) -> Any:
        stderr.write("first\n\nlast words\n")
        stderr.flush()
        raise ConnectionError("nobody there")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "transport_of", failing)
        with Servers([Server("clock", HERE)]) as started:
            with pytest.raises(ChatError) as caught:
                started.tools  # noqa: B018
    assert str(caught.value) == (
        "The MCP server clock does not start: nobody there.\n"
        "It wrote:\nfirst\nlast words"
    )


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Server("x", ("no-such-program",)), "x: there is no program 'no-such-program'"),
        (Server("x", HERE, cwd=Path("nowhere")), "x has no folder"),
    ],
)
def test_what_is_missing_here(server: Server, said: str) -> None:
    with pytest.raises(ChatError, match=said), Servers([server]):
        pass


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_gemma4.tools import server

    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(server, "importlib", nothing)
    with (
        pytest.raises(ChatError, match="the package mcp"),
        Servers([Server("x")]),
    ):
        pass
