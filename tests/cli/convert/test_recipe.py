"""Which recipe is meant."""

import pytest

from mlx_gemma4.cli.convert.command import read_wishes


@pytest.mark.parametrize(
    ("recipe", "target_gb", "meant"),
    [
        (None, None, "4bit"),
        (None, 3.0, "mixed"),
        ("4bit", None, "4bit"),
        ("4bit", 3.0, "4bit"),  # which is refused, as 8bit is
    ],
)
def test_what_is_stated_holds(recipe: str, target_gb: float, meant: str):
    assert read_wishes(recipe, [], target_gb).recipe == meant
