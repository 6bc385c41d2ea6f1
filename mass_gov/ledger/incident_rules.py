"""What becomes of an incident: the rows of `incidents` and `incident_updates`, derived from the log.

Rules:

- an operator or an admin opens, updates and closes; nothing else can
- an incident is opened once and closed once, and updated only in between. Whatever is said of it later stands under its
  own tenant and deployment and names its first event
- nobody knows of an incident after it was opened, and nobody is told of it before somebody knew or in the future
- it is acknowledged once and reported once; a new grade comes with `regraded` alone, a time of reporting with
  `reported` alone
- the changes and answers that it names are there, under its own tenant and deployment; the events come before it

Whether its grade is what the mapping file says is for those who can open that file: `verify`.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import select
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import IntegrityError, NotFoundError, PermissionRefusedError, RefusedError
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import exists
from mass_gov.ledger.rows import alter, put
from mass_gov.ledger.schema import changes, incident_updates, incidents, responses
from mass_gov.ledger.transitions import same_place
from mass_gov.records.base import timestamp
from mass_gov.records.events import Grade, IncidentClosed, IncidentOpened, IncidentUpdated


def open_(connection: Connection, entry: Entry, body: IncidentOpened) -> None:
    """Note a new incident.

    Raises:
        PermissionRefusedError: by neither an operator nor an admin.
        RefusedError: its id was used before, or it names what is not there.
        IntegrityError: it was known of only after it was opened.
    """
    _check_actor(entry)
    if exists(connection, incidents.c.incident_id == body.incident_id):
        raise RefusedError(f"Incident {body.incident_id} was opened before. Give a new incident a new id.")
    if body.aware_at > entry.predicate.time:
        raise IntegrityError(f"Incident {body.incident_id} was known of after it was opened. Say when it was noticed.")
    _check_named(connection, entry, body)
    row = {
        "incident_id": body.incident_id,
        "index": entry.index,
        "opened": entry.leaf_hash,
        "tenant": entry.predicate.tenant,
        "deployment": entry.predicate.deployment,
        "opened_by": entry.predicate.actor.principal,
        "opened_at": entry.predicate.time,
        "aware_at": body.aware_at,
    }
    put(connection, incidents, row | _graded(body.aware_at, body.grade))


def update_(connection: Connection, entry: Entry, body: IncidentUpdated) -> None:
    """Note what became of an open incident.

    Raises:
        PermissionRefusedError: by neither an operator nor an admin.
        NotFoundError: there is no such incident.
        RefusedError: it is closed, or was acknowledged or reported before, or the event names what is not there.
        IntegrityError: the event contradicts itself or the incident.
    """
    row = _open_row(connection, entry, body)
    if (body.grade is not None) != (body.step == "regraded") or (body.reported_at is not None) != (
        body.step == "reported"
    ):
        raise IntegrityError(
            f"Event {entry.index}: a grade comes with `regraded` alone, and a time of reporting with `reported` alone."
        )
    _check_named(connection, entry, body)
    values: dict[str, object] = {}
    if body.step in ("acknowledged", "reported"):
        values[f"{body.step}_index"] = _first(row, body.step, entry.index)
    if body.reported_at is not None:
        if not row["aware_at"] <= body.reported_at <= entry.predicate.time:
            raise IntegrityError(f"Event {entry.index}: it was reported before anybody knew, or in the future.")
        values["reported_at"] = body.reported_at
    if body.grade is not None:
        values |= _graded(row["aware_at"], body.grade)
    if values:
        alter(connection, incidents, row, values)
    noted = {"index": entry.index, "incident_id": body.incident_id, "step": body.step}
    put(connection, incident_updates, noted | {"author": entry.predicate.actor.principal})


def close(connection: Connection, entry: Entry, body: IncidentClosed) -> None:
    """Note that nothing is left to do.

    Raises:
        PermissionRefusedError, NotFoundError, RefusedError, IntegrityError: as `update_`.
    """
    row = _open_row(connection, entry, body)
    closed = {"closed_index": entry.index, "outcome": body.outcome}
    alter(connection, incidents, row, closed)


def _open_row(connection: Connection, entry: Entry, body: IncidentUpdated | IncidentClosed) -> RowMapping:
    _check_actor(entry)
    row = connection.execute(select(incidents).where(incidents.c.incident_id == body.incident_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no incident {body.incident_id}. `mass-gov incidents list` shows them.")
    same_place(entry, row["tenant"], row["deployment"])
    if body.opened != row["opened"]:
        raise IntegrityError(f"Event {entry.index} does not name the event that opened {body.incident_id}.")
    if row["closed_index"] is not None:
        raise RefusedError(
            f"Incident {body.incident_id} was closed by event {row['closed_index']}. Open a new one, and name it there."
        )
    return row


def _check_actor(entry: Entry) -> None:
    actor = entry.predicate.actor
    if actor.role not in ("operator", "admin"):
        raise PermissionRefusedError(
            f"Event {entry.index}: {actor.principal} acts as {actor.role} and cannot open, update or close an "
            "incident. Let an operator do it."
        )


def _check_named(connection: Connection, entry: Entry, body: IncidentOpened | IncidentUpdated) -> None:
    place = (entry.predicate.tenant, entry.predicate.deployment)
    for table, column, named in (
        (changes, changes.c.change_id, body.changes),
        (responses, responses.c.response_id, body.responses),
    ):
        here = (table.c.tenant == place[0]) & (table.c.deployment == place[1])
        for one in named:
            if not exists(connection, here & (column == one)):
                raise RefusedError(f"Incident {body.incident_id} names {one}, which {'/'.join(place)} does not have.")
    if late := [index for index in body.events if index >= entry.index]:
        raise RefusedError(f"Incident {body.incident_id} names event {late[0]}, which does not come before it.")


def _first(row: RowMapping, step: str, index: int) -> int:
    if row[f"{step}_index"] is not None:
        raise RefusedError(f"Incident {row['incident_id']} was {step} by event {row[f'{step}_index']}. Add a note.")
    return index


def _graded(aware_at: str, grade: Grade) -> dict[str, object]:
    days = grade.report_within_days
    return {"severity": grade.severity, "due_at": None if days is None else due(aware_at, days)}


def due(aware_at: str, days: int) -> str:
    """The moment by which an incident is to be reported: so many times 24 hours after somebody knew."""
    return timestamp(dt.datetime.fromisoformat(aware_at) + dt.timedelta(days=days))
