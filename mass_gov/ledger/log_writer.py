"""The one place where the two engines write the log differently.

SQLite inserts rows; its file's permissions say who may. On PostgreSQL the application's role may not insert into the
log at all: it calls `append`, which belongs to the owner of the tables (migration 0003), once per kind of row or with
several kinds at once. Triggers check both ways alike.

What every append does, whatever it writes, goes to the driver as it is: where the log ends, and the rows of its events.
The toolkit's way to run a statement takes longer than SQLite takes to run it. It is the same connection and the same
transaction, and what the driver raises is translated where the transaction ends (`Database.translated`). Whatever a
turn may be refused for stays with the toolkit, whose errors the writer tells apart (`writing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import ARRAY, BigInteger, LargeBinary, bindparam, insert, text
from sqlalchemy.engine import Connection

from mass_gov.evidence.merkle import EMPTY_ROOT, Node
from mass_gov.ledger.database import CURSOR, END, LAST
from mass_gov.ledger.schema import artifacts, log_checkpoints

EventRow = tuple[int, bytes, bytes, bytes]
"""(index, leaf, prev_root, root)."""
HeadRow = tuple[int, bytes, bytes | None]
"""(size, note, what the rows of projections add up to)."""


LogEnd = tuple[int, bytes]
"""Where the log ends, as its last row says it: (size, root). What a writer has to know first."""


class LogWriter(Protocol):
    """How rows of the log are written, inside the caller's transaction."""

    def end(self, connection: Connection) -> LogEnd:
        """Where the log ends. Call it under the write lock."""

    def keys(self, connection: Connection) -> dict[str, str]:
        """Key id in use by purpose; empty in a log that was not opened."""

    def nodes(self, connection: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The tree nodes at (level, position), as far as they are there, in one statement."""

    def mark(self, connection: Connection, again: bool) -> None:
        """Set a savepoint to which `undo` goes back; `again` where one was set before in this transaction."""

    def undo(self, connection: Connection) -> None:
        """Go back to the savepoint, which stays set."""

    def artifact(self, connection: Connection, digest: bytes, stored: bytes) -> None:
        """Write a sealed artifact."""

    def events(
        self,
        connection: Connection,
        events: Sequence[EventRow],
        nodes: Sequence[Node],
        head: HeadRow | None = None,
    ) -> None:
        """Write events with consecutive indices, the tree nodes that they complete, and the signed head over them."""

    def checkpoint(self, connection: Connection, size: int, note: bytes) -> None:
        """Write a signed head."""


def log_writer(connection: Connection) -> LogWriter:
    """The way of the engine at hand."""
    return _CALLS if connection.dialect.name == "postgresql" else _ROWS


def _driver(connection: Connection) -> Any:
    """The driver's own connection, inside the transaction that the toolkit began."""
    return connection.connection.driver_connection


LAST_QUERY = 'SELECT "index" + 1, root FROM log_events ORDER BY "index" DESC LIMIT 1'
"""(size, root). It runs under the lock."""
_KEYS = "SELECT purpose, key FROM log_keys WHERE to_index IS NULL"


class _Common:
    def keys(self, connection: Connection) -> dict[str, str]:
        return dict(_driver(connection).execute(_KEYS).fetchall())

    def mark(self, connection: Connection, again: bool) -> None:
        driver = _driver(connection)
        if again and connection.dialect.name == "postgresql":
            driver.execute("RELEASE SAVEPOINT turn; SAVEPOINT turn")  # one round trip
            return
        if again:
            driver.execute("RELEASE SAVEPOINT turn")
        driver.execute("SAVEPOINT turn")

    def undo(self, connection: Connection) -> None:
        _driver(connection).execute("ROLLBACK TO SAVEPOINT turn")


class _Rows(_Common):
    """Plain INSERT."""

    _event = 'INSERT INTO log_events ("index", leaf, prev_root, root) VALUES (?, ?, ?, ?)'
    _node = "INSERT INTO log_nodes (level, position, hash) VALUES (?, ?, ?)"
    _head = "INSERT INTO log_checkpoints (size, note, tally) VALUES (?, ?, ?)"
    # Made once: building a statement takes longer than running it.
    _checkpoint, _artifact = insert(log_checkpoints), insert(artifacts)

    def end(self, connection: Connection) -> LogEnd:
        return _driver(connection).execute(LAST_QUERY).fetchone() or (0, EMPTY_ROOT)

    def nodes(self, connection: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        # A join that says which side is looked up in which: as a list of alternatives the whole table is read.
        wanted = ", ".join(["(?, ?)"] * len(places))
        query = (
            f"WITH wanted (level, position) AS (VALUES {wanted}) "  # noqa: S608 - question marks
            "SELECT n.level, n.position, n.hash FROM wanted CROSS JOIN log_nodes AS n "
            "WHERE n.level = wanted.level AND n.position = wanted.position"
        )
        rows = _driver(connection).execute(query, [number for place in places for number in place])
        return {(level, position): digest for level, position, digest in rows}

    def artifact(self, connection: Connection, digest: bytes, stored: bytes) -> None:
        connection.execute(self._artifact, {"digest": digest, "stored": stored})

    def events(
        self,
        connection: Connection,
        events: Sequence[EventRow],
        nodes: Sequence[Node],
        head: HeadRow | None = None,
    ) -> None:
        driver = _driver(connection)
        driver.executemany(self._event, events)
        driver.executemany(self._node, nodes)
        if head is not None:
            driver.execute(self._head, head)

    def checkpoint(self, connection: Connection, size: int, note: bytes) -> None:
        connection.execute(self._checkpoint, {"size": size, "note": note})


_ARRAYS: dict[str, ARRAY[Any]] = {
    **dict.fromkeys(("digests", "stored", "leaves", "prev_roots", "roots", "hashes"), ARRAY(LargeBinary)),
    **dict.fromkeys(("levels", "positions"), ARRAY(BigInteger)),
}
_NOTHING: dict[str, Any] = {name: [] for name in _ARRAYS} | dict.fromkeys(("first", "size", "note", "tally"))
_EVENTS = (
    "SELECT append('{}', '{}', %s, %s::bytea[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bytea[], "
    "%s, %s, %s)"
)
# LIMIT 1 keeps each a look-up by the primary key: left to plan a join, a server without statistics reads whole levels.
_NODES = (
    'SELECT wanted.level, wanted."position", n.hash '
    'FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (level, "position"), LATERAL (SELECT hash FROM log_nodes '
    'WHERE log_nodes.level = wanted.level AND log_nodes."position" = wanted."position" LIMIT 1) AS n'
)


def cursor_of(connection: Connection) -> Any:
    """A server connection's cursor for what every append does: making one takes longer than using it."""
    kept = connection.info.get(CURSOR)
    if kept is None:
        kept = connection.info[CURSOR] = _driver(connection).cursor()
    return kept


def _bytea(values: Sequence[bytes]) -> str:
    """A PostgreSQL array as text: the driver takes longer to find out what is in a list than the server to read it."""
    return "{" + ",".join(f'"\\\\x{value.hex()}"' for value in values) + "}"


def _bigint(values: Sequence[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


class _Calls(_Common):
    """`append`, with empty arrays for what a call has nothing of."""

    def end(self, connection: Connection) -> LogEnd:
        found: LogEnd | None = connection.info.pop(END, None)  # asked together with the lock, where there is one
        return found or cursor_of(connection).execute(LAST_QUERY).fetchone() or (0, EMPTY_ROOT)

    def nodes(self, connection: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        levels, positions = (list(column) for column in zip(*places, strict=True))
        rows = _driver(connection).execute(_NODES, (levels, positions), binary=True)
        return {(level, position): digest for level, position, digest in rows}

    _append = text(
        "SELECT append(:digests, :stored, :first, :leaves, :prev_roots, :roots, :levels, :positions, :hashes, "
        ":size, :note, :tally)"
    ).bindparams(
        *(bindparam(name, type_=kind) for name, kind in _ARRAYS.items()),
        bindparam("first", type_=BigInteger()),
        bindparam("size", type_=BigInteger()),
        bindparam("note", type_=LargeBinary()),
        bindparam("tally", type_=LargeBinary()),
    )

    def artifact(self, connection: Connection, digest: bytes, stored: bytes) -> None:
        self._call(connection, digests=[digest], stored=[stored])

    def events(
        self,
        connection: Connection,
        events: Sequence[EventRow],
        nodes: Sequence[Node],
        head: HeadRow | None = None,
    ) -> None:
        size, note, tally = head if head is not None else (None, None, None)
        indices, leaves, prev_roots, roots = (list(column) for column in zip(*events, strict=True))
        levels, positions, hashes = (list(column) for column in zip(*nodes, strict=True))
        arrays = (*map(_bytea, (leaves, prev_roots, roots)), _bigint(levels), _bigint(positions), _bytea(hashes))
        cursor_of(connection).execute(_EVENTS, (indices[0], *arrays, size, note, tally))
        connection.info[LAST] = (indices[-1], roots[-1])  # what a commit is known by, should its answer be lost

    def checkpoint(self, connection: Connection, size: int, note: bytes) -> None:
        self._call(connection, size=size, note=note)

    def _call(self, connection: Connection, **given: Any) -> None:
        connection.execute(self._append, _NOTHING | given)


_ROWS, _CALLS = _Rows(), _Calls()
