"""What stands: pointers now and at any moment, policies, suites and models that are registered, subjects."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from typing_extensions import TypedDict

from mass_gov.api import cursors
from mass_gov.api.access import Caller, Route, may
from mass_gov.api.chat import deployments
from mass_gov.api.inputs import Index, Moment, text_of
from mass_gov.api.lists import Cursor
from mass_gov.api.problems import Problem, absent
from mass_gov.api.schemas import RegisteredThing, gives
from mass_gov.api.service import Service, Serving
from mass_gov.api.shapes import Lineage, Moves, Pointers, PointerShown, PolicyShown, Subjects
from mass_gov.documents.pointers import freeze_document, move_document, pointer_document, stack_document
from mass_gov.documents.policies import policy_document
from mass_gov.documents.subjects import lineage_document, subject_document
from mass_gov.flows.lineage import to_undo, trace
from mass_gov.ledger import FreezeView
from mass_gov.policy import load_policy
from mass_gov.records.base import Digest, Slug, SubjectHandle

router = APIRouter(route_class=Route, tags=["standing"])
Reader = Annotated[Caller, Depends(may("read"))]
Limit = Annotated[int, Query(ge=1, le=200)]
Kind = Literal["policy", "suite", "model"]


class Registered(TypedDict):
    """A page of registrations, under the name of what they register."""

    next: str | None


class Policies(Registered):
    """A page of activated policies."""

    policies: list[RegisteredThing]


class Suites(Registered):
    """A page of suites."""

    suites: list[RegisteredThing]


class Models(Registered):
    """A page of models, and in `data` the deployments that can be asked, as OpenAI's clients know models."""

    models: list[RegisteredThing]
    object: Literal["list"]
    data: list[dict[str, Any]]


@router.get("/pointers", **gives(Pointers))
def list_pointers(service: Serving, caller: Reader) -> dict[str, Any]:
    """List every pointer that ever moved."""
    return {"pointers": [pointer_document(one) for one in service.ledger.pointers() if caller.sees(one.tenant)]}


@router.get("/pointers/{tenant}/{deployment}", **gives(PointerShown))
def show_pointer(
    tenant: Slug,
    deployment: Slug,
    service: Serving,
    caller: Reader,
    at: Index | Moment | None = None,
) -> dict[str, Any]:
    """Show where a pointer stands, or stood right after an event or at a time; one that never moved is its base.

    `at` is a log index, or a time with its zone.
    """
    caller.insist(tenant)
    ledger, now = service.ledger, at is None
    index, time = (at, None) if isinstance(at, int) else (None, text_of(at))
    seen = ledger.pointer_as_of(tenant, deployment, index=index, time=time)
    return {
        **pointer_document(seen.pointer),
        "moved_at": seen.moved_at,
        "twofold": seen.twofold,
        "stack": stack_document(ledger.pointer_stack(tenant, deployment)) if now else None,
        "freeze": freeze_seen(ledger.frozen(tenant, deployment), caller) if now else None,
    }


@router.get("/pointers/{tenant}/{deployment}/history", **gives(Moves))
def pointer_history(tenant: Slug, deployment: Slug, service: Serving, caller: Reader) -> dict[str, Any]:
    """List every movement of a pointer, oldest first."""
    caller.insist(tenant)
    moves = service.ledger.pointer_history(tenant, deployment)
    times = {entry.index: entry.predicate.time for entry in service.ledger.entries_at([move.index for move in moves])}
    listed = [{**move_document(move), "time": times[move.index]} for move in moves]
    return {"tenant": tenant, "deployment": deployment, "moves": listed}


@router.get("/policies", **gives(Policies))
def list_policies(service: Serving, _: Reader, limit: Limit = 20, cursor: Cursor | None = None) -> dict[str, Any]:
    """List activations of policies, the newest first."""
    return _registered(service, "policy", "policies", limit, cursor)


@router.get("/policies/{digest}", **gives(PolicyShown))
def show_policy(digest: Digest, service: Serving, _: Reader) -> dict[str, Any]:
    """Show a policy that was in force, as its file says it."""
    policy = load_policy(service.ledger.policy_bytes(digest))
    return policy_document(policy, digest == service.ledger.active_policy())


@router.get("/suites", **gives(Suites))
def list_suites(service: Serving, _: Reader, limit: Limit = 20, cursor: Cursor | None = None) -> dict[str, Any]:
    """List registered regression suites, the newest first."""
    return _registered(service, "suite", "suites", limit, cursor)


@router.get("/models", **gives(Models))
def list_models(
    service: Serving,
    caller: Annotated[Caller, Depends(may("read", "solve"))],
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> dict[str, Any]:
    """List registered base models, the newest first, and what can be asked: `id` in `data` is the `model` to ask."""
    found = _registered(service, "model", "models", limit, cursor)
    return found | {"object": "list", "data": deployments(service, caller)}


@router.get("/subjects", **gives(Subjects))
def list_subjects(
    service: Serving,
    caller: Reader,
    limit: Limit = 20,
    cursor: Cursor | None = None,
    standing: Literal["held", "erased"] | None = None,
) -> dict[str, Any]:
    """List whose data there is, by their last event, the newest first; takes a caller who is let into every tenant.

    One of whom something new is recorded while pages are read comes first again, on a new first page.
    """
    if caller.identity.tenants is not None:
        raise Problem("forbidden", "You are let into some tenants alone. Ask for one subject by its handle.")
    what = f"subjects {standing}"
    before = cursors.decode(service.cursor_key, cursor, what) if cursor is not None else None
    found = service.ledger.subjects(limit=limit + 1, standing=standing, before=before)
    page = found[:limit]
    after = cursors.encode(service.cursor_key, page[-1].last_index, what) if len(found) > limit else None
    return {"subjects": [subject_document(one) for one in page], "next": after}


@router.get("/subjects/{handle}", **gives(Lineage))
def show_subject(handle: SubjectHandle, service: Serving, caller: Reader) -> dict[str, Any]:
    """Show what was made from a subject's data, and what erasing it would undo."""
    lineage = trace(service.ledger, handle)
    if not all(caller.sees(change.body.identity.tenant) for change in lineage.changes):
        raise absent()
    if caller.identity.tenants is not None and not lineage.changes:
        raise absent()
    return lineage_document(lineage, to_undo(service.ledger, lineage))


def freeze_seen(freeze: FreezeView | None, caller: Caller) -> dict[str, Any] | None:
    """A freeze as a caller may see it: of one of everything, not under which of other tenants' names it was made."""
    document = freeze_document(freeze)
    if document is None or freeze is None or caller.sees(freeze.tenant):
        return document
    return document | {"tenant": None, "deployment": None}


def _registered(service: Service, kind: Kind, name: str, limit: int, cursor: str | None) -> dict[str, Any]:
    before = cursors.decode(service.cursor_key, cursor, kind) if cursor is not None else None
    found = service.ledger.registered(kind, before=before, limit=limit + 1)
    page, active = found[:limit], service.ledger.active_policy()
    listed = [
        {"digest": one.digest, "name": one.name, "index": one.index}
        | ({"in_force": one.digest == active} if kind == "policy" else {})
        for one in page
    ]
    after = cursors.encode(service.cursor_key, page[-1].index, kind) if len(found) > limit else None
    return {name: listed, "next": after}
