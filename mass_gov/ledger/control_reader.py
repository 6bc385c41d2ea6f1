"""Reading whether learning goes on, and where a pointer stood at another moment.

Rules: order is by index, never by clock. As of an index means right after that event. A time is what the operator's
clock said when an event was written: as of a time means the newest movement, by index, whose event says a time that is
not later. Where the clock ran backwards there is another reading (an earlier movement says a later time than the one
that was asked for), and the answer says so: ask by index then.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import RowMapping

from mass_gov.errors import NotFoundError
from mass_gov.evidence.state import state_digest
from mass_gov.ledger.control_rules import frozen_row
from mass_gov.ledger.history import HistoryReader
from mass_gov.ledger.schema import controls
from mass_gov.ledger.views import FreezeView, PointerAsOf, PointerMove, PointerView, StateView


class ControlReader(HistoryReader):
    """The part of a ledger that answers questions about control and about pointers' pasts. Made by `Ledger.open`."""

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

    def pointer_as_of(
        self, tenant: str, deployment: str, *, index: int | None = None, time: str | None = None
    ) -> PointerAsOf:
        """Where a pointer stood right after the event `index`, or at a time (RFC 3339, UTC, as events say it).

        Raises:
            NotFoundError: the log has no event of that index yet.
        """
        if index is not None and not 0 <= index < self.size:
            raise NotFoundError(f"The log has {self.size} events and none of index {index}. Name one of them.")
        moves = self.pointer_history(tenant, deployment)
        found, twofold = [move for move in moves if index is None or move.index <= index], False
        if time is not None:
            times = {move.index: self.entry(move.index).predicate.time for move in found}
            found = [move for move in found if times[move.index] <= time]
            last = found[-1].index if found else -1
            twofold = any(index < last and at > time for index, at in times.items())
        if not found:
            return PointerAsOf(PointerView(tenant, deployment, None, None, None, None), None, twofold)
        return PointerAsOf(_stood(found[-1]), self.entry(found[-1].index).predicate.time, twofold)

    def pointer_stack(self, tenant: str, deployment: str) -> list[StateView]:
        """The states that a pointer's present one stands on, oldest first: its base, then each active change's.

        Empty where the pointer never moved, since no model is named then.
        """
        pointer = self.pointer(tenant, deployment)
        if pointer.base_model is None:
            return []
        made = [StateView(change.body.update.state, change) for change in self.active(tenant, deployment)]
        return [StateView(state_digest(pointer.base_model, None), None), *made]


def _stood(move: PointerMove) -> PointerView:
    return PointerView(move.tenant, move.deployment, move.to_state, move.to_change, move.index, move.base_model)


def _freeze(row: RowMapping) -> FreezeView:
    return FreezeView(**row)
