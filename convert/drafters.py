"""Drafters, the small models that propose tokens to others: what differs in converting
them. Nothing they say is shown to anybody, so what a packing costs is acceptance.
"""

from pathlib import Path

from mlx_gemma4.checkpoint.plan import (
    AssistantPlan,
    LoadPlan,
    plan_assistant,
    plan_load,
    read_headers,
)
from mlx_gemma4.config import AssistantConfig, Config
from mlx_gemma4.hub.resolve import is_drafter
from mlx_gemma4.prompt.vocabulary import check_folder

from .errors import RecipeError
from .recipes import NAMES

# Little is saved by fewer bits, and every draft that is refused costs more.
TOO_FEW = ("3bit", "2bit", "tiny", "mixed")


def check_recipe(name: str) -> None:
    """Raises RecipeError for a recipe that drafters do not have."""
    if name in TOO_FEW:
        known = ", ".join(each for each in NAMES if each not in TOO_FEW)
        raise RecipeError(f"A drafter is not converted by {name}, but by {known}.")


def recipe_beside(name: str) -> str:
    """The recipe of the drafter of a model that is converted by `name`."""
    return "4bit" if name in TOO_FEW else name


def read_config(folder: Path) -> Config | AssistantConfig:
    """What config.json of a model or of a drafter states. Raises CheckpointError."""
    kind = AssistantConfig if is_drafter(folder) else Config
    return kind.from_file(folder / "config.json")


def plan_either(folder: Path) -> LoadPlan | AssistantPlan:
    """How a folder would be loaded. Raises CheckpointError."""
    if is_drafter(folder):
        return plan_assistant(folder)
    plan = plan_load(*read_headers(folder))
    check_folder(folder, plan.model.config)
    return plan
