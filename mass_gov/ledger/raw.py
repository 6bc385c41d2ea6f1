"""The auditor's view: rows as they lie, with no belief in any of them, and a copy to compare projections with.

Rules: everything is read in one snapshot, in order of primary keys, streaming, by the driver itself; nothing is
interpreted, so a damaged value arrives as it is, whatever its type. The copy is made by the same migrations and filled
by the same rules as the original, and differs from it only where the original does not follow from its log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, cast

from sqlalchemy import ClauseElement, Select, Table, func, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.sql.compiler import SQLCompiler

from mass_gov.errors import IntegrityError, LedgerUnavailableError, RefusedError
from mass_gov.evidence.keyring import KeyRing
from mass_gov.ledger import catalogue, projector, transitions
from mass_gov.ledger.address import Address
from mass_gov.ledger.database import Database
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.keyrings import bring_up
from mass_gov.ledger.marks import Tail
from mass_gov.ledger.migrate import check_revision, copy_engine
from mass_gov.ledger.notebook import Notebook
from mass_gov.ledger.schema import OLDER_REVISIONS, artifacts, log_checkpoints, log_events, log_nodes
from mass_gov.ledger.storage import StorageCheck, check_storage

Row = tuple[object, ...]
_FEW, _MANY = 128, 1024
"""Rows that a server sends at a time: few of what may be megabytes long, many of the log's own."""


class RawLedger:
    """One snapshot of the stored rows. Use `RawLedger.open` in a `with` statement.

    Every method raises IntegrityError where SQLite finds the file damaged, and may be followed by others.
    """

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection
        self._cursors = 0

    @classmethod
    @contextmanager
    def open(cls, where: Address | Path | str) -> Iterator[RawLedger]:
        """Read a ledger without checking, migrating or writing anything.

        Raises:
            LedgerUnavailableError: it cannot be read at all.
            IntegrityError: it is no SQLite database any more.
        """
        database = open_database(where, writable=False)
        try:
            with database.read() as connection:
                yield cls(database, connection)
        except LedgerUnavailableError as error:
            if database.is_no_database(error):
                problem = f"{database.address} is no SQLite database any more. Restore a back-up."
                raise IntegrityError(problem) from error
            raise
        finally:
            database.close()

    def schema(self) -> dict[str, str]:
        """What every table, index and trigger is, by its kind and name; on a server also functions and privileges."""
        self._recover()
        with self._database.translated():
            return schema_of(self._connection)

    def wanted_schema(self, replica: Replica) -> dict[str, str]:
        """What `schema` gives where nobody touched anything."""
        return wanted_schema(self._connection, replica)

    def revisions(self) -> list[Row]:
        """Rows of `alembic_version`."""
        return list(self._stream(_REVISIONS))

    def refuse_older(self) -> None:
        """Refuse a database that says an older release made its schema.

        Raises:
            LedgerUnavailableError: it says so; the message tells how to bring it up.
        """
        rows = self.revisions()
        if len(rows) == 1 and rows[0][0] in OLDER_REVISIONS:
            check_revision(rows[0][0], self._database.address)

    def storage(self) -> StorageCheck:
        """What the engine's own check of pages and indexes finds."""
        self._recover()
        with self._database.translated():
            return check_storage(self._connection)

    def count(self, table: Table) -> int:
        """Number of rows, for progress."""
        return int(str(next(self._stream(select(func.count()).select_from(table)))[0]))

    def events(self) -> Iterator[Row]:
        """(index, leaf, prev_root, root)."""
        return self._stream(in_order(log_events), _MANY)

    def event_blocks(self, size: int) -> Iterator[list[Row]]:
        """Rows of `events`, so many at a time."""
        rows = self.events()
        while block := list(islice(rows, size)):
            yield block

    def leaves(self, start: int, stop: int) -> Iterator[Row]:
        """(index, leaf) with indexes from `start` to before `stop`."""
        wanted = (log_events.c.index >= start) & (log_events.c.index < stop)
        query = select(log_events.c.index, log_events.c.leaf).where(wanted).order_by(log_events.c.index)
        return self._stream(query, _MANY)

    def notes(self, start: int, stop: int) -> Iterator[Row]:
        """(size, note) of the signed heads with sizes from `start` to before `stop`."""
        wanted = (log_checkpoints.c.size >= start) & (log_checkpoints.c.size < stop)
        return self._stream(_HEADS.where(wanted), _MANY)

    def learn_keys(self, keys: KeyRing) -> None:
        """Teach the ring what the log says about keys, without reading all of it (`keyrings.bring_up`).

        Raises:
            IntegrityError: an event that changes keys does not verify, or is none.
        """
        with self._database.translated():
            bring_up(self._connection, keys)

    def nodes(self, level: int) -> Iterator[Row]:
        """(position, hash) of one level of the tree."""
        query = select(log_nodes.c.position, log_nodes.c.hash).where(log_nodes.c.level == level)
        return self._stream(query.order_by(log_nodes.c.position), _MANY)

    def levels(self) -> list[object]:
        """Every level that has a node."""
        return [row[0] for row in self._stream(select(log_nodes.c.level).distinct().order_by(log_nodes.c.level))]

    def checkpoints(self) -> Iterator[Row]:
        """(size, note)."""
        return self._stream(_HEADS, _MANY)

    def artifacts(self) -> Iterator[Row]:
        """(digest, stored), in the order of the table itself: an index could hide a changed digest."""
        return self._stream(select(artifacts))

    def artifact(self, digest: str) -> bytes | None:
        """The stored bytes of one artifact; None when there is no such row."""
        row = next(self._stream(select(artifacts.c.stored).where(artifacts.c.digest == bytes.fromhex(digest))), None)
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def rows(self, table: Table) -> Iterator[Row]:
        """Every row of a table, in order of its primary key."""
        return self._stream(in_order(table))

    def _stream(self, query: ClauseElement, batch: int = _FEW) -> Iterator[Row]:
        self._recover()
        with self._database.translated():
            yield from self._execute(query, batch)

    def _execute(self, query: ClauseElement, batch: int) -> Iterator[Row]:
        """Begin to read. A table that is missing does not end a server's transaction for those who read beside this.

        Rows come from the driver as they are: the toolkit takes longer for a row than a proof takes for its hash.
        """
        compiled = cast(SQLCompiler, query.compile(dialect=self._connection.dialect))
        driver: Any = self._connection.connection.driver_connection
        if self._connection.dialect.name != "postgresql":
            values = [compiled.params[name] for name in compiled.positiontup or ()]
            return iter(driver.execute(str(compiled), values))
        self._cursors += 1
        cursor: Any = driver.cursor(f"raw_{self._cursors}")  # a named one: the server keeps what was not asked for yet
        cursor.itersize = batch
        with self._connection.begin_nested():
            cursor.execute(str(compiled), compiled.params, binary=True)
        return iter(cursor)

    def _recover(self) -> None:
        """A page that cannot be read ends a server's transaction: what is still to be read is read in a new one.

        Its snapshot may be a later one. The verdict is "wrong" by then, whatever else is found.
        """
        if self._database.has_failed(self._connection):
            self._connection.rollback()


