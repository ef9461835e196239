"""`gemma4 convert --dry-run` of a source at the Hub: no more than headers are read."""

import pytest
from hub_server import Hub
from in_process import Command
from places import DEMO

ASK = ("convert", "org/tiny", "--dry-run", "--target-gb", "0.0069")


@pytest.fixture
def gemma4(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    hub.add("org/tiny", DEMO)
    return Command(monkeypatch, capsys)


@pytest.mark.slow
def test_it_is_not_measured(hub: Hub, gemma4: Command) -> None:
    plan = gemma4.json(*ASK)["plan"]
    assert 0.97 * 6.9e6 < plan["bytes"] <= 6.9e6
    assert "What it loses is not known" in gemma4.err
    assert hub.sent["model.safetensors"] < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("out", [[], ["out"]])
def test_text_that_is_not_there_is_told(out: list[str], gemma4: Command) -> None:
    assert gemma4(*ASK, *out, "--data", "missing.txt") == 5
    assert "missing.txt cannot be read" in gemma4.err
