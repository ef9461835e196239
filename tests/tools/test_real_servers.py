"""Servers in processes of their own: over pipes and over HTTP, and their ends."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="needs the extra: pip install .[mcp]")

from mlx_gemma4 import Chat, load, run_tools
from mlx_gemma4.chat.calls import ToolCall
from mlx_gemma4.errors import ChatError
from mlx_gemma4.tools.result import Result
from mlx_gemma4.tools.server import Server
from mlx_gemma4.tools.servers import Servers
from mlx_gemma4.tools.toolbox import Toolbox

pytestmark = pytest.mark.slow

SOURCE = """
import os, sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("mortal")

@server.tool()
def number() -> int:
    return os.getpid()

@server.tool()
def group() -> int:
    return os.getpgid(0)

@server.tool()
def secrets() -> str:
    return " ".join(name for name in ("PATH", "GIVEN", "KEPT") if name in os.environ)

@server.tool()
async def wait() -> str:
    import anyio
    await anyio.sleep(600)

@server.tool()
def die() -> str:
    print("so it ends", file=sys.stderr, flush=True)
    os._exit(1)

if sys.argv[1:]:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    print("a banner, which is no message", flush=True)
    server.run("stdio")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mortal") / "server.py"
    path.write_text(SOURCE)
    return path


def run(box: Toolbox, name: str) -> Result:
    return box.run(ToolCall(name, {}))


def test_a_server_over_pipes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "from servers")
    server = Server("mortal", (sys.executable, str(file)), env={"GIVEN": "1"})
    with Servers([server]) as servers:
        box = Toolbox(servers.tools)
        first = run(box, "number").text
        assert run(box, "secrets").text == "PATH GIVEN"
        # The Ctrl-C of a terminal goes to a group of processes, which is not its own.
        assert int(run(box, "group").text) != os.getpgid(0)
        interrupt = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            run(box, "wait")
        assert run(box, "number").text == first
        died = run(box, "die")
        assert died.is_error and died.text.startswith("Error: mortal: it has ended.")
        assert died.text.endswith("so it ends")
        second = run(box, "number").text  # it was started again
        assert second != first
    for process in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def address(file: Path, port: int) -> Iterator[str]:
    command = [sys.executable, str(file), str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            while not listens(port):
                assert process.poll() is None
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_a_server_over_http(address: str) -> None:
    with Servers([Server("mortal", url=f"{address}/mcp")]) as servers:
        box = Toolbox(servers.tools)
        assert run(box, "number").text.isdigit()
        with pytest.raises(ChatError, match="does not start: HTTP 404, Not Found"):
            with Servers([Server("other", url=f"{address}/nothing")]) as others:
                others.tools  # noqa: B018
        died = run(box, "die")
        assert died.is_error and "it has ended" in died.text
        assert run(box, "number").is_error


def test_nobody_at_an_address(port: int) -> None:
    with pytest.raises(ChatError, match="attempts failed. See that it runs there"):
        with Servers([Server("x", url=f"http://127.0.0.1:{port}/mcp")]) as servers:
            servers.tools  # noqa: B018


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("cat", "Method not found"),
        ("true", "it has ended"),
        ("echo lost >&2; exit 3", "it has ended.\nIt wrote:\nlost"),
        ("echo no message; exec sleep 600", "it has not answered within 1 s"),
    ],
)
def test_a_command_that_is_no_server(command: str, said: str) -> None:
    server = Server("x", ("sh", "-c", command), timeout=1)
    with pytest.raises(ChatError) as caught, Servers([server]) as servers:
        servers.tools  # noqa: B018
    assert str(caught.value).startswith(f"The MCP server x does not start: {said}")


def test_the_server_of_time() -> None:
    pytest.importorskip("mcp_server_time", reason="needs the extra: .[dev]")
    command = (sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC")
    with Servers([Server("time", command)]) as servers:
        box = Toolbox(servers.tools)
        assert "get_current_time" in box.tools
        call = ToolCall("get_current_time", {"timezone": "Asia/Tokyo"})
        assert "+09:00" in box.run(call).text
        wrong = box.run(ToolCall("get_current_time", {"timezone": "Nowhere"}))
        assert wrong.is_error and "Nowhere" in wrong.text


def test_the_demo_asks_it(demo_folder: Path) -> None:
    """The time of a place, which only the server knows, becomes part of the chat."""
    pytest.importorskip("mcp_server_time", reason="needs the extra: .[dev]")
    pytest.importorskip("llguidance", reason="needs the extra: .[json]")
    chat = Chat(
        *load(demo_folder),
        temperature=0,
        strict_tools=True,
        tool_choice="get_current_time",
    )
    command = (sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC")
    with Servers([Server("time", command)]) as servers:
        (tool,) = [tool for tool in servers.tools if tool.name == "get_current_time"]
        zone = tool.declaration["function"]["parameters"]["properties"]["timezone"]
        zone["enum"] = ["Asia/Tokyo"]  # the demo model knows no others
        answer = run_tools(chat, "What time is it in Tokyo?", [tool])
    assert answer.finish_reason == "stop" and answer.text
    _, _, result, said = chat.messages
    assert "+09:00" in result["content"] and said["content"] == answer.text