class Replica:
    """Projections derived from the log, in a temporary database on disk (`notebook`)."""

    def __init__(self) -> None:
        self._engine = copy_engine()
        self._connection = self._engine.connect()
        self._notes = Notebook()
        self._tail = Tail()

    def schema(self) -> dict[str, str]:
        """SQL of every table, index and trigger that the migrations make, by its kind and name."""
        return schema_of(self._connection)

    def revisions(self) -> list[Row]:
        """Rows of `alembic_version` that the migrations leave."""
        return [tuple(row) for row in self._connection.execute(_REVISIONS)]

    def apply(self, entry: Entry) -> None:
        """Replay one event. An event that breaks a rule leaves the copy as it was.

        Raises:
            MassGovError: the rule that it breaks.
        """
        with self._connection.begin_nested():
            self.follow(entry)

    def follow(self, entry: Entry) -> None:
        """Replay one event as `apply` does, for a caller who forgets the copy at the first broken rule."""
        event_id = entry.predicate.event_id
        if self._notes.note("event", event_id) is not None:  # who writes makes new ones; a forger can use one twice
            raise RefusedError(f"Event {entry.index} has the id of an earlier event, {event_id}. Restore it.")
        projector.apply(self._connection, entry)
        self._tail.add(self._connection, entry)

    def settle(self, entries: Sequence[Entry]) -> None:
        """Check the end of one append.

        Raises:
            RefusedError: as `transitions.settle`.
        """
        transitions.settle(self._connection, entries)

    def rows(self, table: Table) -> Iterator[Row]:
        """Every row of a projection, in order of its primary key."""
        return (tuple(row) for row in self._connection.execute(in_order(table)))

    def close(self) -> None:
        """Forget the copy."""
        self._connection.close()
        self._engine.dispose()
        self._notes.close()


_REVISIONS = text("SELECT version_num FROM alembic_version")
_HEADS = select(log_checkpoints.c.size, log_checkpoints.c.note).order_by(log_checkpoints.c.size)
"""Without what the rows of projections add up to: that proves nothing."""


def in_order(table: Table) -> Select[tuple[Any, ...]]:
    """Every row, in order of the primary key."""
    return select(table).order_by(*table.primary_key.columns)


def wanted_schema(connection: Connection, replica: Replica) -> dict[str, str]:
    """What `schema_of` gives where nobody touched anything: of SQLite the replica's, of a server what was recorded."""
    return catalogue.recorded() if connection.dialect.name == "postgresql" else replica.schema()


def schema_of(connection: Connection) -> dict[str, str]:
    """What every table, index and trigger is, by its kind and name."""
    if connection.dialect.name == "postgresql":
        return catalogue.describe(connection)
    # What ANALYZE leaves is no part of it, by its exact names: a trigger may be called sqlite_stat9 by whoever edits
    # the schema as text.
    query = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    return {
        f"{kind} {name}": str(sql)
        for kind, name, sql in connection.execute(text(query))
        if not (kind == "table" and name in ("sqlite_stat1", "sqlite_stat4"))
    }
