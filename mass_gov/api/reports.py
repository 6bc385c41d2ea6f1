"""Reports by clauses over HTTP: the document of `mass-gov report --json`, or a page of it.

Rules: a report speaks of the whole ledger's policies, keys and people, so it takes somebody who is let into every
tenant. It reads the log from its beginning, so a server makes one at a time. A GET leaves nothing in the log, so that
it can be sent again and looked at by anything; `:record` records the report before it is answered. Mappings are those
that ship, by name. Which witnesses somebody believes is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from mass_gov.api.access import Caller, Route, may
from mass_gov.api.inputs import Moment, text_of
from mass_gov.api.problems import Problem
from mass_gov.api.schemas import gives
from mass_gov.api.service import Service, Serving
from mass_gov.config_data import DEFAULT_CLAUSES
from mass_gov.documents.report_pages import html, markdown
from mass_gov.flows.audit import verify
from mass_gov.flows.authority import PLACE
from mass_gov.flows.clause_files import shipped_clauses
from mass_gov.flows.reports import ALL, Asked, Report, make_report, record_report
from mass_gov.records.base import MAX_SAFE_INTEGER, Slug

router = APIRouter(route_class=Route, tags=["reports"])
Taker = Annotated[Caller, Depends(may("export"))]
Name = Annotated[str, Query(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A page brings its own style, and nothing else."""


class About(BaseModel):
    """What a report is to be about."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: Moment | None = Field(None, description="Events from this time on.")
    until: Moment | None = Field(None, description="Events before this time.")
    tenant: Slug | None = None
    deployment: Slug | None = None
    size: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)] | None = Field(None, description="Of a signed head.")
    at: Moment | None = Field(None, description="Judge deadlines as of this time.")
    clauses: Slug = DEFAULT_CLAUSES
    verified: bool = Field(False, alias="verify", description="Verify the whole log first, and say what was found.")


class Page(About):
    """The same, and as what."""

    form: Literal["json", "md", "html"] = Field("json", alias="format")


class ReportName(TypedDict):
    """A report that a mapping has."""

    name: str
    title: str


class ReportNames(TypedDict):
    """The reports of a mapping."""

    clauses: str
    digest: str
    reports: list[ReportName]


class Made(TypedDict):
    """A report. `recorded_index` is the log index of its `export.made`; null where it was only looked at."""

    report: dict[str, Any]
    content: str
    recorded_index: int | None


_PAGES = {"content": {"text/html": {}, "text/markdown": {}}, "description": "The report.", "model": Made}


@router.get("/reports", **gives(ReportNames))
def list_reports(_: Taker, clauses: Name = DEFAULT_CLAUSES) -> dict[str, Any]:
    """List the reports that a mapping of clauses has."""
    mapping = shipped_clauses(clauses)
    listed = [{"name": name, "title": spec.title} for name, spec in mapping.framework.reports.items()]
    whole = {"name": ALL, "title": mapping.framework.title}
    return {"clauses": mapping.label, "digest": mapping.digest, "reports": [*listed, whole]}


@router.get("/reports/{name}", response_model=None, responses={200: _PAGES})
def show_report(name: str, service: Serving, caller: Taker, asked: Annotated[Page, Query()]) -> Response:
    """Show which events answer which clauses, what is missing, and how to check it. Nothing of it is recorded."""
    with _one_at_a_time(service, caller):
        made = _make(service, name, asked)
    if asked.form == "html":
        return HTMLResponse(html(made.document, made.content), headers={"Content-Security-Policy": PAGE_POLICY})
    if asked.form == "md":
        return PlainTextResponse(markdown(made.document, made.content), media_type="text/markdown")
    return JSONResponse({"report": made.document, "content": made.content, "recorded_index": None})


@router.post("/reports/{name}:record", name="record_report", status_code=201, **gives(Made, 201))
def record_one(name: str, body: About, service: Serving, caller: Taker) -> Response:
    """Make a report that leaves an event of its own, `export.made`: that it was handed out, to whom, and its digest."""
    with _one_at_a_time(service, caller):
        made = _make(service, name, body)
    place = (body.tenant or PLACE[0], body.deployment or PLACE[1])
    index = record_report(service.ledger, caller.actor, made, place).index
    return JSONResponse({"report": made.document, "content": made.content, "recorded_index": index}, 201)


def _make(service: Service, name: str, about: About) -> Report:
    asked = Asked(
        name,
        text_of(about.since),
        text_of(about.until),
        about.tenant,
        about.deployment,
        about.size,
        text_of(about.at),
    )
    mapping = shipped_clauses(about.clauses)
    found = verify(service.ledger) if about.verified else None
    return make_report(service.ledger, mapping, asked, retention_days=service.retention_days, verified=found)


@contextmanager
def _one_at_a_time(service: Service, caller: Caller) -> Iterator[None]:
    if caller.identity.tenants is not None:
        raise Problem("forbidden", "A report speaks of every tenant. Let somebody ask who is let into all of them.")
    if not service.reporting.acquire(blocking=False):
        raise Problem("too-many-requests", "Another report is being made.", headers={"Retry-After": "5"})
    try:
        yield
    finally:
        service.reporting.release()
