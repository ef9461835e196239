"""The models that are on this machine: ours, and those in the Hub's cache.

The cache is read as a folder, without the Hub's library: a list has to come at once,
also while a name is being completed.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from ..checkpoint.files import LENGTH
from ..config.assistant import is_assistant
from ..errors import CheckpointError
from ..reading.json_file import read_object
from .cache import hub_cache, repository, repository_in
from .names import DEMO, Variant, models, name_of, short_names
from .resolve import converted_folder, is_complete

MODEL_TYPES = ("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text")
PARTIAL = ".partial"  # where a conversion goes on


class Place(StrEnum):
    BUILT_IN = "built in"
    CONVERTED = "converted here"
    CACHE = "Hub cache"


@dataclass(frozen=True)
class Held:
    """A model that is here. name: what to call it. nbytes: of all its files, those of
    other revisions included. complete: whether it can be loaded.

    roots: what `rm` would remove; nothing of the demo.
    """

    name: str
    place: Place
    folder: Path
    nbytes: int
    complete: bool
    roots: tuple[Path, ...]
    repo: str | None = None


def held() -> list[Held]:
    """All models that are here: the demo, what was converted, the Hub's cache."""
    return [_demo(), *_converted(), *_cached(_is_model)]


def drafters() -> list[Held]:
    """The drafters in the Hub's cache; others lie in a model's folder, or beside it."""
    return list(_cached(is_assistant))


def cached_drafter(repo: str) -> Held | None:
    """The drafter of a repository, if it is in the Hub's cache."""
    return _entry(repository(repo), is_assistant)


def names_here() -> list[str]:
    """What can follow --model without a download, or with one; for completion."""
    here = [each.name for each in held() if each.complete]
    return list(dict.fromkeys([*here, *short_names()]))


def size_of(folder: Path) -> int:
    """Bytes of the files under a folder, without their holes; links count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # of a download that has just ended
                found = os.lstat(os.path.join(place, name))
                if stat.S_ISREG(found.st_mode):
                    total += min(found.st_size, found.st_blocks * 512)
    return total


def _demo() -> Held:
    folder = Path(str(files("mlx_gemma4.assets"))) / DEMO
    return Held(DEMO, Place.BUILT_IN, folder, size_of(folder), True, ())


def _variants() -> Iterator[Variant]:
    for model in models().values():
        yield from model.variants


def _converted() -> Iterator[Held]:
    for variant in _variants():
        folder = converted_folder(variant)
        work = folder.with_name(folder.name + PARTIAL)
        roots = tuple(each for each in (folder, work) if each.is_dir())
        if variant.recipe is not None and roots:
            nbytes = sum(map(size_of, roots))
            whole = (folder / "config.json").is_file()
            yield Held(
                variant.name,
                Place.CONVERTED,
                folder,
                nbytes,
                whole,
                roots,
                variant.repo,
            )


def _cached(wanted: Callable[[object], bool]) -> Iterator[Held]:
    for root in sorted(hub_cache().glob("models--*--*")):
        if (found := _entry(root, wanted)) is not None:
            yield found


def _entry(root: Path, wanted: Callable[[object], bool]) -> Held | None:
    """A repository in the cache. wanted: of which model_type."""
    repo = repository_in(root)
    found = [(is_complete(folder), folder) for folder in _snapshots(root, wanted)]
    if not found or not _holds_weights(root):
        return None
    complete, folder = max(found, key=lambda each: each[0])  # the first that is
    revision = _revision(root, folder)
    if revision is None:
        name = name_of(repo)
    else:
        name = f"{repo}@{revision}" if complete else name_of(repo)
    return Held(name, Place.CACHE, folder, size_of(root), complete, (root,), repo)


def _holds_weights(root: Path) -> bool:
    """Whole, or in part; others were only looked at, by us as well."""
    whole = next(root.glob("snapshots/*/*.safetensors"), None)
    return whole is not None or any(map(_is_begun, root.glob("blobs/*.incomplete")))


def _is_begun(part: Path) -> bool:
    """Whether more is there than the header that an offer looks at."""
    with suppress(FileNotFoundError), part.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH), "little")
        return part.stat().st_size > LENGTH + length
    return False


def _is_model(model_type: object) -> bool:
    return model_type in MODEL_TYPES


def _snapshots(root: Path, wanted: Callable[[object], bool]) -> list[Path]:
    """Of a repository in the cache, those of a model_type; that of `main` first."""
    found = []
    for folder in sorted((root / "snapshots").glob("*")):
        try:
            config = read_object(folder / "config.json")
        except CheckpointError:
            continue
        if wanted(config.get("model_type")):
            found.append(folder)
    return sorted(found, key=lambda folder: _revision(root, folder) is not None)


def _revision(root: Path, folder: Path) -> str | None:
    """What a snapshot is called; None is `main`."""
    references = root / "refs"
    commits = {
        file.read_text("utf-8", errors="replace").strip(): file.relative_to(references)
        for file in references.rglob("*")
        if file.is_file()
    }
    name = str(commits.get(folder.name, folder.name))
    return None if name == "main" else name
