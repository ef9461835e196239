"""Which drafter belongs to a model, and where it is looked for."""

import json
import shutil
from pathlib import Path

import pytest
from holding import Shelf
from hub_server import Hub

from mlx_gemma4.checkpoint.folders import RECORD
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.hub.drafters import drafter_beside, drafters_of, origin
from mlx_gemma4.hub.here import drafters, held, names_here
from mlx_gemma4.hub.names import candidates
from mlx_gemma4.hub.offer import offer
from mlx_gemma4.hub.resolve import local_folder, resolve

E2B = "mlx-community/gemma-4-e2b-it-8bit"
DRAFTER = "google/gemma-4-E2B-it-assistant"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.make(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("repo", "names"),
    [
        (E2B, [DRAFTER]),
        ("google/gemma-4-E2B-it", [DRAFTER]),
        ("org/gemma-4-e2b-it-6bit", ["org/gemma-4-e2b-it-6bit-assistant", DRAFTER]),
        (
            "google/gemma-4-31B-it-qat-q4_0-unquantized",
            [
                "google/gemma-4-31B-it-qat-q4_0-unquantized-assistant",
                "google/gemma-4-31B-it-assistant",
            ],
        ),
        ("org/other", ["org/other-assistant"]),
        ("google/gemma-4-E2B", ["google/gemma-4-E2B-assistant"]),  # no copy of -it
    ],
)
def test_which_it_may_be(repo: str, names: list[str]) -> None:
    assert list(drafters_of(repo)) == names


def test_in_the_folder_and_beside_it(shelf: Shelf) -> None:
    assert drafter_beside(shelf.model) is None and origin(shelf.model) is None
    beside = shelf.drafter().rename(shelf.model.with_name("tiny-assistant"))
    assert drafter_beside(shelf.model) == beside
    inside = shutil.copytree(beside, shelf.model / "assistant")
    assert drafter_beside(shelf.model) == inside
    (inside / "config.json").unlink()  # not whole
    assert drafter_beside(shelf.model) == beside


def test_names_of_folders(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = shelf.drafter().rename(shelf.model.with_name("tiny-assistant"))
    monkeypatch.chdir(shelf.model)
    assert drafter_beside(Path()) == beside  # which has no name
    longest = shelf.model.rename(shelf.model.with_name("m" * 250))
    assert drafter_beside(longest) is None  # nothing can have its name and more


def test_in_the_cache(shelf: Shelf) -> None:
    model = shelf.fetched(E2B)
    assert origin(model) == E2B and drafter_beside(model) is None
    drafter = shelf.fetched(DRAFTER, source=shelf.drafter())
    assert drafter_beside(model) == drafter  # though it has no tokenizer
    made = shelf.converted(candidates("e2b:qat")[0])
    assert drafter_beside(made) is None  # it is not known what of
    source = "google/gemma-4-E2B-it-qat-q4_0-unquantized"
    (made / RECORD).write_text(json.dumps({"source": f"{source}@main"}))
    assert origin(made) == source and drafter_beside(made) == drafter
    (made / RECORD).write_text(json.dumps({"source": "../org/name"}))
    assert drafter_beside(made) is None
    (made / RECORD).write_text("{")
    assert drafter_beside(made) is None


def test_one_of_which_only_a_part_came(shelf: Shelf) -> None:
    model = shelf.fetched("google/gemma-4-E2B-it")
    shelf.fetched(DRAFTER, source=shelf.drafter(), lacks=("model.safetensors",))
    assert drafter_beside(model) is None and not drafters()


def test_drafters_are_no_models(shelf: Shelf) -> None:
    drafter = shelf.fetched(DRAFTER, source=shelf.drafter())
    assert [each.name for each in held()] == ["demo"] and DRAFTER not in names_here()
    (found,) = drafters()
    assert (found.name, found.folder, found.complete) == (DRAFTER, drafter, True)
    assert local_folder(DRAFTER) == resolve(DRAFTER, drafter=True) == drafter


def test_from_the_hub(hub: Hub, shelf: Shelf) -> None:
    hub.add(DRAFTER, shelf.drafter())
    with pytest.raises(CheckpointError, match="assistant: config.json is a drafter's"):
        offer(DRAFTER)
    found = offer(DRAFTER, drafter=True)
    size = (shelf.drafter() / "model.safetensors").stat().st_size
    assert 0 < size - found.memory < 10_000  # the header
    assert resolve(DRAFTER, drafter=True) == local_folder(DRAFTER)
    hub.add("org/model", shelf.model)
    with pytest.raises(CheckpointError, match="a drafter's is 'gemma4_ass"):
        resolve("org/model", drafter=True)
