"""The auditor's view: rows as they lie, with no belief in any of them, and a copy to compare projections with.

Rules: everything is read in one snapshot, in order of primary keys, streaming; nothing is interpreted, so a damaged
value arrives as it is, whatever its type. The copy is made by the same migrations and filled by the same rules as the
original, and differs from it only where the original does not follow from its log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Table, select, text
from sqlalchemy.engine import Connection

from mass_gov.errors import MassGovError
from mass_gov.ledger import projector, transitions
from mass_gov.ledger.database import Database
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.migrate import memory_engine
from mass_gov.ledger.schema import PROJECTIONS, artifacts, log_checkpoints, log_events, log_nodes

Row = tuple[object, ...]


class RawLedger:
    """One snapshot of the stored rows. Use `RawLedger.open` in a `with` statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[RawLedger]:
        """Read a file without checking, migrating or writing anything.

        Raises:
            LedgerUnavailableError: it cannot be read at all.
            IntegrityError: SQLite finds it damaged while it is read.
        """
        database = Database(path, writable=False)
        try:
            with database.read() as connection:
                yield cls(connection)
        finally:
            database.close()

    def schema(self) -> dict[str, str]:
        """SQL of every table, index and trigger, by its kind and name."""
        return _schema(self._connection)

    def revisions(self) -> list[Row]:
        """Rows of `alembic_version`."""
        return self._all("SELECT version_num FROM alembic_version")

    def storage_faults(self) -> list[str]:
        """What SQLite's own check of pages, cells and indexes finds."""
        return [str(row[0]) for row in self._all("PRAGMA integrity_check(20)") if row[0] != "ok"]

    def events(self) -> Iterator[Row]:
        """(index, leaf, prev_root, root)."""
        return self._rows(log_events)

    def nodes(self, level: int) -> Iterator[Row]:
        """(position, hash) of one level of the tree."""
        query = select(log_nodes.c.position, log_nodes.c.hash).where(log_nodes.c.level == level)
        return (tuple(row) for row in self._stream(query.order_by(log_nodes.c.position)))

    def levels(self) -> list[object]:
        """Every level that has a node."""
        return [row[0] for row in self._all("SELECT DISTINCT level FROM log_nodes ORDER BY level")]

    def checkpoints(self) -> Iterator[Row]:
        """(size, note)."""
        return self._rows(log_checkpoints)

    def artifacts(self) -> Iterator[Row]:
        """(digest, stored), in the order of the table itself: an index could hide a changed digest."""
        return (tuple(row) for row in self._stream(select(artifacts)))

    def projection(self, table: Table) -> Iterator[Row]:
        """Rows of one projection."""
        return self._rows(table)

    def _rows(self, table: Table) -> Iterator[Row]:
        return (tuple(row) for row in self._stream(select(table).order_by(*table.primary_key.columns)))

    def _stream(self, query: object) -> Iterator[Row]:
        return iter(self._connection.execution_options(yield_per=128).execute(query))  # type: ignore[call-overload]

    def _all(self, sql: str) -> list[Row]:
        return [tuple(row) for row in self._connection.execute(text(sql))]


class Replica:
    """Projections derived from the log, in memory."""

    def __init__(self) -> None:
        self._engine = memory_engine()
        self._connection = self._engine.connect()

    def schema(self) -> dict[str, str]:
        """SQL of every table, index and trigger that the migrations make, by its kind and name."""
        return _schema(self._connection)

    def apply(self, entry: Entry) -> None:
        """Replay one event. An event that breaks a rule leaves the copy as it was.

        Raises:
            MassGovError: the rule that it breaks.
        """
        savepoint = self._connection.begin_nested()
        try:
            projector.apply(self._connection, entry)
        except MassGovError:
            savepoint.rollback()
            raise
        savepoint.commit()

    def settle(self, entries: Sequence[Entry]) -> None:
        """Check the end of one append.

        Raises:
            RefusedError: as `transitions.settle`.
        """
        transitions.settle(self._connection, entries)

    def rows(self, table: Table) -> Iterator[Row]:
        """Rows of one projection, in order of its primary key."""
        query = select(table).order_by(*table.primary_key.columns)
        return (tuple(row) for row in self._connection.execute(query))

    def close(self) -> None:
        """Forget the copy."""
        self._connection.close()
        self._engine.dispose()


def projections() -> tuple[Table, ...]:
    """The tables that are derived from the log."""
    return PROJECTIONS


def _schema(connection: Connection) -> dict[str, str]:
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name"
    return {f"{kind} {name}": str(sql) for kind, name, sql in connection.execute(text(query))}
