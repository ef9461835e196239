"""Conversions for the tests of what comes after: checking, cards and refinement."""

from pathlib import Path

from mlx_gemma4.convert import job
from mlx_gemma4.convert.survey import Wishes


def converted(
    source: Path, out: Path, recipe: str = "4bit", name: str = "google/gemma-4-E2B-it"
) -> Path:
    """Converts `source` under the name `name`. Returns `out`."""
    plan = job.plan_folder(source, Wishes(recipe), name)
    job.run(source, out, plan, name, lambda count: None)
    return out
