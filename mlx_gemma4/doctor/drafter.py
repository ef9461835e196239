"""Whether a model has a drafter, and one that was made for it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..checkpoint.plan import footprint, plan_assistant
from ..config import Config
from ..hub.drafters import drafter_beside, origin, published
from ..reading.sizes import size
from .findings import Findings, Level
from .summary import Memory

ABOUT = "drafter"


@dataclass(frozen=True)
class DrafterFacts:
    """weights: bytes in memory; None where it cannot be loaded."""

    folder: Path
    weights: int | None = None


def examine_drafter(
    name: str,
    folder: Path,
    config: Config | None,
    memory: Memory | None,
    say: Findings,
) -> DrafterFacts | None:
    """Checks the drafter that lies with the model `name`, from headers.

    Without one, or with one that is left out, the model answers all the same: that is
    no problem of it.
    """
    place = drafter_beside(folder)
    if place is None:
        if (repo := origin(folder)) and (drafter := published(repo)):
            told = f"{drafter} would make answers faster"
            get = f"`gemma4 pull {name} --draft` gets it"
            say.ok(ABOUT, f"None is here: {told}. {get}.")
        return None
    tried = Findings()
    plan = tried.attempt(ABOUT, partial(plan_assistant, place))
    if plan is not None and config is not None:
        check = partial(plan.model.config.check_pair, config, place, folder)
        tried.attempt(ABOUT, check)
    for each in tried.all:
        say.add(ABOUT, Level.WARNING, each.text)
    if plan is None or tried.all:
        return DrafterFacts(place)
    weights = footprint(plan).nbytes
    if memory is not None and memory.weights + weights > memory.limit:
        say.warn(
            ABOUT,
            f"It fits the model, but takes {size(weights)} beside it, and both may use "
            f"at most {size(memory.limit)}: it is left out.",
        )
    else:
        say.ok(ABOUT, f"It fits the model, and takes {size(weights)} beside it.")
    return DrafterFacts(place, weights)
