"""The thief: changes a ledger behind its back, and puts the triggers back so that nothing looks different.

On PostgreSQL the thief is a superuser, and speaks SQLite's dialect: what tests say to the one is said to the other.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mass_gov.ledger import Address
from tests.fakes.engines import address_of


@dataclass(frozen=True)
class Cell:
    """One value of one row, addressed by its primary key."""

    table: str
    column: str
    key: tuple[tuple[str, Any], ...]
    value: Any


def copy_of(home: Path, to: Path) -> Path:
    """Copy a closed home; returns the copy's database file."""
    shutil.copytree(home, to, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    return to / "ledger.db"


class Thief(Protocol):
    """What a test needs of a connection."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        """Run a statement with `?` for parameters."""

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Any:
        """Run a statement once per row."""


class _Superuser:
    """A superuser of the server who writes SQL as SQLite reads it."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True, options="-c search_path=mass_gov,pg_temp")

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self._connection.execute(_dialect(sql), tuple(parameters))

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            self.execute(sql, row)

    def switch_triggers(self, how: str) -> None:
        """`DISABLE`, or `ENABLE ALWAYS` as the migrations do, every trigger."""
        query = (
            "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'mass_gov' AND NOT t.tgisinternal"
        )
        for table, trigger in self._connection.execute(query).fetchall():
            self._connection.execute(f"ALTER TABLE {table} {how} TRIGGER {trigger}")

    def close(self) -> None:
        self._connection.close()


def _dialect(sql: str) -> str:
    sql = sql.replace("%", "%%").replace(" IS ?", " IS NOT DISTINCT FROM %s").replace("?", "%s")
    sql = re.sub(r"\bx'([0-9a-fA-F]*)'", r"'\\x\1'::bytea", sql)
    sql = re.sub(r"zeroblob\((\d+|length\(\w+\))\)", r"decode(repeat('00', \1), 'hex')", sql)
    return sql.replace("<< level", "<< level::int")


@contextmanager
def editing(where: Path | Address) -> Iterator[Thief]:
    """Open a ledger (a file, an address, or the home that it belongs to) as another program would, triggers and all."""
    address = where if isinstance(where, Address) else address_of(where) if where.is_dir() else Address.of(where)
    if address.path is not None:
        connection = sqlite3.connect(address.path, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()
        return
    from tests.fakes.postgres_server import server

    superuser = _Superuser(server().superuser_url(address.short))
    try:
        yield superuser
    finally:
        superuser.close()


@contextmanager
def tampering(where: Path | Address) -> Iterator[Thief]:
    """Open a ledger with its triggers out of the way; they stand again afterwards."""
    with editing(where) as connection:
        if isinstance(connection, _Superuser):
            connection.switch_triggers("DISABLE")
            try:
                yield connection
            finally:
                connection.switch_triggers("ENABLE ALWAYS")
            return
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        try:
            yield connection
        finally:
            for _, sql in triggers:
                connection.execute(sql)


def cells(path: Path) -> list[Cell]:
    """Every value of every row of every table, the schema's revision included; an empty one has no bit to flip."""
    connection = sqlite3.connect(path)
    found = []
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    for table in names:
        info = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        columns = [column[1] for column in info]
        keys = [column[1] for column in info if column[5]] or columns
        for row in connection.execute(f'SELECT * FROM "{table}"'):
            values = dict(zip(columns, row, strict=True))
            key = tuple((name, values[name]) for name in keys)
            found += [Cell(table, column, key, values[column]) for column in columns if values[column] not in ("", b"")]
    connection.close()
    return found


def flip(path: Path, cell: Cell, position: int, bit: int) -> bool:
    """Flip one bit of a value; a NULL becomes 0 or an empty text. False when another row has the new key."""
    wanted = " AND ".join(f'"{name}" IS ?' for name, _ in cell.key)
    new, cast = _flipped(cell.value, position, bit)
    with tampering(path) as connection:
        try:
            done = connection.execute(
                f'UPDATE "{cell.table}" SET "{cell.column}" = {cast} WHERE {wanted}',
                (new, *(value for _, value in cell.key)),
            )
        except sqlite3.IntegrityError:
            return False
        assert done.rowcount == 1
    return True


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, to see whether anything differs."""
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    names = [r[0].decode() for r in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: connection.execute(f'SELECT * FROM "{name}" NOT INDEXED').fetchall() for name in names}
    connection.close()
    return found


def _flipped(value: Any, position: int, bit: int) -> tuple[Any, str]:
    if value is None:
        return 0, "?"
    if isinstance(value, int):
        return value ^ (1 << (position % 31)), "?"
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[position % len(data)] ^= 1 << bit
    return bytes(data), "CAST(? AS TEXT)" if isinstance(value, str) else "?"
