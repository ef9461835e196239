"""Having a model and its drafter here: what both take is said before either comes."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.drafters import INSIDE, drafter_beside, drafters_of, origin
from mlx_gemma4.reading.sizes import size

from ..render import Screen
from .fetch import agree, ask, get, lines
from .obtaining import exact_name, obtain

if TYPE_CHECKING:
    from mlx_gemma4.hub.names import Variant
    from mlx_gemma4.hub.offer import Offer


def obtain_both(name: str, screen: Screen, yes: bool) -> tuple[str, Path]:
    """The name of a model and the folder of its drafter, which are here from now on.

    The drafter of a model that is converted here is converted likewise, into the
    model's folder; any other goes to the Hub's cache.

    Raises ModelNotFoundError where no drafter of the model is known, or the offer is
    not taken, and what `obtain` raises.
    """
    from mlx_gemma4.hub.resolve import local_folder

    folder = local_folder(name)
    if folder is not None and (there := drafter_beside(folder)) is not None:
        return exact_name(name), there
    found = _offered(name, folder, screen)
    told = f"Its drafter is {found.repo}: {size(found.to_fetch)} to fetch"
    if folder is None:
        screen.note(f"{told}, beside the model.")
        name, yes = obtain(name, screen, yes), True
        folder = local_folder(name)
        assert folder is not None
    variant = _made_here(folder)
    if variant is not None and variant.recipe is not None:
        from .converting import fetch_converted

        out = folder / INSIDE
        return exact_name(name), fetch_converted(
            found.repo, out, variant.recipe, screen, yes
        )
    if found.to_fetch:
        agree(lines(found, found.repo), found.to_fetch, found.repo, screen, yes)
    return exact_name(name), get(found, screen)


def obtain_drafter(name: str, screen: Screen, yes: bool) -> Path:
    """The folder of a drafter by a name of its own. One that is not here is offered
    first; `yes` takes the offer. Raises as `obtain_both`."""
    from mlx_gemma4.hub.resolve import local_folder

    if (folder := local_folder(name)) is not None:
        return folder
    found = ask(name, screen, drafter=True)
    agree(lines(found, name), found.to_fetch, name, screen, yes)
    return get(found, screen)


def _offered(name: str, folder: Path | None, screen: Screen) -> "Offer":
    """The first drafter at the Hub that there is, of those that a model may have."""
    reasons: list[str] = []
    for repo in drafters_of(_repository(name, folder)):
        try:
            return ask(repo, screen, drafter=True)
        except ModelNotFoundError as error:
            reasons.append(str(error))
    raise ModelNotFoundError(f"No drafter of {name} can be had. {reasons[-1]}")


def _repository(name: str, folder: Path | None) -> str:
    """What the Hub calls the model, or the one that it was made of."""
    from mlx_gemma4.device import memory_limit
    from mlx_gemma4.hub.names import best_variant

    if folder is None:
        variant = best_variant(name, memory_limit())
        return name.partition("@")[0] if variant is None else variant.repo
    if (repo := origin(folder)) is not None:
        return repo
    raise ModelNotFoundError(
        f"It is not known from which model {name} was made, and so not which drafter "
        f"is its own: put one into {folder / INSIDE}, with `gemma4 convert "
        f"google/gemma-4-…-it-assistant {folder / INSIDE}`."
    )


def _made_here(folder: Path) -> "Variant | None":
    """The variant that was converted into a folder."""
    from mlx_gemma4.hub.names import models
    from mlx_gemma4.hub.resolve import converted_folder

    variants = (each for model in models().values() for each in model.variants)
    return next(
        (v for v in variants if v.recipe and converted_folder(v) == folder), None
    )
