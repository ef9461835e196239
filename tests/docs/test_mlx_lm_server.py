"""mlx_lm.server with our model, started as docs/python.md shows it."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from pages import blocks
from places import ROOT

PAGE = ROOT / "docs" / "python.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGE.is_file(), reason="no page is beside the tests"),
]


@pytest.fixture
def port(tmp_path: Path, environ: dict[str, str]) -> Iterator[int]:
    """Of a server that listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    [code] = blocks(PAGE, "py")
    code = code.replace("8080", str(port))
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", code], env=environ, stdout=log, stderr=log
        )
    while not listens(port):
        assert server.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    yield port
    server.terminate()
    server.wait(60)


def test_it_answers_and_reads_only_what_is_new(port: int) -> None:
    messages = [{"role": "user", "content": "My name is Anna."}]
    first = ask(port, messages)
    messages += [first["choices"][0]["message"]]
    messages += [{"role": "user", "content": "What is my name?"}]
    second = ask(port, messages)
    assert second["choices"][0]["message"]["content"] == "Your name is Anna."
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 10


def ask(port: int, messages: list[dict[str, Any]]) -> dict[str, Any]:
    request = Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps({"messages": messages}).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request) as reply:
        return json.load(reply)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
