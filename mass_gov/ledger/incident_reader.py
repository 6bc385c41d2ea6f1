"""Reading incidents as the log leaves them. What people wrote about them is sealed: `mass_gov.flows.incidents`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select

from mass_gov.errors import InputError, NotFoundError
from mass_gov.ledger import subject_rules
from mass_gov.ledger.principal_reader import PrincipalReader
from mass_gov.ledger.schema import incident_updates, incidents
from mass_gov.ledger.views import ChangeView

_PREFIX = re.compile(r"[0-9a-f-]{8,36}")


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident and where it stands. Indices are log indices, None of what has not happened; times as in the log.

    Attributes:
        opened: RFC 6962 leaf hash of its first event.
        severity: as the mapping file names it.
        due_at: until when it is to be reported; None where nobody has to be told.
        reported_at: when whoever has to know was told.
    """

    incident_id: str
    index: int
    opened: str
    tenant: str
    deployment: str
    opened_by: str
    opened_at: str
    aware_at: str
    severity: str
    due_at: str | None
    acknowledged_index: int | None
    reported_index: int | None
    reported_at: str | None
    closed_index: int | None
    outcome: Literal["resolved", "unfounded"] | None

    @property
    def status(self) -> Literal["open", "acknowledged", "closed"]:
        """Where it stands, in one word."""
        if self.closed_index is not None:
            return "closed"
        return "open" if self.acknowledged_index is None else "acknowledged"

    def overdue(self, now: str) -> bool:
        """Whether it was reported too late, or is to be reported and was not by `now`; never of an unfounded one."""
        return is_overdue(self.due_at, self.reported_at, self.outcome, now)


def is_overdue(due_at: str | None, reported_at: str | None, outcome: str | None, now: str) -> bool:
    """As `IncidentView.overdue`, of what is known of an incident."""
    return due_at is not None and outcome != "unfounded" and (reported_at or now) > due_at


@dataclass(frozen=True, slots=True)
class UpdateView:
    """One update of an incident."""

    index: int
    incident_id: str
    step: Literal["acknowledged", "noted", "regraded", "reported"]
    author: str


class IncidentReader(PrincipalReader):
    """The part of a ledger that answers questions about incidents. Made by `Ledger.open`."""

    def incident(self, incident_id: str) -> IncidentView:
        """One incident, by its id or by at least 8 characters that begin no other id.

        Raises:
            NotFoundError: none.
            InputError: several.
        """
        begins = incidents.c.incident_id.startswith(incident_id, autoescape=True)
        with self._database.read() as connection:
            rows = (
                connection.execute(select(incidents).where(begins).limit(2)).mappings().all()
                if _PREFIX.fullmatch(incident_id)
                else ()
            )
        if not rows:
            raise NotFoundError(f"There is no incident {incident_id[:40]!r}. `mass-gov incidents list` shows them.")
        if len(rows) > 1:
            raise InputError(f"Several incidents begin with {incident_id}. Give more characters of the id.")
        return IncidentView(**rows[0])

    def incidents(
        self,
        *,
        tenants: Sequence[str] | None = None,
        deployment: str | None = None,
        closed: bool | None = None,
        cursor: int | None = None,
        limit: int | None = None,
    ) -> list[IncidentView]:
        """Incidents, newest first, of these tenants; `cursor` is the log index of the last one of the page before."""
        query = select(incidents).order_by(incidents.c.index.desc())
        if tenants is not None:
            query = query.where(incidents.c.tenant.in_(tenants))
        if deployment is not None:
            query = query.where(incidents.c.deployment == deployment)
        if closed is not None:
            query = query.where(incidents.c.closed_index.is_not(None) if closed else incidents.c.closed_index.is_(None))
        if cursor is not None:
            query = query.where(incidents.c.index < cursor)
        with self._database.read() as connection:
            return [IncidentView(**row) for row in connection.execute(query.limit(limit)).mappings()]

    def incident_updates(self, incident_id: str) -> list[UpdateView]:
        """What became of one, in the order of the log."""
        query = select(incident_updates).where(incident_updates.c.incident_id == incident_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(incident_updates.c.index)).mappings()
            return [UpdateView(**row) for row in rows]

    def standing_on(self, change_ids: tuple[str, ...]) -> list[ChangeView]:
        """These changes, and every later one that was made from the state of one of them, in the order of the log."""
        with self._database.read() as connection:
            found = subject_rules.made_from(connection, change_ids)
        return [self.change(str(row["change_id"])) for row, _ in found]
