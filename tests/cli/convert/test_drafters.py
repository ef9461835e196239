"""`gemma4 convert --assistant`: a model and its drafter by one command."""

import json
import sys
from pathlib import Path

import jobs
import pytest
import tiny_assistants

from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.cli.app import run as run_here
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


def gemma4(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["gemma4", *map(str, words)])
    return run_here(as_json="--json" in words)


@pytest.mark.slow
def test_both(
    model: Path,
    drafter: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask = ("convert", model, OUT, "--assistant", drafter)
    assert gemma4(monkeypatch, *ask, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert f"{model}: " in shown and f"{drafter}: " in shown
    assert "drafter's projection" in shown and not Path(OUT).exists()
    assert gemma4(monkeypatch, *ask, "--recipe", "3bit") == 0
    made = capsys.readouterr().out
    assert f"{OUT}: " in made and f"{OUT}/assistant: " in made
    beside = drafter_beside(Path(OUT))
    assert beside == Path(OUT) / "assistant"
    record = json.loads((beside / "conversion.json").read_text())
    assert record["recipe"] == "4bit"
    load_model(Path(OUT))  # whose files a folder more does not disturb
    assert gemma4(monkeypatch, "convert", "--check", OUT) == 0
    assert gemma4(monkeypatch, "convert", "--check", beside) == 0
    again = (*ask, "--recipe", "3bit", "--json")
    capsys.readouterr()
    assert gemma4(monkeypatch, *again) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.get("complete_before") for each in results] == [None, None, True, True]
    assert (
        gemma4(monkeypatch, "convert", "--check", beside, "--source-for-check", "demo")
        == 2
    )
    assert "is a drafter, which has no predictions" in capsys.readouterr().err


def test_one_of_another_model(
    drafter: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gemma4(monkeypatch, "convert", "demo", OUT, "--assistant", drafter) == 3
    assert "was not made for demo: " in capsys.readouterr().err
    assert not list(Path().glob(f"{OUT}*"))


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--assistant", "x", "--dry-run"),
        ("demo", OUT, "--assistant", "x", "--upload", "org/name"),
        ("--check", "demo", "--assistant", "x"),
    ],
)
def test_what_makes_no_sense(
    words: tuple[str, ...],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gemma4(monkeypatch, "convert", *words) == 2
    assert capsys.readouterr().err
