"""The thief: changes a ledger's file behind its back, and puts the triggers back so that nothing looks different."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


@contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger's file with its triggers out of the way; they stand again afterwards."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f'DROP TRIGGER "{name}"')
    try:
        yield connection
    finally:
        for _, sql in triggers:
            connection.execute(sql)
        connection.close()


def cells(path: Path) -> list[Cell]:
    """Every value of every row of every table, the schema's revision included."""
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
            found += [Cell(table, column, key, values[column]) for column in columns]
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
