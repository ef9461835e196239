"""`gemma4 pull` by short names, of weights that are ready and of those to be made."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import hub_client
import pytest
from holding import Shelf
from hub_server import Hub, serving

from mlx_gemma4.cli.app import run as run_here
from mlx_gemma4.errors import DiskFullError

READY = "mlx-community/gemma-4-e2b-it-8bit"
ORIGINAL = "google/gemma-4-E2B-it-qat-q4_0-unquantized"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.make(tmp_path, monkeypatch)


@pytest.fixture
def hub(shelf: Shelf, whole: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as hub:
        hub_client.use(hub, shelf.cache, monkeypatch)
        for repo in (READY, ORIGINAL):
            hub.add(repo, whole)
        yield hub


def gemma4(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gemma4", *words])
    return run_here(as_json="--json" in words)


@pytest.mark.slow
def test_ready_weights(
    hub: Hub,
    whole: Path,
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gemma4(monkeypatch, "pull", "e2b:8bit") == 3
    assert "add --yes" in capsys.readouterr().err
    weights = whole / "model.safetensors"  # of which no more than the header came
    assert hub.sent[weights.name] < weights.stat().st_size / 2
    assert gemma4(monkeypatch, "pull", "e2b:8bit", "--yes", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "e2b:8bit"
    assert Path(found["folder"]).is_relative_to(shelf.cache)
    asked = len(hub.requests)
    assert gemma4(monkeypatch, "pull", "e2b") == 0
    out, err = capsys.readouterr()
    assert out == f"e2b:8bit is here: {found['folder']}\n"
    assert "gemma4 chat -m e2b:8bit" in err and len(hub.requests) == asked
    assert gemma4(monkeypatch, "rm", "e2b", "-y") == 0
    assert not any(shelf.cache.glob("models--*"))


@pytest.mark.slow
def test_weights_that_are_made_here(
    hub: Hub,
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gemma4(monkeypatch, "convert", "e2b:qat", "--dry-run") == 0
    assert ORIGINAL in capsys.readouterr().out
    assert gemma4(monkeypatch, "pull", "e2b:qat") == 3
    assert not list(shelf.model.parent.glob("data/gemma4/models/e2b-qat/*"))
    assert gemma4(monkeypatch, "pull", "e2b:qat", "--yes", "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Path(found["folder"]) == shelf.model.parent / "data/gemma4/models/e2b-qat"
    asked = len(hub.requests)
    assert gemma4(monkeypatch, "default", "e2b") == 0
    assert capsys.readouterr().out == "e2b:qat\n"
    assert gemma4(monkeypatch, "chat", "Hi", "--max-tokens", "1") == 0
    assert len(hub.requests) == asked
    assert gemma4(monkeypatch, "rm", "e2b", "-y") == 0
    assert not any((shelf.model.parent / "data/gemma4/models").iterdir())


@pytest.mark.slow
def test_stopped_when_all_was_read(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest goes by the same plan, where samples say other than the name."""

    def fail(*_: object) -> None:
        raise DiskFullError("full")

    with monkeypatch.context() as changed:
        changed.setattr("mlx_gemma4.convert.output.finish", fail)
        assert gemma4(monkeypatch, "pull", "e2b:qat", "--yes") == 4
    assert gemma4(monkeypatch, "pull", "e2b:qat", "--yes") == 0


def test_the_toy(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gemma4(monkeypatch, "pull") == 2 and gemma4(monkeypatch, "pull", "demo") == 0
    assert not hub.requests
