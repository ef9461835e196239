"""The file that conversations are kept in: made, opened, and what is wrong with it.

One SQLite database for its owner only, which several programs may write at a time.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlx_gemma4.errors import DiskFullError
from mlx_gemma4.state import PRIVATE, data_folder, disk_full

from ..errors import InputError

SCHEMA = 1  # what PRAGMA user_version says of a file with these tables
WAIT = 5.0  # seconds for another program that writes
# Messages form a tree, of which `leaf` is the end of the branch that is gone on with.
# finish: why an answer ended, `interrupted` or `sent`; nothing of one that is coming,
# or was when its program was killed. indexed: whether the table `search` has it.
TABLES = """
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE,
    model TEXT NOT NULL,
    adapter TEXT,
    system TEXT,
    tools TEXT,
    settings TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    leaf INTEGER
);
CREATE INDEX by_time ON conversation (updated);
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,
    parent INTEGER,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    rest TEXT NOT NULL,
    finish TEXT,
    created REAL NOT NULL,
    indexed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX by_conversation ON message (conversation);
CREATE INDEX not_indexed ON message (id) WHERE NOT indexed;
"""
SEARCH = """
CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5 (
    text, content=message, content_rowid=id, tokenize='unicode61 remove_diacritics 2'
)
"""


class DamagedStore(InputError):
    """A file of conversations that SQLite cannot read."""


def store_path() -> Path:
    return data_folder() / "logs.db"


def make(path: Path) -> None:
    """Makes an empty store, whole from the moment it has its name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        os.close(os.open(work, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, PRIVATE))
        made = sqlite3.connect(work, isolation_level=None)
        try:
            made.execute("PRAGMA auto_vacuum = FULL")  # what is removed gives its room
            made.execute("PRAGMA journal_mode = WAL")
            made.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; END;")
        finally:
            made.close()
        with suppress(FileExistsError):  # another program was quicker
            os.link(work, path)
    finally:
        for left in ("", "-wal", "-shm"):
            with suppress(OSError):
                os.unlink(f"{work}{left}")


def connect(path: Path) -> sqlite3.Connection:
    """The store at `path`, which has to be there. Raises InputError for one that this
    program cannot know, and sqlite3.Error."""
    with suppress(OSError):  # it may be of another user, or its disk read-only
        path.chmod(PRIVATE)
    store = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", WAIT, isolation_level=None, uri=True
    )
    try:
        store.execute("PRAGMA foreign_keys = ON")
        store.execute("PRAGMA synchronous = NORMAL")
        store.execute("PRAGMA secure_delete = ON")
        (version,) = store.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise InputError(f"{path} was written by a newer gemma4: update this one.")
        if version < SCHEMA:
            raise sqlite3.DatabaseError("it holds no conversations")
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Whatever SQLite finds wrong with a store becomes an error that names it. Raises
    InputError and DiskFullError."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(path, error) from None
    except OSError as error:
        if isinstance(error, DiskFullError):
            raise
        raise InputError(f"Cannot write {path}: {error.strerror}.") from None


def explained(path: Path, error: sqlite3.Error) -> Exception:
    # Only what SQLite itself says has a name.
    name: str = getattr(error, "sqlite_errorname", "SQLITE_NOTADB")
    if name.startswith("SQLITE_FULL"):
        return DiskFullError(disk_full(path))
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return DamagedStore(
            f"{path} is damaged ({error}): move it away, and a new one is begun."
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return InputError(f"{path} cannot be opened or written: {error}.")
    return InputError(f"{path} cannot be used: {error}.")
