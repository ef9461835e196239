"""The drafter that a model is loaded with: found, named, left out and refused."""

import shutil
import sys
import warnings
from pathlib import Path

import mlx.core as mx
import pytest
from holding import Shelf
from mlx.utils import tree_flatten

import mlx_gemma4
from mlx_gemma4 import Gemma4
from mlx_gemma4.assistant.drafter import Drafter
from mlx_gemma4.checkpoint.load import DrafterWarning, give_drafter, load_model
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError

LOAD = "mlx_gemma4.checkpoint.load"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf.make(tmp_path, monkeypatch)


@pytest.fixture
def model(shelf: Shelf) -> Gemma4:
    return load_model(shelf.model)


def test_one_that_lies_with_the_model(shelf: Shelf) -> None:
    drafter = shutil.copytree(shelf.drafter(), shelf.model / "assistant")
    model, _ = mlx_gemma4.load(shelf.model)
    assert isinstance(model.drafter, Drafter) and model.drafter.folder == drafter
    names = [name for name, _ in tree_flatten(model.parameters())]
    assert not any("projection" in name for name in names if "per_layer" not in name)
    model, _ = mlx_gemma4.load(shelf.model, draft="off")
    assert model.drafter is None


def test_one_in_a_snapshot_of_the_hubs_cache(shelf: Shelf, model: Gemma4) -> None:
    """Its files are links to the same blobs as those of the model."""
    snapshot = shelf.fetched("org/with-its-drafter")
    blobs, inside = snapshot.parent.parent / "blobs", snapshot / "assistant"
    inside.mkdir()
    for file in shelf.drafter().iterdir():
        shutil.copy(file, blobs / f"drafter-{file.name}")
        (inside / file.name).symlink_to(f"../../../blobs/drafter-{file.name}")
    give_drafter(model, snapshot)
    assert isinstance(model.drafter, Drafter) and model.drafter.folder == inside
    weights = inside / "model.safetensors"
    weights.unlink()
    weights.symlink_to(shelf.drafter() / weights.name)
    with pytest.warns(DrafterWarning, match="leads out of"):
        give_drafter(model, snapshot)


def test_one_that_is_named(shelf: Shelf, model: Gemma4) -> None:
    give_drafter(model, shelf.model)
    assert model.drafter is None
    named, _ = mlx_gemma4.load(shelf.model, draft=shelf.drafter())
    assert named.drafter is not None and named.drafter.folder == shelf.drafter()
    give_drafter(model, shelf.model, shelf.drafter())
    assert isinstance(model.drafter, Drafter)
    dtype = model.language_model.norm.weight.dtype
    assert model.drafter.module.pre_projection.weight.dtype == dtype
    give_drafter(model, shelf.model, "off")
    assert model.drafter is None
    with pytest.raises(ModelNotFoundError):
        give_drafter(model, shelf.model, "nothing here")
    with pytest.raises(CheckpointError, match=r"drafter in .*/tiny: .* a drafter's is"):
        give_drafter(model, shelf.model, shelf.model)


def test_one_of_another_model(shelf: Shelf, model: Gemma4) -> None:
    wrong = shelf.drafter(head_dim=8)
    with pytest.raises(CheckpointError, match=r"drafter .* was not made for .*/tiny: "):
        give_drafter(model, shelf.model, wrong)
    wrong.rename(shelf.model.with_name("tiny-assistant"))
    with pytest.warns(DrafterWarning, match="without its drafter.*was not made for"):
        give_drafter(model, shelf.model)
    assert model.drafter is None


def test_one_that_is_damaged(shelf: Shelf, model: Gemma4) -> None:
    place = shelf.drafter().rename(shelf.model.with_name("tiny-assistant"))
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.warns(DrafterWarning, match="is truncated"):
        give_drafter(model, shelf.model)
    assert model.drafter is None
    arrays = mx.load(str(shelf.drafter() / "model.safetensors"))
    assert isinstance(arrays, dict)
    arrays["post_projection.weight"] *= mx.nan
    mx.save_safetensors(str(file), arrays)
    with pytest.warns(DrafterWarning, match=r"drafter in .*-assistant: NaN or inf"):
        give_drafter(model, shelf.model)
    assert model.drafter is None


def test_too_little_memory(
    shelf: Shelf, model: Gemma4, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    held = sum(array.nbytes for array in arrays.values())
    drafter = shutil.copytree(shelf.drafter(), shelf.model / "assistant")
    needed = (drafter / "model.safetensors").stat().st_size
    for limit, fits in ((held + needed, True), (held + needed // 2, False)):
        monkeypatch.setattr(
            sys.modules[LOAD], "memory_limit", lambda limit=limit: limit
        )
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            give_drafter(model, shelf.model)
        assert (model.drafter is not None) == fits and bool(said) != fits
    assert "beside the" in str(said[0].message)
    with pytest.raises(MemoryError, match="both may use at most"):
        give_drafter(model, shelf.model, drafter)
