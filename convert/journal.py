"""The record of a conversion's progress, which a later run continues from.

One JSON object per line: first what is converted from what, then each tensor and each
file as it is done. A line cut short by a crash is dropped, and its tensor done again.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.state import hold

from .errors import OutputError
from .plan import Plan

NAME = "journal.jsonl"
VERSION = 2
SAMPLES = 64  # pages of a file that its fingerprint looks at
PAGE = 4096


@dataclass(frozen=True)
class Done:
    """A finished tensor: checksums of what was written, and its count of the grid."""

    crcs: Mapping[str, int]
    on_grid: int = 0
    groups: int = 0


@dataclass(frozen=True)
class Begun:
    """What an unfinished conversion left. commit: of the Hub's repository `source`, if
    it was one. tensors: that are finished."""

    source: str | None
    commit: str | None
    tensors: frozenset[str]


@dataclass
class Journal:
    """Open for one process at a time. copies: that were found to be such."""

    path: Path
    stream: TextIO
    tensors: dict[str, Done] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    copies: set[str] = field(default_factory=set)
    resumed: bool = False

    def tensor(self, name: str, done: Done) -> None:
        self.tensors[name] = done
        self._add({"tensor": name, **vars(done)})

    def file(self, name: str, record: dict[str, Any]) -> None:
        self.files[name] = record
        self._add({"file": name, **record})

    def copy(self, name: str) -> None:
        self.copies.add(name)
        self._add({"copy": name})

    def close(self) -> None:
        self.stream.close()

    def _add(self, record: Mapping[str, Any]) -> None:
        # One write call, so that a crash leaves a whole line or the start of one.
        self.stream.write(json.dumps(record) + "\n")
        self.stream.flush()


def fingerprint(file: Path) -> list[Any]:
    """Size, time of change, and a digest of the header's and some other pages. One
    in the Hub's cache has its digest at the Hub, as if it were read from there.

    Raises CheckpointError if the file is gone.
    """
    try:
        stat, target = file.stat(), file.resolve()
        if file.is_symlink() and target.parent.name == "blobs":
            return [stat.st_size, 0, target.name]
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            step = max(PAGE, stat.st_size // SAMPLES)
            for position in range(0, stat.st_size, step):
                stream.seek(position)
                digest.update(stream.read(PAGE))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}.") from None
    return [stat.st_size, stat.st_mtime_ns, digest.hexdigest()]


def plan_digest(plan: Plan) -> str:
    """Of all that decides the bytes of the result, but where the source lies."""
    parts = [
        [t.name, [*t.sources], t.shape, t.dtype, str(t.packing), t.grid, t.paths]
        for t in plan.tensors
    ]
    return hashlib.sha256(json.dumps([VERSION, parts]).encode()).hexdigest()


def begun(folder: Path) -> Begun | None:
    """What the journal of `folder` says, if there is one; it may be in use."""
    try:
        with (folder / NAME).open(encoding="utf-8", errors="replace") as stream:
            records, _ = _records(stream)
    except OSError:
        return None
    if not records:
        return None
    done = frozenset(record["tensor"] for record in records if "tensor" in record)
    return Begun(records[0].get("source"), records[0].get("commit"), done)


def open_journal(
    folder: Path,
    plan: Plan,
    files: Mapping[str, list[Any]],
    name: str,
    commit: str | None = None,
) -> Journal:
    """The journal of `folder`, new or with what an earlier run did.

    Raises BusyError if another process holds it, OutputError if its settings were
    others, and CheckpointError if a source file has changed since.
    """
    path = folder / NAME
    start = {"version": VERSION, "plan": plan_digest(plan), "sources": dict(files)}
    start |= {"source": name, "commit": commit}
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    # A power failure may leave anything at the end.
    stream = os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")
    try:
        hold(descriptor, folder)
        journal = _continued(path, stream, start, name)
    except BaseException:
        stream.close()
        raise
    return journal


def _continued(path: Path, stream: TextIO, start: dict[str, Any], name: str) -> Journal:
    records, end = _records(stream)
    journal = Journal(path, stream)
    if records:
        _compare(path, records[0], start, name)
        journal.resumed = len(records) > 1
    stream.seek(end)
    stream.truncate()
    if not records:
        journal._add(start)
    for record in records[1:]:
        if "tensor" in record:
            name = record.pop("tensor")
            journal.tensors[name] = Done(**record)
        elif "copy" in record:
            journal.copies.add(record["copy"])
        else:
            name = record.pop("file")
            journal.files[name] = record
    return journal


def _records(stream: TextIO) -> tuple[list[dict[str, Any]], int]:
    """All whole lines, and the position after the last of them."""
    records, end = [], 0
    for line in stream.read().splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith("\n") or not isinstance(record, dict):
            break
        records.append(record)
        end += len(line.encode())
    return records, end


def _compare(
    path: Path, before: dict[str, Any], now: dict[str, Any], name: str
) -> None:
    again = f"Remove {path.parent} to begin again."
    old, new = before.get("sources", {}), now["sources"]
    changed = sorted(f for f in old.keys() | new.keys() if old.get(f) != new.get(f))
    if changed:
        raise CheckpointError(
            f"{', '.join(changed)} of {name} changed since this conversion began. "
            + again
        )
    if any(before.get(key) != now[key] for key in ("version", "plan")):
        raise OutputError(
            f"{path.parent} was begun with other settings or another version. {again}"
        )
