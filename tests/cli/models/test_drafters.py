"""Drafters beside their models: `pull --draft`, `list`, `show` and `rm`."""

import json
from collections.abc import Iterator
from pathlib import Path

import hub_client
import pytest
from holding import Shelf
from hub_server import Hub, serving
from in_process import Command

READY = "mlx-community/gemma-4-e2b-it-8bit"
ORIGINAL = "google/gemma-4-E2B-it-qat-q4_0-unquantized"
DRAFTER = "google/gemma-4-E2B-it-assistant"


@pytest.fixture
def gemma4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.chdir(tmp_path)
    return Shelf.make(tmp_path, monkeypatch)


@pytest.fixture
def hub(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as hub:
        hub_client.use(hub, shelf.cache, monkeypatch)
        for repo in (READY, ORIGINAL):
            hub.add(repo, shelf.model)
        hub.add(DRAFTER, shelf.drafter())
        yield hub


@pytest.mark.slow
def test_pull_both(hub: Hub, shelf: Shelf, gemma4: Command) -> None:
    assert gemma4("pull", "e2b:8bit", "--draft") == 3 and not gemma4.out
    assert f"Its drafter is {DRAFTER}: 0.30 MB to fetch, beside the mo" in gemma4.err
    assert "add --yes" in gemma4.err
    found = gemma4.json("pull", "e2b:8bit", "--draft", "--yes")
    assert found["name"] == "e2b:8bit"
    assert f"{DRAFTER.replace('/', '--')}/snapshots" in found["drafter"]
    asked = len(hub.requests)
    assert gemma4("pull", "e2b", "--draft") == 0
    assert f"Its drafter is here: {found['drafter']}\n" in gemma4.out
    assert len(hub.requests) == asked
    assert gemma4("chat", "-m", DRAFTER, "Hi") == 3
    assert "give its model with --model, and this with --draft" in gemma4.err


def test_pull_the_drafter_of_a_model_that_is_here(
    hub: Hub, shelf: Shelf, gemma4: Command
) -> None:
    shelf.fetched(READY)
    assert gemma4("pull", "e2b", "--draft") == 3
    assert f"{DRAFTER} is not here, and 0.30 MB are to be fetched" in gemma4.err
    assert gemma4("pull", "e2b", "--draft", "-y") == 0
    assert f"{DRAFTER} is on the Hub:" in gemma4.err


def test_no_drafter_to_be_had(hub: Hub, shelf: Shelf, gemma4: Command) -> None:
    shelf.fetched("org/other")
    assert gemma4("pull", "org/other", "--draft", "-y") == 3
    assert "No drafter of org/other can be had. org/other-assistant" in gemma4.err
    assert gemma4("pull", str(shelf.model), "--draft", "-y") == 3
    assert "It is not known from which model" in gemma4.err


@pytest.mark.slow
def test_one_that_is_made_here(hub: Hub, shelf: Shelf, gemma4: Command) -> None:
    """As its model is; that of the original, where there is none of the weights."""
    found = gemma4.json("pull", "e2b:qat", "--draft", "--yes")
    assert found["drafter"] == f"{found['folder']}/assistant"
    record = json.loads((Path(found["drafter"]) / "conversion.json").read_text())
    assert (record["source"], record["recipe"]) == (DRAFTER, "4bit")
    shown = gemma4.json("show", "e2b:qat")
    assert shown["drafter"] == found["drafter"] and not shown["problems"]
    assert gemma4("rm", "e2b", "-y") == 0
    assert not any((shelf.model.parent / "data/gemma4/models").iterdir())


def test_list(shelf: Shelf, gemma4: Command) -> None:
    shelf.fetched(READY)
    folder = shelf.fetched(DRAFTER, source=shelf.drafter())
    assert gemma4("list") == 0
    lines = {line.split()[0]: line for line in gemma4.out.splitlines()}
    assert lines["e2b:8bit"].endswith("with a drafter")
    assert lines[DRAFTER].endswith("drafter of e2b:8bit")
    found = gemma4.json("list")
    assert found["models"][1]["drafter"] == str(folder)
    (listed,) = found["drafters"]
    assert listed["name"] == DRAFTER and listed["models"] == ["e2b:8bit"]
    assert 300_000 < listed["bytes"] < 320_000


@pytest.mark.slow
def test_show(shelf: Shelf, gemma4: Command) -> None:
    shelf.fetched(READY)
    assert gemma4.json("show", "e2b:8bit")["drafter"] is None
    folder = shelf.fetched(DRAFTER, source=shelf.drafter())
    assert gemma4.json("show", "e2b:8bit")["drafter"] == str(folder)
    assert gemma4("show", "e2b") == 0
    assert "drafter       0.30 MB of weights" in gemma4.out


def test_show_of_one_that_is_not_here(shelf: Shelf, gemma4: Command) -> None:
    assert gemma4("show", "31b:qat") == 0
    assert "939 MB more: gemma4 pull 31b:qat --draft" in gemma4.out
    assert gemma4.json("show", "31b:qat")["drafter_bytes"] == 939_000_000


def test_remove(shelf: Shelf, gemma4: Command) -> None:
    """A drafter goes with the last model that has it, or by its own name."""
    shelf.fetched(READY)
    shelf.fetched("mlx-community/gemma-4-e2b-it-4bit")
    shelf.fetched(DRAFTER, source=shelf.drafter())
    assert gemma4("rm", "e2b:4bit", "-y") == 0 and "drafter" not in gemma4.err
    assert gemma4("rm", "e2b:8bit") == 2  # nobody can be asked
    assert f"Its drafter {DRAFTER} takes 0.3" in gemma4.err
    assert gemma4.json("rm", "e2b:8bit", "-y")["bytes"] > shelf.nbytes + 300_000
    assert not any(shelf.cache.glob("models--*"))
    shelf.fetched(READY)
    shelf.fetched(DRAFTER, source=shelf.drafter())
    assert gemma4("rm", DRAFTER, "-y") == 0
    assert len(list(shelf.cache.glob("models--*"))) == 1


def test_a_drafter_is_no_model(shelf: Shelf, gemma4: Command) -> None:
    drafter = str(shelf.drafter())
    assert gemma4("default", drafter) == 2 and "name its model" in gemma4.err
    (problem,) = gemma4.json("show", drafter)["problems"]
    assert "give its model with --model, and this with --draft" in problem
