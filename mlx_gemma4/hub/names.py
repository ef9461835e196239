"""Short names of models: `e4b`, or `e4b:qat` for one of its variants.

What they stand for is data, in models.json; nothing here looks at the disk or the Hub.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from ..config.ple import Ple
from ..errors import ModelNotFoundError
from ..reading.listing import listed

DEMO = "demo"
FAMILY = re.compile(r"gemma[-_ ]?4?(:latest)?", re.IGNORECASE)  # all models are
GB = 1e9


@dataclass(frozen=True)
class Variant:
    """One set of weights of a model. fetched, kept: bytes to download, and what stays
    of them, which is the memory that the weights take; table: what of these may stay on
    disk. needs: bytes of memory with a conversation beside them.

    recipe: of the conversion that makes it here; None of weights that are ready.
    """

    name: str
    repo: str
    recipe: str | None
    fetched: int
    kept: int
    table: int
    needs: int
    about: str
    warning: str | None

    def least(self, ple: Ple = Ple.AUTO) -> int:
        """The bytes of memory that its weights take at least."""
        return ple.least(self.table, self.kept)

    def takes(self, memory: int, ple: Ple = Ple.AUTO) -> int:
        """Of so many bytes of memory those that it needs with a conversation, with its
        table where loading leaves it."""
        on_disk = ple.on_disk(self.table, self.kept, memory)
        return self.needs - (self.table if on_disk else 0)

    def fits(self, memory: int, ple: Ple = Ple.AUTO) -> bool:
        """Whether it runs in so many bytes."""
        return self.takes(memory, ple) <= memory


@dataclass(frozen=True)
class Model:
    """A model in its variants. best: those that its bare name may stand for, the best
    first. drafter: bytes that its drafter takes."""

    name: str
    about: str
    reads: str
    variants: tuple[Variant, ...]
    best: tuple[Variant, ...]
    drafter: int

    @property
    def original(self) -> str:
        """The Hub id of the weights as they were made."""
        return next(v.repo for v in self.variants if v.name == f"{self.name}:bf16")

    def best_in(self, memory: int, ple: Ple = Ple.AUTO) -> Variant:
        """The best variant that runs in so many bytes, or the smallest of the best."""
        fitting = (each for each in self.best if each.fits(memory, ple))
        return next(fitting, min(self.best, key=lambda each: each.needs))


@cache
def models() -> dict[str, Model]:
    """Name -> model, in the order to list them in."""
    table = _table()
    return {name: _model(name, each) for name, each in table["models"].items()}


def name_of(repo: str) -> str:
    """What weights at the Hub are called here: by a short name if they have one."""
    variants = (each for model in models().values() for each in model.variants)
    return next((v.name for v in variants if (v.repo, v.recipe) == (repo, None)), repo)


def licence() -> str:
    return _table()["licence"]


def suggested() -> list[Model]:
    """The models to begin with, the best first."""
    return [models()[name] for name in _table()["suggested"]]


def short_names() -> list[str]:
    """All that a model can be called."""
    variants = [each.name for model in models().values() for each in model.variants]
    return [*models(), *variants]


def candidates(name: str) -> tuple[Variant, ...]:
    """What a short name may stand for, the best first; nothing for another name.

    Raises ModelNotFoundError for a variant that there is not.
    """
    base, colon, tag = name.partition(":")
    if (model := models().get(base)) is None:
        return ()
    if not colon:
        return model.best
    found = tuple(each for each in model.variants if each.name == name)
    if not found:
        there = listed([each.name for each in model.variants])
        raise ModelNotFoundError(f"There is no {name}; there are {there}.")
    return found


def best_variant(name: str, memory: int, ple: Ple = Ple.AUTO) -> Variant | None:
    """The variant that a short name stands for with so many bytes of memory; None for
    another name. Raises ModelNotFoundError as `candidates`."""
    if not (found := candidates(name)):
        return None
    return found[0] if ":" in name else models()[name].best_in(memory, ple)


def original(name: str) -> str:
    """The Hub id of what to convert for a short name: of a bare one the weights as they
    were made; another name as it is. Raises ModelNotFoundError as `candidates`."""
    if not (found := candidates(name)):
        return name
    if ":" in name:
        return found[0].repo
    return models()[name].original


def is_family(name: str) -> bool:
    """Whether `name` says no more than that it is a Gemma 4, as all models here."""
    return FAMILY.fullmatch(name) is not None


def meant(name: str, known: Iterable[str] = ()) -> str | None:
    """The name that a mistyped one is most like; `known`: others that are here."""
    text = name.lower().replace("_", "-")
    base = re.search("|".join(models()), text)
    if base is not None:
        tags = [tag for tag in _table()["tags"] if tag in text.replace("-bit", "bit")]
        return f"{base[0]}:{tags[0]}" if tags else base[0]
    names = {each.lower(): each for each in (DEMO, *short_names(), *known)}
    close = get_close_matches(text, names, n=1, cutoff=0.7)
    return names[close[0]] if close else None


@cache
def _table() -> dict[str, Any]:
    file = files("mlx_gemma4.hub") / "models.json"
    return json.loads(file.read_text(encoding="utf-8"))


def _model(name: str, stated: dict[str, Any]) -> Model:
    found = {
        tag: Variant(
            name=f"{name}:{tag}",
            repo=each["repo"],
            recipe=each.get("convert"),
            fetched=round(each["fetch_gb"] * GB),
            kept=round(each["size_gb"] * GB),
            table=round(each.get("table_gb", 0) * GB),
            needs=round((each["size_gb"] + stated["beside_gb"]) * GB),
            about=_table()["tags"][tag],
            warning=stated.get("warn", {}).get(tag),
        )
        for tag, each in stated["variants"].items()
    }
    best = tuple(found[tag] for tag in stated["best"])
    about, reads = stated["about"], stated["reads"]
    drafter = round(stated["drafter_gb"] * GB)
    return Model(name, about, reads, tuple(found.values()), best, drafter)
