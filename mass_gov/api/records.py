"""Events and answers over HTTP: listed, shown, and an answer traced to all that it came from."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from typing_extensions import TypedDict

from mass_gov.api import lists
from mass_gov.api.access import Caller, Route, may
from mass_gov.api.schemas import EventSummary, ResponseSummary, ResponseTrace, gives
from mass_gov.api.service import Serving
from mass_gov.documents.changes import response_document
from mass_gov.documents.traces import trace_document
from mass_gov.ledger import Entry
from mass_gov.records.base import MAX_SAFE_INTEGER, Uuid

router = APIRouter(route_class=Route, tags=["records"])
Reader = Annotated[Caller, Depends(may("read"))]
AtIndex = Annotated[int, Path(ge=0, le=MAX_SAFE_INTEGER)]


class EventPage(TypedDict):
    """A page of events."""

    events: list[EventSummary]
    next: str | None


class ResponsePage(TypedDict):
    """A page of answers."""

    responses: list[ResponseSummary]
    next: str | None


@router.get("/events", **gives(EventPage))
def list_events(service: Serving, caller: Reader, asked: Annotated[lists.EventFilter, Query()]) -> Response:
    """List events as they were signed, the newest first."""
    with service.ledger.snapshot():
        indices, after = lists.found(service, caller, asked)
        found = service.ledger.entries_at(indices)
    return lists.answer("events", asked, map(_event, found), after, EventSummary)


@router.get("/events/{index}", **gives(EventSummary))
def show_event(index: AtIndex, service: Serving, caller: Reader) -> dict[str, Any]:
    """Show one event. Its leaf and the proof that it stands in the log: `/log/inclusion`."""
    entry = service.ledger.entry(index)
    caller.insist(entry.predicate.tenant)
    return _event(entry)


@router.get("/responses", **gives(ResponsePage))
def list_responses(service: Serving, caller: Reader, asked: Annotated[lists.ResponseFilter, Query()]) -> Response:
    """List answers that left the system, the newest first."""
    with service.ledger.snapshot():
        indices, after = lists.found(service, caller, asked)
        found = service.ledger.responses_at(indices)
    return lists.answer("responses", asked, map(response_document, found), after, ResponseSummary)


@router.get("/responses/{response_id}", **gives(ResponseTrace))
def show_response(response_id: Uuid, service: Serving, caller: Reader, fields: lists.Fields | None = None) -> Any:
    """Trace an answer to its base model, deltas, samples, policy and approvers."""
    response = service.ledger.response(response_id)
    caller.insist(response.tenant)
    return lists.picked(fields, ResponseTrace)(trace_document(service.ledger, response))


def _event(entry: Entry) -> dict[str, Any]:
    return {"index": entry.index, "leaf_hash": entry.leaf_hash, "event": entry.predicate.as_read()}
