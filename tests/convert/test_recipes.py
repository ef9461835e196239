"""Recipes, overrides and the mixed recipe."""

from pathlib import Path

import jobs
import pytest
from planned import by_path, full_size

from mlx_gemma4.checkpoint.packing import Packing
from mlx_gemma4.convert.classes import TensorClass
from mlx_gemma4.convert.recipes import (
    NAMES,
    RECIPES,
    TINY,
    RecipeError,
    fitted,
    override,
    recipe_of,
)
from mlx_gemma4.convert.survey import Wishes

LAYER = "language_model.model.layers.0"


FINE = (TensorClass.EMBEDDING, TensorClass.PLE_PROJECTION, TensorClass.ROUTER)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("model", ["E4B", "26B-A4B"])
def test_protected_classes(recipe: str, model: str) -> None:
    """Norms and towers are kept whatever the recipe; few weights have many bits, but
    where each of them counts."""
    least = 4 if recipe == TINY else 6
    for line in full_size(model, recipe).table:
        if line.kind in (TensorClass.NORM, TensorClass.VISION, TensorClass.AUDIO):
            assert line.packing is None
        if line.kind in FINE and line.packing:
            assert line.packing.bits >= least
            assert line.packing.mode == "affine"


def test_default() -> None:
    packings = {line.kind: line.packing for line in full_size("E2B").table}
    assert packings[TensorClass.EMBEDDING] == Packing(6, 128, "affine")
    assert packings[TensorClass.MLP] == Packing(4, 128, "affine")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["2bit", "3bit"])
def test_few_bits_are_warned_of(recipe: str) -> None:
    (warning,) = full_size("E2B", recipe).warnings
    assert "lose much" in warning


def test_unknown_recipe() -> None:
    with pytest.raises(RecipeError, match="mixed"):
        recipe_of("5bit")
    assert "4bit" in NAMES


@pytest.mark.parametrize(
    ("text", "packing"),
    [
        ("*.mlp.*=6:32", Packing(6, 32, "affine")),
        ("q_proj=5", Packing(5, 64, "affine")),
        ("experts.*=mxfp4", Packing(4, 32, "mxfp4")),
        ("v_proj=keep", None),
        ("a=b=8:128", Packing(8, 128, "affine")),
    ],
)
def test_override(text: str, packing: Packing | None) -> None:
    assert override(text).packing == packing


@pytest.mark.parametrize(
    "text", ["mlp", "=4:64", "mlp=", "mlp=7:64", "mlp=4:48", "mlp=x"]
)
def test_bad_override(text: str) -> None:
    with pytest.raises(RecipeError):
        override(text)


def test_overrides_apply_in_turn(tmp_path: Path) -> None:
    jobs.source(tmp_path)
    modules = by_path(
        jobs.plan(
            tmp_path,
            "4bit",
            "mlp.*=8:64",
            "layers.0.mlp.down_proj=keep",
            "router.*=6:32",
        )
    )
    assert modules[f"{LAYER}.mlp.up_proj"].packing == Packing(8, 64, "affine")
    assert modules[f"{LAYER}.mlp.down_proj.weight"].packing is None
    assert modules[f"{LAYER}.router.proj"].packing == Packing(6, 32, "affine")


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["nothing", "*norm*", "vision_tower.*"])
def test_override_that_matches_nothing(pattern: str, tmp_path: Path) -> None:
    jobs.source(tmp_path)
    with pytest.raises(RecipeError, match="matches no weight"):
        jobs.plan(tmp_path, "4bit", f"{pattern}=4:64")


@pytest.mark.parametrize(
    ("inputs", "packing", "found"),
    [
        (96, Packing(4, 64, "affine"), Packing(4, 32, "affine")),
        (704, Packing(4, 128, "affine"), Packing(4, 64, "affine")),
        (48, Packing(4, 64, "affine"), None),
        (48, Packing(4, 16, "nvfp4"), Packing(4, 16, "nvfp4")),
        (16, Packing(8, 32, "mxfp8"), None),
    ],
)
def test_fitted(inputs: int, packing: Packing, found: Packing | None) -> None:
    result, note = fitted(packing, inputs)
    assert result == found
    assert (note is None) == (result == packing)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 1.2, 1.5])
def test_mixed_keeps_to_its_size(share: float, tmp_path: Path) -> None:
    jobs.source(tmp_path)
    target = round(share * jobs.plan(tmp_path).out_bytes)
    plan = jobs.plan(tmp_path, "mixed", target=target)
    assert 0.97 * target < plan.out_bytes <= target


def test_mixed_gives_the_head_more_than_the_experts(tmp_path: Path) -> None:
    jobs.source(tmp_path)
    size = jobs.plan(tmp_path).out_bytes
    modules = by_path(jobs.plan(tmp_path, "mixed", target=size))
    head = modules["language_model.model.embed_tokens"].packing
    experts = modules[f"{LAYER}.experts.switch_glu.up_proj"].packing
    assert head and experts and head.bits > experts.bits


@pytest.mark.parametrize(
    ("recipe", "target", "words"),
    [
        ("mixed", None, "--target-gb"),
        ("mixed", 1000, "smallest"),
        ("mixed", 10**9, "fits in 1.00 GB as is: no mix is needed"),
        ("4bit", 10**6, "belongs to"),
    ],
)
def test_sizes_that_cannot_be(
    recipe: str, target: int | None, words: str, tmp_path: Path
) -> None:
    jobs.source(tmp_path)
    with pytest.raises(RecipeError, match=words):
        jobs.plan(tmp_path, recipe, target=target)


def test_wishes_default() -> None:
    assert Wishes().recipe == "4bit"
