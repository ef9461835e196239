"""`gemma4 convert --assistant`: a model and its drafter by one command."""

import json
from pathlib import Path

import jobs
import pytest
import tiny_assistants
from in_process import Command

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.hub.drafters import drafter_beside

OUT = "made"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return jobs.source(tmp_path / "model")


@pytest.fixture
def drafter(model: Path) -> Path:
    config = json.loads((model / "config.json").read_text())
    own = tiny_assistants.config_dict(config, ordered=False)
    return tiny_assistants.write(model.parent / "drafter", own, seed=0)


@pytest.fixture
def gemma4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(monkeypatch, capsys)


@pytest.mark.slow
def test_both(model: Path, drafter: Path, gemma4: Command) -> None:
    ask = ("convert", model, OUT, "--assistant", drafter)
    assert gemma4(*ask, "--dry-run") == 0
    assert f"{model}: " in gemma4.out and f"{drafter}: " in gemma4.out
    assert "drafter's projection" in gemma4.out and not Path(OUT).exists()
    assert gemma4(*ask, "--recipe", "3bit") == 0
    assert f"{OUT}: " in gemma4.out and f"{OUT}/assistant: " in gemma4.out
    beside = Path(OUT) / "assistant"
    assert drafter_beside(Path(OUT)) == beside
    record = json.loads((beside / "conversion.json").read_text())
    assert record["recipe"] == "4bit"
    load_model(Path(OUT))  # whose files a folder more does not disturb
    assert gemma4("convert", "--check", OUT) == 0
    assert gemma4("convert", "--check", beside) == 0
    assert gemma4(*ask, "--recipe", "3bit", "--json") == 0
    results = [json.loads(line) for line in gemma4.out.splitlines()]
    assert [each.get("complete_before") for each in results] == [None, None, True, True]
    assert gemma4("convert", "--check", beside, "--source-for-check", "demo") == 2
    assert "is a drafter, which has no predictions" in gemma4.err


def test_one_of_another_model(drafter: Path, gemma4: Command) -> None:
    assert gemma4("convert", "demo", OUT, "--assistant", drafter) == 3
    assert "was not made for demo: " in gemma4.err
    assert not list(Path().glob(f"{OUT}*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("demo", "--dry-run"), "--assistant needs a folder to make"),
        (("demo", OUT, "--upload", "org/name"), "--assistant needs a folder to make"),
        (("--check", "demo"), "--check takes no other source, target or option"),
    ],
)
def test_what_makes_no_sense(
    words: tuple[str, ...], told: str, model: Path, gemma4: Command
) -> None:
    assert gemma4("convert", *words, "--assistant", "x") == 2
    assert told in gemma4.err
