"""How rows of projections come to be, change and go: with what counts them, where something does (`tally`).

Whatever a rule writes, it writes here; `marks`, which writes many at once, counts them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table, and_, delete, insert, update
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.sql import ColumnElement

from mass_gov.ledger.tally import followed


def put(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Write a new row; columns that it does not name are NULL."""
    connection.execute(insert(table), row)
    if (tally := followed(connection)) is not None:
        tally.add(table, row)


def alter(connection: Connection, table: Table, row: RowMapping, values: Mapping[str, Any]) -> None:
    """Give a row, as it was read in this transaction, other values."""
    connection.execute(update(table).where(_this(table, row)).values(**values))
    if (tally := followed(connection)) is not None:
        tally.take(table, row)
        tally.add(table, {**row, **values})


def drop(connection: Connection, table: Table, row: RowMapping) -> None:
    """Take a row away, as it was read in this transaction."""
    connection.execute(delete(table).where(_this(table, row)))
    if (tally := followed(connection)) is not None:
        tally.take(table, row)


def _this(table: Table, row: RowMapping) -> ColumnElement[bool]:
    return and_(*(column == row[column.name] for column in table.primary_key.columns))
