"""The requests that the pages show are answered, with what is printed below them."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import PAGES, Shown, commands
from places import SHAPES
from serving import Served, demo, served

REQUESTS = [shown for shown in commands() if shown.command.startswith("curl ")]
ADDRESS = "http://127.0.0.1:8080"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGES, reason="no page is beside the tests"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(demo) as running:
        yield running


@pytest.mark.parametrize("shown", REQUESTS, ids=str)
def test_a_request(shown: Shown, server: Served, tmp_path: Path) -> None:
    """`| jq -r .key[0].key` takes one value."""
    shutil.copy(SHAPES.with_name("speech.wav"), tmp_path / "talk.m4a")
    asked, _, taken = shown.command.partition(" | jq -r .")
    assert ADDRESS in asked
    words = shlex.split(asked.replace(ADDRESS, server.server.url))
    done = subprocess.run(
        [*words, "--fail"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    printed = done.stdout
    if taken:
        value = json.loads(printed)
        for key in taken.replace("[", ".").replace("]", "").split("."):
            value = value[int(key) if key.isdigit() else key]
        printed = f"{value}\n"
    assert printed == shown.printed or not shown.printed
