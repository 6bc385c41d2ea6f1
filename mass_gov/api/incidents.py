"""Incidents over HTTP: listed, shown, opened, updated and closed; the documents of the command line.

Rules: an incident of a tenant that the caller is not let into does not exist for them, nor does what it would name
there. What people write comes in the body, is sealed, and comes back to whoever may read. Severities are those of a
mapping that ships, by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from mass_gov.api import cursors
from mass_gov.api.access import Caller, Route, may
from mass_gov.api.inputs import Description, Moment, Reason, Title, text_of
from mass_gov.api.lists import Cursor
from mass_gov.api.once import Key, once
from mass_gov.api.schemas import gives, problems
from mass_gov.api.service import Service, Serving
from mass_gov.api.shapes import Incidents, IncidentSaid, Story
from mass_gov.config_data import DEFAULT_CLAUSES
from mass_gov.documents.incidents import incident_document, story_document
from mass_gov.flows import incidents as flow
from mass_gov.flows.clause_files import shipped_clauses
from mass_gov.ledger import IncidentView
from mass_gov.records.artifacts import IncidentContent
from mass_gov.records.base import Count, Slug, Uuid, timestamp

router = APIRouter(route_class=Route, tags=["incidents"], responses=problems(409, 415))
Reader = Annotated[Caller, Depends(may("read"))]
Decider = Annotated[Caller, Depends(may("incidents"))]
Limit = Annotated[int, Query(ge=1, le=200)]
Named = Annotated[tuple[Uuid, ...], Field(max_length=64)]


class _Said(BaseModel):
    """What a body may name and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    changes: Named = ()
    responses: Named = ()
    events: Annotated[tuple[Count, ...], Field(max_length=64)] = ()

    def about(self) -> flow.About:
        """For the flow."""
        return flow.About(self.changes, self.responses, self.events)


class Opening(_Said):
    """An incident to open."""

    tenant: Slug
    deployment: Slug
    title: Title
    description: Description = ""
    severity: Slug
    aware_at: Moment | None = None
    clauses: Slug = DEFAULT_CLAUSES


class Update(_Said):
    """What became of an incident: one step, or a note alone."""

    note: Reason
    acknowledge: bool = False
    reported_at: Moment | None = None
    severity: Slug | None = None
    clauses: Slug = DEFAULT_CLAUSES


class Closing(BaseModel):
    """Why nothing is left to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: Reason
    outcome: Literal["resolved", "unfounded"] = "resolved"


@router.get("/incidents", **gives(Incidents))
def list_incidents(
    service: Serving,
    caller: Reader,
    status: Literal["open", "closed"] | None = None,
    tenant: Slug | None = None,
    deployment: Slug | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """List incidents that the caller may see, newest first."""
    seen = caller.identity.tenants
    if tenant is not None:
        seen = (tenant,) if caller.sees(tenant) else ()
    what = json.dumps(["incidents", status, tenant, deployment, caller.identity.tenants])
    before = cursors.decode(service.cursor_key, cursor, what) if cursor is not None else None
    found = service.ledger.incidents(
        tenants=seen,
        deployment=deployment,
        closed=None if status is None else status == "closed",
        cursor=before,
        limit=limit + 1,
    )
    page = found[:limit]
    after = cursors.encode(service.cursor_key, page[-1].index, what) if len(found) > limit else None
    return {"incidents": [incident_document(one, _now(service)) for one in page], "next": after}


@router.get("/incidents/{incident_id}", **gives(Story))
def show_incident(incident_id: Uuid, service: Serving, caller: Reader) -> dict[str, Any]:
    """Show one incident: what was said of it, and every change and answer that it reaches."""
    _insist(service, caller, incident_id)
    return story_document(flow.story(service.ledger, incident_id), _now(service))


@router.post("/incidents", status_code=201, **gives(IncidentSaid, 201))
def open_incident(body: Opening, service: Serving, caller: Decider, key: Key = None) -> Response:
    """Open an incident: its deadline runs from when somebody first knew."""
    caller.insist(body.tenant)

    def do() -> IncidentView:
        return flow.open_incident(
            service.ledger,
            caller.actor,
            (body.tenant, body.deployment),
            IncidentContent(title=body.title, description=body.description),
            body.severity,
            shipped_clauses(body.clauses),
            aware_at=text_of(body.aware_at),
            about=body.about(),
        )

    return _once(["open"], body, service, caller, key, do, status=201)


@router.post("/incidents/{incident_id}:update", **gives(IncidentSaid))
def update_incident(incident_id: Uuid, body: Update, service: Serving, caller: Decider, key: Key = None) -> Response:
    """Say what became of an open incident."""
    _insist(service, caller, incident_id)

    def do() -> IncidentView:
        return flow.update(
            service.ledger,
            incident_id,
            caller.actor,
            body.note,
            acknowledge=body.acknowledge,
            reported_at=text_of(body.reported_at),
            regrade=(body.severity, shipped_clauses(body.clauses)) if body.severity is not None else None,
            about=body.about(),
        )

    return _once(["update", incident_id], body, service, caller, key, do)


@router.post("/incidents/{incident_id}:close", **gives(IncidentSaid))
def close_incident(incident_id: Uuid, body: Closing, service: Serving, caller: Decider, key: Key = None) -> Response:
    """Close an incident for good."""
    _insist(service, caller, incident_id)

    def do() -> IncidentView:
        return flow.close(service.ledger, incident_id, caller.actor, body.reason, body.outcome)

    return _once(["close", incident_id], body, service, caller, key, do)


def _insist(service: Service, caller: Caller, incident_id: Uuid) -> None:
    caller.insist(service.ledger.incident(incident_id).tenant)


def _once(
    what: list[str],
    body: BaseModel,
    service: Service,
    caller: Caller,
    key: str | None,
    do: Callable[[], IncidentView],
    status: int = 200,
) -> Response:
    def done() -> tuple[dict[str, Any], None]:
        return {"incident": incident_document(do(), _now(service))}, None

    asked = ["incident", *what, body.model_dump(mode="json", warnings=False)]
    return once(service, caller, key, asked, done, status)


def _now(service: Service) -> str:
    return timestamp(service.ledger.now())
