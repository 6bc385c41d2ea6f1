"""Reading whether learning goes on, and where a pointer stood at another moment.

Rules: order is by index, never by clock. A time is what the operator's clock said when an event was written, so an
answer as of a time says which movement it means, and whether the clock ran backwards around it.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import RowMapping

from mass_gov.ledger.control_rules import frozen_row
from mass_gov.ledger.history import HistoryReader
from mass_gov.ledger.schema import controls
from mass_gov.ledger.views import FreezeView


class ControlReader(HistoryReader):
    """The part of a ledger that answers questions about control. Made by `Ledger.open`."""

    def frozen(self, tenant: str, deployment: str) -> FreezeView | None:
        """The freeze in force for a deployment: of everything, or of it; None while it may learn."""
        with self._database.read() as connection:
            row = frozen_row(connection, tenant, deployment)
        return _freeze(row) if row is not None else None

    def freezes(self, *, standing: bool = False) -> list[FreezeView]:
        """Every freeze in the order of the log, or only those in force."""
        query = select(controls).order_by(controls.c.index)
        if standing:
            query = query.where(controls.c.ended_index.is_(None))
        with self._database.read() as connection:
            return [_freeze(row) for row in connection.execute(query).mappings()]


def _freeze(row: RowMapping) -> FreezeView:
    return FreezeView(**row)
