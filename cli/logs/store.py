"""Kept conversations: what is written of one, and read of one and of all."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..attach.messages import Message
from ..chat.setup import Setup
from ..errors import InputError, UsageError
from .opening import connect, make, store_path, told
from .rows import Summary, Turn, message_row, setup_of, setup_row, turn_of

SUMMARY = (
    "SELECT id, name, model, created, updated,"
    " (SELECT count(*) FROM message WHERE conversation = c.id),"
    " coalesce((SELECT text FROM message WHERE conversation = c.id AND role = 'user'"
    " ORDER BY id LIMIT 1), '') FROM conversation c"
)
REMOVED = "The conversation was removed meanwhile."
NONE = "No conversation is kept yet. gemma4 chat begins one."


class Store:
    """An open store. Every method raises sqlite3.Error; see `told`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = connect(path)

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """All of what is written inside, or nothing of it."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # it may be rolled back already
                self.db.execute("ROLLBACK")
            raise

    def begin(self, setup: Setup, name: str | None = None) -> int:
        """A new conversation, still empty; returns its number. Raises IntegrityError
        where the name is taken."""
        now = time.time()
        return self._insert(
            "INSERT INTO conversation"
            " (name, model, adapter, system, tools, settings, created, updated)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (name, *setup_row(setup), now, now),
        )

    def go_on(self, conversation: int, setup: Setup, leaf: int | None) -> None:
        """Notes where a conversation stands, and what it is held with now."""
        self.db.execute(
            "UPDATE conversation SET model = ?, adapter = ?, system = ?, tools = ?,"
            " settings = ?, updated = ?, leaf = ? WHERE id = ?",
            (*setup_row(setup), time.time(), leaf, conversation),
        )

    def stand_at(self, conversation: int, leaf: int | None) -> None:
        self.db.execute(
            "UPDATE conversation SET leaf = ?, updated = ? WHERE id = ?",
            (leaf, time.time(), conversation),
        )

    def add(
        self,
        conversation: int,
        parent: int | None,
        message: Message,
        finish: str | None,
    ) -> int:
        """Keeps a message that follows `parent`; returns its number. Raises InputError
        if the conversation is gone."""
        try:
            return self._insert(
                "INSERT INTO message"
                " (conversation, parent, role, text, rest, finish, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (conversation, parent, *message_row(message), finish, time.time()),
            )
        except sqlite3.IntegrityError:
            raise InputError(REMOVED) from None

    def change(self, number: int, message: Message, finish: str | None) -> None:
        """Keeps what a message has become. Raises InputError if it is gone."""
        changed = self.db.execute(
            "UPDATE message SET text = ?, rest = ?, finish = ? WHERE id = ?",
            (*message_row(message)[1:], finish, number),
        )
        if not changed.rowcount:
            raise InputError(REMOVED)

    def forget(self, numbers: Sequence[int]) -> None:
        """Takes messages back that were never part of an answered turn."""
        self.db.executemany("DELETE FROM message WHERE id = ?", [(n,) for n in numbers])

    def forget_empty(self, conversation: int) -> bool:
        """Removes a conversation without messages; whether it was one."""
        removed = self.db.execute(
            "DELETE FROM conversation WHERE id = ? AND NOT EXISTS"
            " (SELECT 1 FROM message WHERE conversation = conversation.id)",
            (conversation,),
        )
        return bool(removed.rowcount)

    def find(self, which: str | None) -> int | None:
        """The number of a conversation that is named or numbered `which`; of the last
        one for None. None where there is no such."""
        if which is None:
            row = self.db.execute(
                "SELECT id FROM conversation ORDER BY updated DESC, id DESC LIMIT 1"
            ).fetchone()
        else:
            number = int(which) if is_number(which) else None
            row = self.db.execute(
                "SELECT id FROM conversation WHERE name = ? OR id = ?", (which, number)
            ).fetchone()
        return row and row[0]

    def found(self, which: str | None) -> int:
        """As `find`. Raises UsageError that says what there is."""
        number = self.find(which)
        if number is not None:
            return number
        if which is None:
            raise UsageError(NONE)
        close = get_close_matches(which, self.names(), 1)
        hint = f"Did you mean {close[0]}?" if close else "gemma4 logs lists them."
        raise UsageError(f"There is no conversation {which}. {hint}")

    def setup(self, conversation: int) -> Setup:
        row = self.db.execute(
            "SELECT model, adapter, system, tools, settings FROM conversation"
            " WHERE id = ?",
            (conversation,),
        ).fetchone()
        return setup_of(*row)

    def turns(self, conversation: int, all: bool = False) -> list[Turn]:
        """The messages of the branch that is gone on with, or of all branches."""
        rows = self.db.execute(
            "SELECT id, parent, role, text, rest, finish, created FROM message"
            " WHERE conversation = ? ORDER BY id",
            (conversation,),
        )
        turns = {row[0]: turn_of(*row) for row in rows}
        if all:
            return list(turns.values())
        (at,) = self.db.execute(
            "SELECT leaf FROM conversation WHERE id = ?", (conversation,)
        ).fetchone()
        branch: list[Turn] = []
        while at in turns:
            branch.append(turns.pop(at))
            at = branch[-1].parent
        return branch[::-1]

    def summaries(self, limit: int = -1) -> list[Summary]:
        """Conversations, the last first."""
        rows = self.db.execute(
            f"{SUMMARY} ORDER BY updated DESC, id DESC LIMIT ?", (limit,)
        )
        return [Summary(*row) for row in rows]

    def summary(self, conversation: int) -> Summary:
        row = self.db.execute(f"{SUMMARY} WHERE id = ?", (conversation,)).fetchone()
        return Summary(*row)

    def count(self) -> int:
        return self.db.execute("SELECT count(*) FROM conversation").fetchone()[0]

    def remove(self, conversations: Sequence[int]) -> None:
        """Removes conversations, and what is said in them from the disk."""
        numbers = [(number,) for number in conversations]
        with self.at_once():
            found = "SELECT 1 FROM sqlite_master WHERE name = 'search'"
            if self.db.execute(found).fetchone():
                self.db.executemany(
                    "INSERT INTO search (search, rowid, text) SELECT 'delete', id, text"
                    " FROM message WHERE conversation = ? AND indexed",
                    numbers,
                )
                self.db.execute("INSERT INTO search (search) VALUES ('optimize')")
            self.db.executemany("DELETE FROM conversation WHERE id = ?", numbers)
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def names(self) -> list[str]:
        """Those that were given, the last first."""
        rows = self.db.execute(
            "SELECT name FROM conversation WHERE name IS NOT NULL ORDER BY updated DESC"
        )
        return [name for (name,) in rows]

    def _insert(self, statement: str, values: tuple[Any, ...]) -> int:
        number = self.db.execute(statement, values).lastrowid
        assert number is not None
        return number


@contextmanager
def opened() -> Iterator[Store]:
    """The store, to look into. Raises UsageError where there is none, InputError."""
    path = store_path()
    if not path.exists():
        raise UsageError(NONE)
    with told(path):
        store = Store(path)
        try:
            yield store
        finally:
            store.close()


def open_or_make() -> Store:
    """The store, to write into."""
    path = store_path()
    if not path.exists():
        make(path)
    return Store(path)


def session_names() -> list[str]:
    """The names of kept conversations, the last first; for completion, so no errors."""
    with suppress(InputError, UsageError, OSError):
        with opened() as store:
            return store.names()
    return []


def check_name(name: str) -> None:
    """Raises UsageError for what cannot name a conversation."""
    if not name.strip() or not name.isprintable() or name != name.strip():
        raise UsageError("A conversation needs a name of printable characters.")


def is_number(which: str) -> bool:
    return which.isascii() and which.isdigit() and len(which) < 19
