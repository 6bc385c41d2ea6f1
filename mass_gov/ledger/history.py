"""Reading what happened: changes, pointers, responses. Answers come from projections, bodies from signed entries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import case, exists, func, select
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.sql import ColumnElement, Select

from mass_gov.errors import InputError, IntegrityError, NotFoundError
from mass_gov.evidence.keyring import KeyRing
from mass_gov.ledger import lookups
from mass_gov.ledger.entries import Entry, read_entry
from mass_gov.ledger.heads import HeadReader
from mass_gov.ledger.schema import approvals, changes, log_events, pointer_moves, pointers, responses, subjects
from mass_gov.ledger.views import ApprovalView, ChangeView, PointerMove, PointerView, ResponseView, Status
from mass_gov.records.events import ChangeRecorded

_PREFIX = re.compile(r"[0-9a-f-]{8,36}")


class HistoryReader(HeadReader):
    """The part of a ledger that answers questions about changes. Made by `Ledger.open`."""

    def change(self, change_id: str) -> ChangeView:
        """One change, by its id or by at least 8 characters that begin no other id.

        Raises:
            NotFoundError: none.
            InputError: several.
        """
        if not _PREFIX.fullmatch(change_id):
            raise NotFoundError(f"{change_id[:40]!r} is no change id. `mass-gov changes list` shows them.")
        found = self._views(
            changes_with_leaf().where(changes.c.change_id.startswith(change_id, autoescape=True)).limit(2)
        )
        if not found:
            raise NotFoundError(f"There is no change {change_id} in this ledger. `mass-gov changes list` shows them.")
        if len(found) > 1:
            raise InputError(f"Several changes begin with {change_id}. Give more characters of the id.")
        return found[0]

    def changes(
        self,
        *,
        limit: int = 50,
        cursor: int | None = None,
        status: Status | None = None,
        newest_first: bool = True,
    ) -> list[ChangeView]:
        """Changes in the order of the log; `cursor` is the log index of the last one of the page before."""
        query = changes_with_leaf()
        if cursor is not None:
            query = query.where(changes.c.index < cursor if newest_first else changes.c.index > cursor)
        if status is not None:
            query = query.where(changes.c.status == status)
        order = changes.c.index.desc() if newest_first else changes.c.index
        return self._views(query.order_by(order).limit(limit))

    def count_changes(self, status: Status) -> int:
        """How many changes stand so."""
        with self._database.read() as connection:
            query = select(func.count()).select_from(changes).where(changes.c.status == status)
            return int(connection.execute(query).scalar_one())

    def learned(self, tenant: str, deployment: str, *, limit: int) -> list[ChangeView]:
        """The last changes of a deployment that made a new state, oldest first, whatever became of them."""
        wanted = (changes.c.tenant == tenant) & (changes.c.deployment == deployment) & changes.c.delta.is_not(None)
        return self._views(changes_with_leaf().where(wanted).order_by(changes.c.index.desc()).limit(limit))[::-1]

    def active(self, tenant: str, deployment: str) -> list[ChangeView]:
        """The active changes of a deployment, in the order in which they were activated."""
        wanted = (changes.c.tenant == tenant) & (changes.c.deployment == deployment) & (changes.c.status == "active")
        return self._views(changes_with_leaf().where(wanted).order_by(changes.c.activation_index))

    def change_by_request(self, tenant: str, deployment: str, commitment: str) -> ChangeView | None:
        """The change of a task, found by the commitment to its id: the newest, where it was made again."""
        with self._database.read() as connection:
            row = lookups.newest_of_task(connection, tenant, deployment, commitment)
        return self.change(row["change_id"]) if row is not None else None

    def change_of_state(self, state: str, place: tuple[str, str] | None = None) -> ChangeView | None:
        """A change whose delta made a state; None for a bare base or an unknown state.

        Several can have made the same one, of the same question with the same seed: one of a subject that was not
        erased goes first, then one of `place` (tenant and deployment), then the oldest.
        """
        erased = exists().where((subjects.c.subject == changes.c.subject) & subjects.c.erased_index.is_not(None))
        order: list[ColumnElement[Any]] = [case((erased, 1), else_=0)]
        if place is not None:
            here = (changes.c.tenant == place[0]) & (changes.c.deployment == place[1])
            order.append(case((here, 0), else_=1))
        query = changes_with_leaf().where((changes.c.state == state) & changes.c.delta.is_not(None))
        found = self._views(query.order_by(*order, changes.c.index).limit(1))
        return found[0] if found else None

    def active_after(self, change_id: str) -> list[ChangeView]:
        """Later active changes of the same pointer, newest first: what a rollback would strand."""
        with self._database.read() as connection:
            row = lookups.change_row(connection, change_id)
            later = lookups.later_active(connection, row) if row["activation_index"] is not None else []
        return [self.change(later_id) for later_id in later]

    def pointer(self, tenant: str, deployment: str) -> PointerView:
        """Where a pointer stands; one that never moved has neither state nor head."""
        with self._database.read() as connection:
            row = lookups.pointer_row(connection, tenant, deployment)
        if row is None:
            return PointerView(tenant, deployment, None, None, None, None)
        return PointerView(**row)

    def pointers(self) -> list[PointerView]:
        """Every pointer that ever moved."""
        with self._database.read() as connection:
            query = select(pointers).order_by(pointers.c.tenant, pointers.c.deployment)
            return [PointerView(**row) for row in connection.execute(query).mappings()]

    def pointer_history(self, tenant: str, deployment: str) -> list[PointerMove]:
        """Every movement of a pointer, oldest first."""
        wanted = (pointer_moves.c.tenant == tenant) & (pointer_moves.c.deployment == deployment)
        with self._database.read() as connection:
            query = select(pointer_moves).where(wanted).order_by(pointer_moves.c.index)
            return [PointerMove(**row) for row in connection.execute(query).mappings()]

    def move(self, index: int) -> PointerMove:
        """The movement that the event at `index` made.

        Raises:
            NotFoundError: it moved nothing.
        """
        with self._database.read() as connection:
            row = lookups.move_row(connection, index)
        if row is None:
            raise NotFoundError(f"Event {index} moved no pointer. `mass-gov pointers history` lists the movements.")
        return PointerMove(**row)

    def responses(
        self,
        *,
        change_id: str | None = None,
        state: str | None = None,
        between: tuple[int, int] | None = None,
    ) -> list[ResponseView]:
        """Responses of a change, of a state, or with log indices from `between[0]` up to before `between[1]`."""
        conditions: list[ColumnElement[bool]] = []
        if change_id is not None:
            conditions.append(responses.c.change_id == change_id)
        if state is not None:
            conditions.append(responses.c.state == state)
        if between is not None:
            conditions.append((responses.c.index >= between[0]) & (responses.c.index < between[1]))
        return self._responses(*conditions)

    def responses_under(self, state: str, place: tuple[str, str] | None = None) -> list[ResponseView]:
        """Responses that a state answered, or that an update made from that state answered.

        Arguments:
            place: only those of this tenant and deployment; another one can have made the same state.
        """
        made_from = select(changes.c.change_id).where(changes.c.parent_state == state)
        conditions = [(responses.c.state == state) | responses.c.change_id.in_(made_from)]
        if place is not None:
            conditions.append((responses.c.tenant == place[0]) & (responses.c.deployment == place[1]))
        return self._responses(*conditions)

    def affected_responses(self, state: str) -> int:
        """How many answers, of whichever place, a state gave or an update made from it: what its rollback states."""
        with self._database.read() as connection:
            return lookups.affected_responses(connection, state)

    def response(self, response_id: str) -> ResponseView:
        """One response.

        Raises:
            NotFoundError: none of that id.
        """
        found = self._responses(responses.c.response_id == response_id)
        if not found:
            raise NotFoundError(f"There is no response {response_id} in this ledger. Check the id.")
        return found[0]

    def _responses(self, *conditions: ColumnElement[bool]) -> list[ResponseView]:
        with self._database.read() as connection:
            query = select(responses).where(*conditions).order_by(responses.c.index)
            return [ResponseView(**row) for row in connection.execute(query).mappings()]

    def _views(self, query: Select[tuple[object, ...]]) -> list[ChangeView]:
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
            given = _approvals(connection, [row["change_id"] for row in rows])
            keys = self._trusted(connection)
        return [_view(row, given.get(row["change_id"], ()), keys) for row in rows]


@lru_cache(maxsize=512)
def read_once(index: int, leaf: bytes, keys: KeyRing) -> Entry:
    """Read a leaf once per process: the same bytes under the same ring say the same, and windows ask for them again.

    Bytes that changed in the database meanwhile are other bytes, and are read and verified anew.
    """
    return read_entry(index, leaf, keys)


def _view(row: RowMapping, given: tuple[ApprovalView, ...], keys: KeyRing) -> ChangeView:
    entry = read_once(row["index"], bytes(row["leaf"]), keys)
    body = entry.predicate.body
    if not isinstance(body, ChangeRecorded) or body.change.identity.change_id != row["change_id"]:
        raise IntegrityError(f"The row of change {row['change_id']} does not follow from the log. Run verify.")
    return ChangeView(
        change_id=row["change_id"],
        status=row["status"],
        entry=entry,
        body=body.change,
        approvals=given,
        activation_index=row["activation_index"],
        rejection_index=row["rejection_index"],
        rollback_index=row["rollback_index"],
    )


def changes_with_leaf() -> Select[tuple[object, ...]]:
    """Every change's row, with the leaf that recorded it."""
    return select(changes, log_events.c.leaf).join(log_events, log_events.c.index == changes.c.index)


def _approvals(connection: Connection, change_ids: Sequence[str]) -> dict[str, tuple[ApprovalView, ...]]:
    query = select(approvals).where(approvals.c.change_id.in_(change_ids)).order_by(approvals.c.index)
    given: dict[str, tuple[ApprovalView, ...]] = {}
    for row in connection.execute(query).mappings():
        view = ApprovalView(row["index"], row["approver"], row["meaning"], row["required"], bool(row["self_approved"]))
        given[row["change_id"]] = (*given.get(row["change_id"], ()), view)
    return given
