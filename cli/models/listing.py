"""The tables of `gemma4 list`: what is here, and what can be had."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_gemma4.device import memory_limit
from mlx_gemma4.hub.drafters import drafter_beside
from mlx_gemma4.hub.here import Held, drafters, held
from mlx_gemma4.hub.names import Variant, models
from mlx_gemma4.reading.listing import listed
from mlx_gemma4.reading.sizes import size

from ..tables import columns
from .default import kept_default

ALL = range(5)  # columns, which begin together
LEGEND = (
    "GET, KEEP, NEED: gigabytes to download,",
    "on disk, in memory with a conversation",
    "* what the name of the model alone means",
)


@dataclass(frozen=True)
class Offered:
    """A variant in the table of what can be had. takes: bytes of the memory here.
    meant: by its model's name alone."""

    variant: Variant
    takes: int
    here: bool
    fits: bool
    meant: bool

    @property
    def state(self) -> str:
        if self.here:
            return "here"
        return "fits" if self.fits else "too large"


def offered(here: Sequence[Held]) -> list[Offered]:
    memory, names = memory_limit(), {each.name for each in here if each.complete}
    return [
        Offered(
            variant,
            takes=variant.takes(memory),
            here=variant.name in names,
            fits=variant.fits(memory),
            meant=variant is model.best_in(memory) and variant.fits(memory),
        )
        for model in models().values()
        for variant in model.variants
    ]


def lines(everything: bool, width: int | None = None) -> list[str]:
    """width: of the terminal; None is as wide as need be."""
    here, default = held(), kept_default()
    rows = [["NAME", "SIZE", "WHERE", ""]]
    rows += [
        [each.name, size(each.nbytes), each.place, _marks(each, default)]
        for each in here
    ]
    rows += [
        [each.name, size(each.nbytes), each.place, _of(each, here)]
        for each in drafters()
    ]
    if default is not None and default not in {each.name for each in here}:
        rows.append([default, "", "", "default"])
    table = columns(rows, left=ALL)
    if width is not None and max(map(len, table)) > width:
        table = below(rows[1:])
    if not everything:
        return table
    rows = [["NAME", "GET", "KEEP", "NEED", ""]]
    for each in offered(here):
        variant = each.variant
        told = map(size, (variant.fetched, variant.kept, each.takes))
        sizes = [each.removesuffix(" GB") for each in told]
        mark = " *" if each.meant else ""
        rows.append([variant.name, *sizes, each.state + mark])
    return [*table, "", *columns(rows, left=ALL), "", *LEGEND]


def below(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows without columns: what belongs to a name stands below it."""
    pairs = ((name, "  " + "  ".join(filter(None, rest))) for name, *rest in rows)
    return [line for pair in pairs for line in pair]


def _marks(each: Held, default: str | None) -> str:
    marks = [] if each.complete else ["incomplete"]
    marks += ["default"] if each.name == default else []
    marks += ["with a drafter"] if drafter_beside(each.folder) else []
    return ", ".join(marks)


def _of(drafter: Held, here: Sequence[Held]) -> str:
    names = drafted_by(drafter, here)
    marks = [] if drafter.complete else ["incomplete"]
    return ", ".join([*marks, f"drafter of {listed(names)}" if names else "a drafter"])


def drafted_by(drafter: Held, here: Sequence[Held]) -> list[str]:
    """The names of the models that have this drafter."""
    return [each.name for each in here if drafter_beside(each.folder) == drafter.folder]


def _kept(each: Held) -> dict[str, object]:
    return {
        "name": each.name,
        "folder": str(each.folder),
        "bytes": each.nbytes,
        "complete": each.complete,
    }


def _model(each: Held, default: str | None) -> dict[str, object]:
    drafter = drafter_beside(each.folder)
    return {
        **_kept(each),
        "repo": each.repo,
        "place": str(each.place),
        "default": each.name == default,
        "drafter": None if drafter is None else str(drafter),
    }


def as_json(everything: bool) -> dict[str, object]:
    """Sizes in bytes."""
    here, default = held(), kept_default()
    value: dict[str, object] = {
        "default": default,
        "models": [_model(each, default) for each in here],
        "drafters": [
            {**_kept(each), "models": drafted_by(each, here)} for each in drafters()
        ],
    }
    if everything:
        value["offered"] = [
            {
                "name": each.variant.name,
                "repo": each.variant.repo,
                "fetched_bytes": each.variant.fetched,
                "kept_bytes": each.variant.kept,
                "memory_bytes": each.takes,
                "here": each.here,
                "fits": each.fits,
            }
            for each in offered(here)
        ]
    return value
