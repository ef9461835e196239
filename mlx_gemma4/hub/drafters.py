"""The drafter of a model, the small one that proposes tokens to it: which it is, and
where it lies. Google publishes one with each model that chats."""

import os
from pathlib import Path

from ..checkpoint.folders import FUSED, RECORD
from ..errors import CheckpointError
from ..reading.json_file import read_json
from .cache import repository_in
from .here import cached_drafter
from .names import models
from .resolve import HUB_ID

ENDING = "-assistant"  # behind a repository's name, or a folder's
INSIDE = "assistant"  # of a model's folder


def drafter_beside(folder: Path) -> Path | None:
    """The folder of the drafter that belongs to the model in `folder`: inside it,
    beside it, or in the Hub's cache. Whether it fits is not looked at."""
    whole = Path(os.path.abspath(folder))  # "." has no name
    for place in (folder / INSIDE, Path(f"{whole}{ENDING}")):
        if os.path.isfile(place / "config.json"):  # also of a name too long to be one
            return place
    repo = origin(whole)
    for drafter in drafters_of(repo) if repo else ():
        found = cached_drafter(drafter)
        if found is not None and found.complete:
            return found.folder
    return None


def drafters_of(repo: str) -> tuple[str, ...]:
    """The Hub's repositories that may hold a drafter of the model in `repo`, the best
    first: its own, and that of the original whose name its own repeats."""
    copies = {v.repo for m in models().values() for v in m.variants if not v.recipe}
    original = _original(repo)
    found = [] if repo in copies - {original} else [repo]
    found += [original] if original else []
    return tuple(dict.fromkeys(f"{each}{ENDING}" for each in found))


def published(repo: str) -> str | None:
    """The drafter that is known to be at the Hub for the model in `repo`."""
    original = _original(repo)
    return None if original is None else f"{original}{ENDING}"


def _original(repo: str) -> str | None:
    """The repository of Google's whose name this one repeats, if it has a drafter."""
    known = (model.original for model in models().values())
    return next((each for each in known if _bare(each) in _bare(repo)), None)


def origin(folder: Path) -> str | None:
    """The repository at the Hub that the model in `folder` is from, where that is
    known: it is a snapshot in the cache, or was converted or fused."""
    if folder.parent.name == "snapshots":
        return repository_in(folder.parent.parent)
    try:
        records = [read_json(folder / name) for name in (RECORD, FUSED)]
    except CheckpointError:
        return None
    source = next((each["source"] for each in records if each.get("source")), None)
    match = HUB_ID.fullmatch(source) if isinstance(source, str) else None
    return match["repo"] if match else None


def _bare(repo: str) -> str:
    return repo.rpartition("/")[2].lower()
