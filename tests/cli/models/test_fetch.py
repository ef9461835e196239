"""Fetching for a command: what is said, who is asked, and what Ctrl-C leaves."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from command import GREEDY, QUESTION, Runner, Terminal
from hub_client import demo
from hub_server import Hub
from places import DEMO

from mlx_gemma4.cli.models.fetch import fetch
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError
from mlx_gemma4.hub.resolve import local_folder

WEIGHTS = "model.safetensors"
SIZES = {name: len(data) for name, data in demo(README__md=None).items()}
HALF = SIZES[WEIGHTS] // 2


def test_nobody_to_ask(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add("org/demo", demo())
    with pytest.raises(ModelNotFoundError, match=r"10.4 MB are to be fetched: add --y"):
        fetch("org/demo", Screen(), yes=False)
    assert local_folder("org/demo") is None
    assert capsys.readouterr() == ("", "")


def test_yes_without_a_question(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/demo", demo(), license="gemma")
    monkeypatch.setattr(typer, "confirm", None)
    folder = fetch("org/demo", Screen(), yes=True)
    assert folder == local_folder("org/demo")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert not out and lines[0] == "org/demo is on the Hub:"
    assert lines[1].split() == ["to", "fetch", "10.4", "MB"]
    assert lines[2].split() == ["weights", "not", "quantised"]
    assert lines[5].split() == ["licence", "gemma"]
    assert lines[-1].startswith("Fetching [####") and " MB of 10.4 MB · " in lines[-1]
    asked = len(hub.requests)
    assert fetch("org/demo", Screen(), yes=False) == folder
    assert len(hub.requests) == asked and capsys.readouterr() == ("", "")


def test_a_question(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/demo", demo())
    monkeypatch.setattr("mlx_gemma4.cli.models.fetch.can_ask", lambda _: True)
    answers = [False, True]
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answers.pop(0))
    with pytest.raises(ModelNotFoundError, match="nothing was fetched"):
        fetch("org/demo", Screen(), yes=False)
    assert "  memory    20.8 MB of " in capsys.readouterr().err
    assert local_folder("org/demo") is None
    assert fetch("org/demo", Screen(), yes=False) == local_folder("org/demo")


def test_what_cannot_chat(hub: Hub) -> None:
    hub.add("org/base", demo(chat_template__jinja=None))
    with pytest.raises(CheckpointError, match="org/base has no chat template"):
        fetch("org/base", Screen(), yes=True)
    assert fetch("org/base", Screen(), yes=True, to_chat=False).is_dir()


@pytest.fixture
def asking(hub: Hub, gemma4: Runner, tmp_path: Path) -> Hub:
    """The Hub that the command asks."""
    hub.add("org/demo", DEMO)
    gemma4.environ |= hub.environ(tmp_path / "huggingface")
    return hub


ASK = ("chat", *GREEDY, "-m", "org/demo", QUESTION)


@pytest.mark.slow
def test_a_command_off_a_terminal(asking: Hub, gemma4: Runner) -> None:
    done = gemma4(*ASK)
    assert (done.returncode, done.stdout) == (3, "")
    assert "org/demo is not here, and 10.4 MB are to be fetched" in done.stderr
    assert asking.sent[WEIGHTS] < 10**5  # its header


def received(tmp_path: Path) -> int:
    """The bytes of the weights that have come so far."""
    blobs = (tmp_path / "huggingface").glob("hub/models--org--demo/blobs/*incomplete")
    return max((blob.stat().st_size for blob in blobs), default=0)


def stalled(hub: Hub, tmp_path: Path) -> None:
    hub.stalled.wait()
    while received(tmp_path) < HALF:
        time.sleep(0.01)


@pytest.mark.slow
def test_ctrl_c_and_on(
    asking: Hub, gemma4: Runner, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """One ends it, though the connection gives nothing; then all comes once."""
    asking.stall[WEIGHTS] = HALF
    screen = terminal(*ASK)
    screen.wait_for(r"to fetch  10\.4 MB[\s\S]*Fetch it\? \[Y/n\]: ")
    screen.type("\n")
    stalled(asking, tmp_path)
    screen.wait_for("Fetching")
    screen.process.send_signal(signal.SIGINT)
    assert screen.finish() == 130
    assert "What has come is kept: run the same command again to go on." in screen.text
    assert received(tmp_path) == HALF
    asking.stall.clear()
    screen = terminal(*ASK, "-y")
    assert screen.finish() == 0 and "Paris" in screen.text
    storage = [asked.range for asked in asking.requests if "/storage/" in asked.path]
    assert storage[-1] == f"bytes={HALF}-{SIZES[WEIGHTS] - 1}"
    asking.server_close()  # from now on nobody answers
    assert "Paris" in gemma4(*ASK).stdout


@pytest.mark.slow
def test_killed_and_on(asking: Hub, gemma4: Runner, tmp_path: Path) -> None:
    asking.stall[WEIGHTS] = HALF
    process = gemma4.start(*ASK, "--yes")
    stalled(asking, tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    asking.stall.clear()
    assert "Paris" in gemma4(*ASK, "--yes").stdout
    assert asking.sent[WEIGHTS] == SIZES[WEIGHTS]
