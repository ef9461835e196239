"""Drafters in every recipe that they have, and what of them stays as it is."""

import json
from pathlib import Path
from typing import Any

import jobs
import mlx.core as mx
import numpy as np
import pytest
import real
import tiny
import tiny_assistants

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.checkpoint.load import load_assistant
from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.convert.check import verify
from mlx_gemma4.convert.classes import TensorClass
from mlx_gemma4.convert.drafters import recipe_beside
from mlx_gemma4.convert.errors import RecipeError
from mlx_gemma4.convert.survey import Wishes, make_plan
from mlx_gemma4.errors import CheckpointError

ORDER = "masked_embedding.token_ordering"
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}
# By how much the projection behind the layers may change what it is given, relative.
MOST = {"4bit": 0.05, "8bit": 0.02, "bf16": 0.01, "mxfp4": 0.2}
EIGHT = Packing(8, 64, "affine")


def write(folder: Path, variant: str = "E2B") -> Path:
    ordered = variant in tiny_assistants.ORDERED
    model = tiny.config_dict(variant)
    config = tiny_assistants.config_dict(model, ordered, **WIDE)
    return tiny_assistants.write(folder, config, seed=1)


@pytest.fixture
def drafter(tmp_path: Path) -> Path:
    return write(tmp_path / "drafter")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["4bit", "8bit", "bf16", "mxfp4"])
def test_recipes(drafter: Path, tmp_path: Path, recipe: str) -> None:
    out = tmp_path / "out"
    done = jobs.convert(drafter, out, recipe)
    before, after = jobs.tensors(drafter), jobs.tensors(out)
    assert after[ORDER].dtype == mx.int64 and mx.array_equal(
        after[ORDER], before[ORDER]
    )
    for name, array in before.items():  # what no recipe packs
        if "norm" in name or "scalar" in name:
            assert mx.array_equal(after[name], array.astype(mx.bfloat16))
    packings = {tensor.kind: tensor.packing for tensor in done.plan.tensors}
    assert packings[TensorClass.ORDER] is None
    if recipe in ("4bit", "8bit"):
        assert packings[TensorClass.CENTROIDS] == EIGHT
        assert all(
            tensor.packing
            for tensor in done.plan.tensors
            if tensor.inputs == 64 and len(tensor.shape) == 2
        )
    if recipe == "bf16":
        assert not any(packings.values())
    found = verify(out)
    assert found.files >= 3 and found.tensors == len(after)
    ours, theirs = load_assistant(out), load_assistant(drafter)
    state = mx.array(np.random.RandomState(0).randn(1, 1, 64).astype(np.float32))
    wanted, got = theirs.next_state(state), ours.next_state(state)
    error = np.linalg.norm(np.array(got - wanted)) / np.linalg.norm(np.array(wanted))
    assert error < MOST[recipe]


@pytest.mark.parametrize("variant", ["12B", "26B-A4B"])
def test_others_have_no_centroids(tmp_path: Path, variant: str) -> None:
    done = jobs.convert(write(tmp_path / "drafter", variant), tmp_path / "out")
    kinds = {tensor.kind for tensor in done.plan.tensors}
    assert TensorClass.PROJECTION in kinds
    assert not kinds & {TensorClass.CENTROIDS, TensorClass.ORDER}
    verify(tmp_path / "out")


@pytest.mark.parametrize(("recipe", "megabytes"), [("4bit", 61), ("bf16", 158)])
def test_the_real_one_of_e2b(recipe: str, megabytes: int) -> None:
    name = "google/gemma-4-E2B-it-assistant"
    sources = {
        key: StoredTensor(
            key, Path("x"), "I64" if key == ORDER else "BF16", tuple(shape)
        )
        for key, shape in real.read(name, "tensors.json").items()
    }
    plan = make_plan(sources, real.read(name), Wishes(recipe), name)
    assert plan.params / 1e6 == pytest.approx(78.4, rel=0.01) and not plan.dropped
    assert plan.out_bytes / 1e6 == pytest.approx(megabytes, rel=0.02)


def test_what_the_card_says(drafter: Path, tmp_path: Path) -> None:
    jobs.convert(drafter, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "proposes tokens" in card and "--draft FOLDER" in card
    assert "mlx_lm" not in card and "perplexity" not in card


def test_trained_for_four_bits(tmp_path: Path) -> None:
    """By its name; the samples decide, and these were not."""
    plan = jobs.plan(write(tmp_path / "drafter"), name="google/x-it-qat-q4_0-assistant")
    assert plan.qat and "do not lie on the Q4_0 grid" in " ".join(plan.warnings)


@pytest.mark.parametrize("recipe", ["3bit", "2bit", "mixed"])
def test_too_few_bits(drafter: Path, recipe: str) -> None:
    with pytest.raises(RecipeError, match=f"not converted by {recipe}, but by 4bit, "):
        jobs.plan(drafter, recipe)
    assert recipe_beside(recipe) == "4bit" and recipe_beside("8bit") == "8bit"


def test_damaged_ones(drafter: Path) -> None:
    file = drafter / "model.safetensors"
    tensors = jobs.tensors(drafter)
    tensors[ORDER] = tensors[ORDER].astype(mx.float32)
    mx.save_safetensors(str(file), tensors)
    with pytest.raises(CheckpointError, match=f"{ORDER} is of type F32"):
        jobs.plan(drafter)
    del tensors[ORDER]
    mx.save_safetensors(str(file), tensors)
    with pytest.raises(CheckpointError, match=f"missing {ORDER}"):
        jobs.plan(drafter)


def test_paths_of_projections_are_known(drafter: Path, tmp_path: Path) -> None:
    """config.json names each module of another packing, and no key is passed over."""
    jobs.convert(drafter, tmp_path / "out")  # warnings are errors
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["quantization"]["pre_projection"]["bits"] == 6
