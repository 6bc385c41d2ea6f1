"""What a verification has to remember of every event, on disk instead of in memory.

Rules: the notes lie in a temporary database of SQLite's own making, which only this user can read (mode 0600), has no
name from the moment it is made, and is gone when it is closed, however the process ends. Pages beyond a small cache go
to the disk (`TMPDIR` says which). Nothing secret is noted.

This module does not know what is noted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator


class Notebook:
    """Texts under a kind and a key. Not thread-safe; close it, or use `with`."""

    def __init__(self) -> None:
        self._connection = scratch_database()
        self._connection.execute(
            "CREATE TABLE notes (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, "
            "text TEXT NOT NULL, UNIQUE (kind, key)) STRICT"
        )
        self._connection.execute("BEGIN")  # never committed: nothing here is to survive

    def note(self, kind: str, key: str, text: str = "") -> str | None:
        """Note a text where there is none yet; returns the one that is there already, else None."""
        query = "INSERT OR IGNORE INTO notes (kind, key, text) VALUES (?, ?, ?)"
        new = self._connection.execute(query, (kind, key, text))
        return None if new.rowcount else self.find(kind, key)

    def find(self, kind: str, key: str) -> str | None:
        """The text of a key, None when there is none."""
        row = self._connection.execute("SELECT text FROM notes WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else str(row[0])

    def take(self, kind: str, key: str) -> str | None:
        """The text of a key, which is forgotten; None when there is none."""
        query = "DELETE FROM notes WHERE kind = ? AND key = ? RETURNING text"
        row = self._connection.execute(query, (kind, key)).fetchone()
        return None if row is None else str(row[0])

    def rest(self, kind: str) -> Iterator[tuple[str, str]]:
        """(key, text) of what is left of a kind, in the order in which it was noted."""
        rows = self._connection.execute("SELECT key, text FROM notes WHERE kind = ? ORDER BY number", (kind,))
        return ((str(key), str(text)) for key, text in rows)

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()


def scratch_database() -> sqlite3.Connection:
    """A temporary database on disk (https://sqlite.org/inmemorydb.html, "Temporary Databases"), as this module says."""
    return sqlite3.connect("", isolation_level=None, check_same_thread=False)
