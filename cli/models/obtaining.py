"""Having a model here that a command names: as it is, fetched, or converted."""

import os
from typing import TYPE_CHECKING

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import CheckpointError, ModelNotFoundError, TakenError
from mlx_gemma4.reading.sizes import size

from ..render import Screen
from .default import FROM_ENVIRONMENT

if TYPE_CHECKING:
    from mlx_gemma4.hub.names import Variant


def obtain(
    name: str,
    screen: Screen,
    yes: bool = False,
    to_chat: bool = True,
    ple: Ple = Ple.AUTO,
) -> str:
    """The name of a model that is here from now on: of a short one, the variant that it
    stands for. What is not here is offered first; `yes` takes the offer.

    to_chat: refuse what has no chat template. ple: as `--ple` says: whether its table
        of per-layer embeddings has to fit in memory, too.

    Raises ModelNotFoundError where there is no such model, or the offer is not taken,
    MemoryError for one that is too large, and what `fetch` raises.
    """
    from mlx_gemma4.device import shared_limit
    from mlx_gemma4.hub.names import best_variant
    from mlx_gemma4.hub.resolve import converted_folder, local_folder

    try:
        folder = local_folder(name)
    except (ModelNotFoundError, CheckpointError) as error:
        if name != os.environ.get(FROM_ENVIRONMENT):
            raise
        raise type(error)(f"{FROM_ENVIRONMENT}: {error}") from None
    if folder is not None:
        return exact_name(name, ple)
    from .fetch import fetch

    variant = best_variant(name, shared_limit(), ple)
    if variant is None:
        fetch(name, screen, yes, to_chat, ple)
        return name
    introduce(variant, name, screen, ple)
    check_memory(variant, ple)
    if variant.recipe is None:
        fetch(variant.repo, screen, yes, to_chat, ple)
    else:
        from .converting import fetch_converted

        out = converted_folder(variant)
        if out.is_dir() and any(out.iterdir()):  # of a removal that was stopped
            raise TakenError(
                f"{out} holds no whole model: `gemma4 rm {variant.name}` removes it."
            )
        fetch_converted(variant.repo, out, variant.recipe, screen, yes, ple)
    return variant.name


def check_memory(variant: "Variant", ple: Ple = Ple.AUTO) -> None:
    """Raises MemoryError for weights that this machine has no room for."""
    from mlx_gemma4.device import shared_limit
    from mlx_gemma4.hub.names import suggested

    least = variant.least(ple)
    if least <= (limit := shared_limit()):
        return
    best = (model.best_in(limit, ple) for model in suggested())
    fitting = next((each.name for each in best if each.fits(limit, ple)), None)
    hint = f": take {fitting}" if fitting else ""
    raise MemoryError(
        f"{variant.name} takes {size(least)}, but a model may use at most "
        f"{size(limit)} here{hint}."
    )


def exact_name(name: str, ple: Ple = Ple.AUTO) -> str:
    """`name` of a model that is here, or of a short one the variant that is, and that
    fits best with its table of per-layer embeddings there."""
    from mlx_gemma4.hub.names import candidates
    from mlx_gemma4.hub.resolve import local_folder, variant_folder

    folder = local_folder(name, ple)
    for variant in candidates(name):
        if variant_folder(variant) == folder:
            return variant.name
    return name


def introduce(
    variant: "Variant", asked: str, screen: Screen, ple: Ple = Ple.AUTO
) -> None:
    """Says what a short name stands for here, and what else it could be."""
    from mlx_gemma4.device import shared_limit
    from mlx_gemma4.hub.names import models

    start = (
        f"{asked} means {variant.name} here" if asked != variant.name else variant.name
    )
    screen.note(f"{start}: {ways(variant)}.")
    if variant.warning is not None:
        screen.note(f"Warning: {variant.warning}")
    limit = shared_limit()
    if not variant.fits(limit, ple) and variant.least(ple) <= limit:
        screen.note("Warning: it leaves little memory for a conversation here.")
    if asked == variant.name:
        return
    for other in models()[asked].best:
        if other is not variant and other.fits(limit, ple):
            screen.note(f"Or `gemma4 pull {other.name}`: {ways(other)}.")


def ways(variant: "Variant") -> str:
    """`fetches 8.96 GB; 8 bits …`: in which two variants differ."""
    read, kept = size(variant.fetched), size(variant.kept)
    kept = "" if variant.recipe is None else f", keeps {kept}"
    return f"fetches {read}{kept}; {variant.about}"
