"""The files of a model's folder: sizes, and whose the small ones are."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .findings import Findings
from .known import KnownFile, known_file

# Those that decide what a model computes, beside its weights.
HASHED = frozenset(
    {
        *("config.json", "generation_config.json", "processor_config.json"),
        *("tokenizer_config.json", "chat_template.jinja", "chat_template.json"),
        *("tokenizer.json", "adapter_config.json"),
    }
)
LARGEST = 2**28  # bytes of a file to be hashed; a real tokenizer.json has 2^25
BLOCK = 2**20


@dataclass(frozen=True)
class FileFacts:
    """A file: its bytes (None where they cannot be told), and the SHA-256 of a small
    one that decides."""

    name: str
    nbytes: int | None
    sha256: str | None = None
    known: KnownFile | None = None


def files_in(folder: Path, findings: Findings) -> list[FileFacts]:
    """The files at the top of `folder`, sorted; weights in folders are another's."""
    paths = findings.attempt("files", lambda: sorted(folder.iterdir())) or []
    found = [_facts(path, findings) for path in paths if not path.is_dir()]
    for each in found:
        if each.known and each.known.remedy:
            findings.warn("template", each.known.remedy)
    return found


def revision_of(folder: Path) -> str | None:
    """The commit of a folder in the Hub's cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def _facts(path: Path, findings: Findings) -> FileFacts:
    try:
        nbytes = path.stat().st_size
    except OSError as error:
        link = "is a link that leads nowhere" if path.is_symlink() else error.strerror
        findings.warn("files", f"{path.name} {link}. Download it again.")
        return FileFacts(path.name, None)
    if path.name not in HASHED or not path.is_file() or nbytes > LARGEST:
        return FileFacts(path.name, nbytes)
    digest = findings.attempt("files", lambda: _sha256(path))
    known = known_file(digest) if digest else None
    return FileFacts(path.name, nbytes, digest, known)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
