"""Having a model that is made here: read from the Hub and packed on the way.

Only the result is kept, so that the disk needs little more than its size.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.checkpoint.folders import RECORD
from mlx_gemma4.config.ple import Ple
from mlx_gemma4.reading.home import with_home
from mlx_gemma4.reading.sizes import free_space, size

from ..convert.job import Conversion
from ..convert.sources import measured, planned
from ..render import Screen
from .fetch import agree, needed

if TYPE_CHECKING:
    from mlx_gemma4.convert.plan import Plan
    from mlx_gemma4.convert.source import Source


def fetch_converted(
    repo: str,
    out: Path,
    recipe: str,
    screen: Screen,
    yes: bool,
    ple: Ple = Ple.AUTO,
) -> Path:
    """The folder `out` with a Hub repository converted; made if it is not there.

    recipe: of `gemma4 convert`. yes: without a question. It is asked on a terminal
    only. What was stopped goes on where it was.

    A model that does not run or fit here is refused before a weight of it is read.
    Raises ModelNotFoundError, also where nobody agrees or can be asked, and what a
    conversion raises.
    """
    from mlx_gemma4.convert.job import to_fetch
    from mlx_gemma4.convert.output import check_space
    from mlx_gemma4.convert.survey import Wishes

    out = with_home(out)
    if (out / RECORD).is_file():
        return out
    conversion = Conversion(repo, out, Wishes(recipe), screen, yes)
    conversion.check_out()
    source, plan = planned(repo, out, conversion.wishes, screen)
    check_memory(repo, plan, ple)
    check_space(out, plan.out_bytes)
    if count := to_fetch(plan, source, out):
        agree(lines(repo, source, plan, count, out), count, repo, screen, yes)
    if source.at_hub:  # also where nothing is left to fetch: the plan is to be the same
        plan = measured(source, conversion.wishes, repo, plan, screen)
    conversion.convert(source, plan)
    return out


def check_memory(repo: str, plan: "Plan", ple: Ple) -> None:
    """Raises MemoryError for a model that could not be loaded here."""
    from mlx_gemma4.device import shared_limit

    least = ple.least(plan.memory.table, plan.out_bytes)
    if least > (limit := shared_limit()):
        raise MemoryError(
            f"The weights of {repo} take {size(least)} when converted, but a "
            f"model may use at most {size(limit)} here."
        )


def lines(
    repo: str, source: "Source", plan: "Plan", count: int, out: Path
) -> list[str]:
    """What a model is and costs, for people who decide about it."""
    return [
        f"{repo} is on the Hub, and is packed here while it comes:",
        f"  to fetch  {size(count)}",
        f"  disk      {size(plan.out_bytes)} of {size(free_space(out))} free",
        f"  memory    {needed(plan.out_bytes, plan.memory.table)}",
        f"  licence   {source.licence or 'not stated'}",
    ]
