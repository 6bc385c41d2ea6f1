"""Changes over HTTP: listed, shown, compared and exported. Decisions about them: `decisions`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from typing_extensions import TypedDict

from mass_gov.api import lists
from mass_gov.api.access import Caller, Route, may
from mass_gov.api.etags import etag
from mass_gov.api.schemas import TAGGED, ChangeDetail, ChangeSummary, gives
from mass_gov.api.service import Service, Serving
from mass_gov.api.shapes import Diff
from mass_gov.documents.changes import change_document, summary
from mass_gov.documents.contents import read_contents
from mass_gov.flows.behaviour import read_behaviour
from mass_gov.flows.bundle_export import export_change
from mass_gov.ledger import ChangeView
from mass_gov.records.base import Uuid

router = APIRouter(route_class=Route, tags=["changes"])
Reader = Annotated[Caller, Depends(may("read"))]
Exporter = Annotated[Caller, Depends(may("export"))]


class ChangePage(TypedDict):
    """A page of changes."""

    changes: list[ChangeSummary]
    next: str | None


@router.get("/changes", **gives(ChangePage))
def list_changes(service: Serving, caller: Reader, asked: Annotated[lists.ChangeFilter, Query()]) -> Response:
    """List changes, the newest first; every filter may be combined with every other."""
    with service.ledger.snapshot():
        indices, after = lists.found(service, caller, asked)
        found = service.ledger.changes_at(indices)
    return lists.answer("changes", asked, map(summary, found), after, ChangeSummary)


@router.get("/changes/{change_id}", **gives(ChangeDetail, headers=TAGGED))
def show_change(
    change_id: Uuid,
    service: Serving,
    caller: Reader,
    response: Response,
    fields: lists.Fields | None = None,
    samples: Annotated[bool, Query(description="With the tokens of every sample.")] = False,
) -> Any:
    """Show everything that is known about a change; its `ETag` is what a decision sends back as `If-Match`."""
    change = visible(service, caller, change_id)
    response.headers["ETag"] = etag(change)
    pick = lists.picked(fields, ChangeDetail)
    contents = read_contents(service.ledger, change)
    served = service.ledger.responses(change_id=change_id)
    return pick(change_document(change, contents, served, full_samples=samples))


@router.get("/changes/{change_id}/diff", **gives(Diff, headers=TAGGED))
def diff(change_id: Uuid, service: Serving, caller: Reader, response: Response) -> dict[str, Any]:
    """Show what a change does, before and after; `shown` is the digest that an approval of it sends."""
    change = visible(service, caller, change_id)
    response.headers["ETag"] = etag(change)
    behaviour = read_behaviour(service.ledger, change)
    return {"change_id": change.change_id, "status": change.status, "shown": behaviour.digest, **behaviour.document}


@router.get(
    "/changes/{change_id}/bundle",
    response_class=Response,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
def bundle(change_id: Uuid, service: Serving, caller: Exporter, sealed: bool = False) -> Response:
    """Get one change with everything that proves it, in one zip that `mass-gov verify --bundle` checks offline."""
    change = visible(service, caller, change_id)
    exported = export_change(service.ledger, change, sealed=sealed)
    named = {"Content-Disposition": f'attachment; filename="{change_id}.zip"'}
    return Response(exported.archive, media_type="application/zip", headers=named)


def visible(service: Service, caller: Caller, change_id: Uuid) -> ChangeView:
    """A change that the caller may see, by its whole id: what a beginning finds, other tenants' ids would show in."""
    change = service.ledger.change(change_id)
    caller.insist(change.body.identity.tenant)
    return change
