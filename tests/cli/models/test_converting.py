"""Models that are made here: offered, read from the Hub, stopped and gone on with."""

import signal
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from command import Runner, Terminal
from hub_server import Hub

from mlx_gemma4.cli.models.converting import fetch_converted
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.convert import ranges
from mlx_gemma4.convert.output import partial
from mlx_gemma4.errors import ModelNotFoundError

NAME = "org/tiny"
FILE = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return jobs.source(tmp_path / "source", "31B")


@pytest.fixture
def hub(hub: Hub, folder: Path) -> Hub:
    hub.add(NAME, folder)
    return hub


@pytest.fixture
def asking(hub: Hub, gemma4: Runner) -> Runner:
    """The command, which asks that Hub."""
    gemma4.environ |= hub.environ(gemma4.folder / "huggingface")
    return gemma4


def made(out: Path) -> dict[str, str]:
    """Digests of all but the record, which says where the source was."""
    digests = jobs.digests(out)
    del digests["conversion.json"]
    return digests


def locally(folder: Path, tmp_path: Path) -> dict[str, str]:
    """The same of what is made of a folder."""
    out = tmp_path / "local"
    jobs.convert(folder, out, "bf16", name=NAME, shard_bytes=10**9)
    return made(out)


@pytest.mark.slow
def test_it_is_offered_and_made_once(
    hub: Hub,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "models" / "mine"
    with pytest.raises(ModelNotFoundError, match="are to be fetched: add --yes."):
        fetch_converted(NAME, out, "bf16", Screen(), yes=False)
    assert not out.parent.exists() and hub.sent[FILE] < 20_000  # its header
    assert fetch_converted(NAME, out, "bf16", Screen(), yes=True) == out
    told = capsys.readouterr()
    assert not told.out
    for words in ("packed here while it comes", "to fetch  0.", "licence   apache-2.0"):
        assert words in told.err
    assert made(out) == locally(folder, tmp_path)
    asked = len(hub.requests)
    assert fetch_converted(NAME, out, "bf16", Screen(), yes=False) == out
    assert len(hub.requests) == asked


def test_what_is_too_large_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_gemma4.device.memory_limit", lambda: 1000)
    with pytest.raises(MemoryError, match="may use at most 0.00 MB here"):
        fetch_converted(NAME, tmp_path / "out", "bf16", Screen(), yes=True)
    assert hub.sent[FILE] < 20_000


@pytest.mark.slow
def test_convert_reads_from_the_hub(asking: Runner, hub: Hub) -> None:
    done = asking("convert", NAME, "out")
    assert done.returncode == 3 and "add --yes." in done.stderr
    assert "bits per weight" not in done.stdout and "all weights" in done.stdout
    done = asking("convert", NAME, "out", "--yes")
    assert done.returncode == 0, done.stderr
    assert "bits per weight" in done.stdout and "Converting [" in done.stderr
    assert "are kept" in done.stderr
    assert not list(asking.folder.rglob("snapshots/*/*.safetensors"))
    sent = hub.sent[FILE]
    again = asking("convert", NAME, "out")
    assert again.returncode == 0 and "complete already" in again.stdout
    assert hub.sent[FILE] < sent + 20_000
    assert asking("convert", "--check", "out").returncode == 0


@pytest.mark.slow
def test_ctrl_c_while_nothing_comes(
    asking: Runner, terminal: Callable[..., Terminal], hub: Hub
) -> None:
    hub.stall = {FILE: 300_000}
    screen = terminal("convert", NAME, "out")
    screen.wait_for(r"Fetch it\? \[Y/n\]")
    screen.type("\n")
    screen.wait_for("Converting")
    assert hub.stalled.wait(30)
    screen.process.send_signal(signal.SIGINT)
    assert screen.finish() == 130
    assert "run it again to go on" in screen.text
    assert not hub.resume.is_set()


@pytest.mark.slow
def test_killed_and_gone_on_with(
    asking: Runner, hub: Hub, folder: Path, tmp_path: Path
) -> None:
    hub.stall = {FILE: 500_000}
    process = asking.start("convert", NAME, "out", "--yes", "--recipe", "bf16")
    assert hub.stalled.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    out = asking.folder / "out"
    assert partial(out).is_dir() and not out.exists()
    hub.stall.clear()
    hub.resume.set()
    done = asking("convert", NAME, "out", "--yes", "--recipe", "bf16")
    assert done.returncode == 0, done.stderr
    assert made(out) == locally(folder, tmp_path)


def test_a_hub_that_goes_away(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ranges, "WAITS", (0.0,))
    whole = 10**9
    hub.cut = {FILE: [whole, whole, *[0] * 99]}  # the header comes
    out = tmp_path / "out"
    with pytest.raises(ModelNotFoundError, match="lost .* and did not come back"):
        fetch_converted(NAME, out, "bf16", Screen(), yes=True)
    *_, lost, kept = capsys.readouterr().err.splitlines()
    assert lost.startswith("The connection was lost (")
    assert kept == f"What is done is kept in {partial(out)}: run it again to go on."
