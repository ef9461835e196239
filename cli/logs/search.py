"""Words in kept conversations: by SQLite's full-text index, or by comparing letters.

The index grows when something is sought, so that no chat waits for it. Where this
machine's SQLite has none, or a word is not one to it, letters are compared.
"""

import sqlite3
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from .opening import SEARCH
from .store import Store

AROUND = 40  # letters shown on both sides of a word that was found
INDEXED = "m.id IN (SELECT rowid FROM search WHERE search MATCH :query)"


@dataclass(frozen=True)
class Match:
    """A message in which all words were found, and the text around one of them."""

    conversation: int
    name: str | None
    role: str
    created: float
    excerpt: str


def search(store: Store, words: Sequence[str], limit: int) -> list[Match]:
    """Messages that hold all of `words`, the last first; words that begin so count, and
    accents and capitals do not. Raises sqlite3.Error."""
    plain = [folded(word) for word in words]
    compared = "holds(m.text)"
    by_index = all(map(is_word, words)) and update_index(store)
    where = f"{INDEXED} OR NOT m.indexed AND {compared}" if by_index else compared

    def holds(text: str) -> bool:
        text = folded(text)
        return all(word in text for word in plain)

    store.db.create_function("holds", 1, holds, deterministic=True)
    rows = store.db.execute(
        "SELECT c.id, c.name, m.role, m.created, m.text"
        " FROM message m JOIN conversation c ON c.id = m.conversation"
        f" WHERE {where} ORDER BY m.id DESC LIMIT :limit",
        {"query": " ".join(f'"{word}"*' for word in words), "limit": limit},
    )
    return [
        Match(number, name, role, created, excerpt(text, plain))
        for number, name, role, created, text in rows
    ]


def update_index(store: Store) -> bool:
    """Indexes what came since; whether there is an index. A message that may still grow
    is left out."""
    fresh = "NOT indexed AND finish IS NOT NULL"
    try:
        with store.at_once():
            store.db.execute(SEARCH)
            store.db.execute(
                "INSERT INTO search (rowid, text)"
                f" SELECT id, text FROM message WHERE {fresh}"
            )
            store.db.execute(f"UPDATE message SET indexed = 1 WHERE {fresh}")
    except sqlite3.OperationalError:  # without FTS5, or to be read only
        return False
    return True


def folded(text: str) -> str:
    """`text` without capitals and accents."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(c for c in letters if not unicodedata.combining(c)).casefold()


def is_word(word: str) -> bool:
    """Whether the index knows it as a word: not with signs in it, and not of a script
    that puts no blanks between words."""
    return word.isalnum() and all(c < "\u0e00" for c in word)


def excerpt(text: str, words: Sequence[str]) -> str:
    """The text around the first of `words`, on one line."""
    line = " ".join(text.split())
    at = max(folded(line).find(words[0]), 0)
    start, end = max(at - AROUND, 0), at + len(words[0]) + AROUND
    before, after = "…" if start else "", "…" if end < len(line) else ""
    return f"{before}{line[start:end]}{after}"
