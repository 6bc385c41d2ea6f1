"""What answers look like, for the OpenAPI document: no answer is validated twice.

Fields are optional, because `fields=` leaves some out. What a record holds is described in docs/reference/events.md.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict

from mass_gov.api.problems import CATALOGUE, MEDIA_TYPE


class DecisionSaid(TypedDict):
    """What was decided."""

    verdict: str
    reason: str
    violated: list[str]


class ChangeSummary(TypedDict, total=False):
    """A change in a list."""

    change_id: str
    status: str
    scope: str
    tenant: str
    deployment: str
    requester: str
    domains: list[str]
    recorded_at: str
    index: int
    decision: DecisionSaid
    forced: bool
    self_approved: bool
    state_digest: str
    delta_digest: str | None


class ChangeDetail(ChangeSummary, total=False):
    """Everything that is known about a change; sealed contents are null and named in `sealed`."""

    why: str
    rules: dict[str, str]
    leaf_hash: str
    record: dict[str, Any]
    history: dict[str, Any]
    responses: list[dict[str, Any]]
    contents: dict[str, Any]
    sealed: dict[str, str]


class ResponseSummary(TypedDict, total=False):
    """An answer in a list."""

    response_id: str
    change_id: str | None
    served: str
    state_digest: str
    index: int


class ResponseTrace(ResponseSummary, total=False):
    """An answer, traced to what it came from."""

    tenant: str
    deployment: str
    time: str
    base_model: str
    policy: dict[str, Any]
    change: dict[str, Any] | None
    deltas: list[dict[str, Any]]


class EventSummary(TypedDict, total=False):
    """An event."""

    index: int
    leaf_hash: str
    event: dict[str, Any]


class RegisteredThing(TypedDict, total=False):
    """A policy, a suite or a model, by the event that registered it."""

    digest: str
    name: str | None
    index: int
    in_force: bool


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


TAGGED = {"ETag": {"description": "What `If-Match` sends back.", "schema": {"type": "string"}}}
"""Headers of an answer that a decision may be made on."""
_STATUSES = sorted({kind.status for kind in CATALOGUE})


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: these problems, and those that every route has."""
    wanted = {400, 401, 403, 404, 408, 413, 422, 429, 500, 503, *statuses}
    return {status: _described(status) for status in _STATUSES if status in wanted}


def gives(shape: Any, status: int = 200, **more: Any) -> dict[str, Any]:
    """Arguments of a route that answers in a shape, which is described and not applied."""
    return {"response_model": None, "responses": {status: {"model": shape, **more}}}


def _described(status: int) -> dict[str, Any]:
    named = [f"`{kind.name}`: {kind.title}." for kind in CATALOGUE if kind.status == status]
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": " ".join(named), "content": {MEDIA_TYPE: {"schema": schema}}}
