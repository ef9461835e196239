"""Having a model here that a command names: as it is, fetched, or converted."""

from typing import TYPE_CHECKING

from mlx_gemma4.errors import TakenError
from mlx_gemma4.reading.sizes import size

from ..render import Screen

if TYPE_CHECKING:
    from mlx_gemma4.hub.names import Variant


def obtain(name: str, screen: Screen, yes: bool = False, to_chat: bool = True) -> str:
    """The name of a model that is here from now on: of a short one, the variant that it
    stands for. What is not here is offered first; `yes` takes the offer.

    to_chat: refuse what has no chat template.

    Raises ModelNotFoundError where there is no such model, or the offer is not taken,
    MemoryError for one that is too large, and what `fetch` raises.
    """
    from mlx_gemma4.device import shared_limit
    from mlx_gemma4.hub.names import best_variant
    from mlx_gemma4.hub.resolve import converted_folder, local_folder

    if local_folder(name) is not None:
        return exact_name(name)
    from .fetch import fetch

    variant = best_variant(name, shared_limit())
    if variant is None:
        fetch(name, screen, yes, to_chat)
        return name
    introduce(variant, name, screen)
    check_memory(variant)
    if variant.recipe is None:
        fetch(variant.repo, screen, yes, to_chat)
    else:
        from .converting import fetch_converted

        out = converted_folder(variant)
        if out.is_dir() and any(out.iterdir()):  # of a removal that was stopped
            raise TakenError(
                f"{out} holds no whole model: `gemma4 rm {variant.name}` removes it."
            )
        fetch_converted(variant.repo, out, variant.recipe, screen, yes)
    return variant.name


def check_memory(variant: "Variant") -> None:
    """Raises MemoryError for weights that this machine has no room for."""
    from mlx_gemma4.device import shared_limit
    from mlx_gemma4.hub.names import suggested

    least = variant.kept - variant.table
    if least <= (limit := shared_limit()):
        return
    best = (model.best_in(limit) for model in suggested())
    fitting = next((each.name for each in best if each.needs <= limit), None)
    hint = f": take {fitting}" if fitting else ""
    raise MemoryError(
        f"{variant.name} takes {size(least)}, but a model may use at most "
        f"{size(limit)} here{hint}."
    )


def exact_name(name: str) -> str:
    """`name` of a model that is here, or of a short one the variant that is."""
    from mlx_gemma4.hub.names import candidates
    from mlx_gemma4.hub.resolve import local_folder, variant_folder

    folder = local_folder(name)
    for variant in candidates(name):
        if variant_folder(variant) == folder:
            return variant.name
    return name


def introduce(variant: "Variant", asked: str, screen: Screen) -> None:
    """Says what a short name stands for here, and what else it could be."""
    from mlx_gemma4.device import shared_limit
    from mlx_gemma4.hub.names import models

    start = (
        f"{asked} means {variant.name} here" if asked != variant.name else variant.name
    )
    screen.note(f"{start}: {ways(variant)}.")
    if variant.warning is not None:
        screen.note(f"Warning: {variant.warning}")
    least = variant.needs - variant.table
    if least > shared_limit() >= variant.kept - variant.table:
        screen.note("Warning: it leaves little memory for a conversation here.")
    if asked == variant.name:
        return
    for other in models()[asked].best:
        if other is not variant and other.needs <= shared_limit():
            screen.note(f"Or `gemma4 pull {other.name}`: {ways(other)}.")


def ways(variant: "Variant") -> str:
    """`fetches 8.96 GB; 8 bits …`: in which two variants differ."""
    read, kept = size(variant.fetched), size(variant.kept)
    kept = "" if variant.recipe is None else f", keeps {kept}"
    return f"fetches {read}{kept}; {variant.about}"
