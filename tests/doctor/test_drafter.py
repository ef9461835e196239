"""What doctor says of a model's drafter: never that the model does not work."""

import json
import shutil
from pathlib import Path

import pytest
from holding import Shelf

from mlx_gemma4.checkpoint.folders import RECORD
from mlx_gemma4.config import Config
from mlx_gemma4.doctor.drafter import DrafterFacts, examine_drafter
from mlx_gemma4.doctor.findings import Findings, Level
from mlx_gemma4.doctor.headers import examine
from mlx_gemma4.doctor.summary import Memory


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.make(tmp_path, monkeypatch)


def examined(
    shelf: Shelf, limit: int = 10**9
) -> tuple[DrafterFacts | None, Level, str]:
    say, config = Findings(), Config.from_file(shelf.model / "config.json")
    memory = Memory("float32", 10**6, 0, 0, limit)
    facts = examine_drafter("tiny", shelf.model, config, memory, say)
    (found,) = say.all
    assert found.about == "drafter"
    return facts, found.level, found.text


def test_one_that_is_given_as_the_model(shelf: Shelf) -> None:
    """It lacks nothing: that it has no tokenizer is no problem of its own."""
    say = Findings()
    examine(shelf.drafter(), say)
    (told,) = [each for each in say.all if each.level is Level.PROBLEM]
    assert told.about == "config" and "give its model with --model" in told.text


def test_none(shelf: Shelf) -> None:
    say = Findings()
    assert examine_drafter("tiny", shelf.model, None, None, say) is None and not say.all
    record = {"source": "google/gemma-4-E2B"}  # none was published for it
    (shelf.model / RECORD).write_text(json.dumps(record))
    assert examine_drafter("tiny", shelf.model, None, None, say) is None and not say.all
    record = {"source": "google/gemma-4-E2B-it"}
    (shelf.model / RECORD).write_text(json.dumps(record))
    facts, level, text = examined(shelf)
    assert facts is None and level is Level.OK
    assert "google/gemma-4-E2B-it-assistant would make answers faster" in text
    assert "`gemma4 pull tiny --draft` gets it" in text


def test_one_that_fits(shelf: Shelf) -> None:
    place = shutil.copytree(shelf.drafter(), shelf.model / "assistant")
    facts, level, text = examined(shelf)
    assert facts is not None and facts.folder == place and facts.weights
    assert level is Level.OK and text.startswith("It fits the model, and takes 0.30 MB")
    facts, level, text = examined(shelf, limit=10**6 + facts.weights - 1)
    assert level is Level.WARNING and "it is left out" in text


def test_one_of_another_model(shelf: Shelf) -> None:
    place = shelf.drafter(head_dim=8).rename(shelf.model.with_name("tiny-assistant"))
    facts, level, text = examined(shelf)
    assert facts == DrafterFacts(place) and level is Level.WARNING
    assert "was not made for" in text


def test_one_that_is_damaged(shelf: Shelf) -> None:
    place = shelf.drafter().rename(shelf.model.with_name("tiny-assistant"))
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    facts, level, text = examined(shelf)
    assert facts == DrafterFacts(place) and level is Level.WARNING
    assert "is truncated" in text
