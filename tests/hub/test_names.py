"""Short names: what they stand for, and what a mistyped one is taken for."""

import pytest

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.convert.recipes import recipe_of
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.names import (
    best_variant,
    candidates,
    meant,
    models,
    original,
    short_names,
    suggested,
)
from mlx_gemma4.hub.resolve import HUB_ID

GIB = 2**30


def test_the_table() -> None:
    assert list(models()) == ["e2b", "e4b", "12b", "26b", "31b"]
    for model in models().values():
        tags = [variant.name for variant in model.variants]
        assert tags == [
            f"{model.name}:{tag}" for tag in ("8bit", "qat", "4bit", "bf16")
        ]
        for variant in model.variants:
            assert HUB_ID.fullmatch(variant.repo) and variant.needs > variant.kept > 1e9
            if variant.recipe is None:
                assert variant.fetched >= variant.kept
            else:
                recipe_of(variant.recipe)
                assert variant.fetched > 2 * variant.kept
    repos = [v.repo for model in models().values() for v in model.variants]
    assert len(set(repos)) == len(repos)


@pytest.mark.parametrize(
    ("memory", "names"),
    [  # what the system lends a model: two thirds of the memory, or three quarters
        (8 * GIB * 2 // 3, ["e2b:8bit"]),  # with its table on disk
        (16 * GIB * 2 // 3, ["e4b:8bit", "e2b:8bit"]),
        (24 * GIB * 2 // 3, ["12b:8bit", "e4b:8bit", "e2b:8bit"]),
        (32 * GIB * 2 // 3, ["26b:qat", "12b:8bit", "e4b:8bit", "e2b:8bit"]),
        (48 * GIB * 3 // 4, ["26b:8bit", "12b:8bit", "e4b:8bit", "e2b:8bit"]),
    ],
)
def test_what_a_machine_can_run(memory: int, names: list[str]) -> None:
    best = [model.best_in(memory) for model in suggested()]
    assert [each.name for each in best if each.fits(memory)] == names


def test_what_is_converted() -> None:
    """The weights as they were made, and never what was quantised before."""
    assert original("e2b") == original("e2b:bf16") == "google/gemma-4-E2B-it"
    assert original("26b:qat").endswith("-it-qat-q4_0-unquantized")
    assert original("org/name") == "org/name" and original("demo") == "demo"


def test_a_bare_name_is_the_best_that_fits() -> None:
    for memory, name in ((10**11, "e4b:8bit"), (7 * 10**9, "e4b:qat"), (1, "e4b:qat")):
        found = best_variant("e4b", memory)
        assert found and found.name == name
    for ple, name in ((Ple.AUTO, "e4b:8bit"), (Ple.MEMORY, "e4b:qat")):
        found = best_variant("e4b", 8 * 10**9, ple)
        assert found and found.name == name
        assert found.least(ple) == found.kept - (ple is Ple.AUTO) * found.table
    assert [each.name for each in candidates("e2b")] == ["e2b:8bit", "e2b:qat"]
    found = best_variant("e2b:4bit", 1)
    assert found and found.warning and "e2b:qat" in found.warning
    assert best_variant("org/name", 10**11) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("e2b:5bit", "e2b:8bit, e2b:qat, e2b:4bit, e2b:bf16"),
        ("e2b:", "There is no e2b:"),
    ],
)
def test_names_that_there_are_not(name: str, words: str) -> None:
    with pytest.raises(ModelNotFoundError, match=words):
        candidates(name)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("gemma-4-E2B-it", "e2b"),
        ("gemma4:e2b", "e2b"),
        ("E4B", "e4b"),
        ("e4b_qat", "e4b:qat"),
        ("gemma4-26b-4-bit", "26b:4bit"),
        ("Demo", "demo"),
        ("demoo", "demo"),
        ("my/modle", "my/model"),
        ("llama", None),
    ],
)
def test_what_is_meant(typed: str, name: str | None) -> None:
    assert meant(typed, ["my/model"]) == name


def test_all_names() -> None:
    assert {"e2b", "12b:qat", "31b:bf16"} < set(short_names())
