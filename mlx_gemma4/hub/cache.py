"""The Hub library's cache on this disk: where it keeps the files of a repository.

A file lies once, under the digest of its contents, and every commit that has it links
there. What we have fetched is found by any other program, and the other way round.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..state import save_text

# Other programs' unfinished files differ in how they are resumed; none takes this one.
PARTIAL = ".gemma4.incomplete"


def hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def repository(repo: str) -> Path:
    """Where the cache keeps a repository."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def repository_in(folder: Path) -> str:
    """Which repository the cache keeps in a folder."""
    return folder.name.removeprefix("models--").replace("--", "/", 1)


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it.

    digest: of its contents, and its name in the cache.
    """

    name: str
    size: int
    digest: str

    def new_digest(self) -> "hashlib._Hash":
        """What makes `digest` of the contents: SHA-256 of large ones, else git's."""
        if len(self.digest) == hashlib.sha256().digest_size * 2:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size)


def distinct(files: Iterable[HubFile]) -> list[HubFile]:
    """One of those that hold the same: they are kept once."""
    return list({file.digest: file for file in files}.values())


@dataclass(frozen=True)
class Cache:
    """The part of the cache that holds one repository, and a commit of it."""

    folder: Path
    commit: str

    @classmethod
    def of(cls, repo: str, commit: str) -> "Cache":
        return cls(repository(repo), commit)

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshots" / self.commit

    def blob(self, file: HubFile) -> Path:
        return self.folder / "blobs" / file.digest

    def partial(self, file: HubFile) -> Path:
        """What has come of it so far."""
        return self.folder / "blobs" / f"{file.digest}{PARTIAL}"

    def place(self, file: HubFile) -> Path:
        """Where a file, or what has come of it, would be found."""
        places = (self.blob(file), self.snapshot / file.name)
        return next((p for p in places if p.exists()), self.partial(file))

    def is_here(self, file: HubFile) -> bool:
        return self.place(file) != self.partial(file)

    def lacking(self, file: HubFile) -> int:
        """The bytes of a file that are still to be fetched."""
        place = self.place(file)
        return file.size - (place.stat().st_size if place.exists() else 0)

    def link(self, file: HubFile) -> None:
        """Gives a file that is here its name in the commit."""
        name = self.snapshot / file.name
        if name.exists():
            return
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)  # a link that leads nowhere
        try:
            name.symlink_to(Path("../../blobs") / file.digest)
        except OSError:  # file systems without links
            os.replace(self.blob(file), name)

    def point(self, revision: str) -> None:
        """Lets a branch or tag mean this commit: the model is found by it then."""
        if revision == self.commit:
            return
        reference = self.folder / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        save_text(reference, self.commit)
