"""Decisions over HTTP: approve, reject, promote, roll back, replay; freeze and unfreeze.

Rules: a decision about a change names what was looked at (`If-Match`), so that nobody decides about what changed since;
where it did, or does while this runs, the answer is 412. Everything else is for the flows to say, as on the command
line. An approver who registered a key of their own signs where that key is: on the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict

from mass_gov.api.access import Caller, Route, may
from mass_gov.api.changes import visible
from mass_gov.api.etags import IfMatch, etag, insist
from mass_gov.api.inputs import Reason
from mass_gov.api.once import Key, once
from mass_gov.api.problems import Problem
from mass_gov.api.schemas import TAGGED, gives, problems
from mass_gov.api.service import Service, Serving
from mass_gov.api.shapes import Decided, Freezes, Frozen, Rejected, Replayed, RolledBack
from mass_gov.api.standing import freeze_seen
from mass_gov.documents.changes import decided_document
from mass_gov.documents.pointers import rolled_back_document
from mass_gov.flows import approve as approving
from mass_gov.flows import freeze as freezing
from mass_gov.flows.rollback import rollback
from mass_gov.ledger import ChangeView
from mass_gov.policy.permissions import Action
from mass_gov.records.base import Digest, Slug, Uuid

router = APIRouter(route_class=Route, tags=["decisions"], responses=problems(409, 410, 412, 415, 428))


class Reasoned(BaseModel):
    """Why, in the decider's own words; kept sealed."""

    model_config = ConfigDict(extra="forbid")
    reason: Reason


class Approval(Reasoned):
    """A yes, and what was shown to whoever says it: `shown` of the change's diff."""

    shown: Digest | None = None


class Rollback(Reasoned):
    """What is to be undone; with `cascade`, every later change that stands on it too."""

    cascade: bool = False


class Replay(BaseModel):
    """Where a replay starts."""

    model_config = ConfigDict(extra="forbid")
    start: Literal["delta", "samples", "scratch"] = "scratch"


class Control(Reasoned):
    """What is frozen, or let go on: one deployment, or everything."""

    tenant: Slug
    deployment: Slug
    everywhere: bool = False


def _by(action: Action) -> Any:
    return Depends(may(action))


Deciding = Callable[[ChangeView], dict[str, Any]]


@dataclass(frozen=True)
class Looked:
    """A change that somebody looked at and now decides about."""

    change: str
    service: Service
    if_match: str | None
    key: str | None

    def decide(
        self, what: str, body: BaseModel, caller: Caller, do: Callable[[ChangeView], dict[str, Any]]
    ) -> Response:
        """Decide, once, if the caller may see the change and it is still what was looked at."""
        change = visible(self.service, caller, self.change)

        def decide() -> tuple[dict[str, Any], str]:
            insist(change, self.if_match)
            document = do(change)
            return document, etag(self.service.ledger.change(change.change_id))

        asked = [what, self.change, self.if_match, body.model_dump(mode="json")]
        return once(self.service, caller, self.key, asked, decide)


def _looked(change_id: Uuid, service: Serving, if_match: IfMatch = None, key: Key = None) -> Looked:
    return Looked(change_id, service, if_match, key)


Looking = Annotated[Looked, Depends(_looked)]


@router.post("/changes/{change_id}:approve", **gives(Decided, headers=TAGGED))
def approve(body: Approval, looked: Looking, caller: Annotated[Caller, _by("approve")]) -> Response:
    """Approve a held change; with enough approvals it applies."""
    return _say_yes("approve", body, looked, caller)


@router.post("/changes/{change_id}:promote", **gives(Decided, headers=TAGGED))
def promote(body: Approval, looked: Looking, caller: Annotated[Caller, _by("promote")]) -> Response:
    """Make an applied change of scope `instance` the pointer's next state."""
    return _say_yes("promote", body, looked, caller)


@router.post("/changes/{change_id}:reject", **gives(Rejected, headers=TAGGED))
def reject(body: Reasoned, looked: Looking, caller: Annotated[Caller, _by("reject")]) -> Response:
    """Reject a held change for good."""

    def do(change: ChangeView) -> dict[str, Any]:
        done = approving.reject(looked.service.ledger, change.change_id, caller.actor, body.reason)
        return {"change_id": done.change_id, "status": done.status}

    return looked.decide("reject", body, caller, do)


@router.post("/changes/{change_id}:rollback", **gives(RolledBack, headers=TAGGED))
def roll_back(body: Rollback, looked: Looking, caller: Annotated[Caller, _by("rollback")]) -> Response:
    """Undo a change: the pointer moves back, or its answer is withdrawn; says what was served under what is undone."""
    ledger = looked.service.ledger

    def do(change: ChangeView) -> dict[str, Any]:
        done = rollback(ledger, change.change_id, caller.actor, body.reason, cascade=body.cascade)
        identity = change.body.identity
        state = ledger.pointer(identity.tenant, identity.deployment).state
        return {"change_id": change.change_id, "already": done.already, **rolled_back_document(done, state)}

    return looked.decide("rollback", body, caller, do)


@router.post("/changes/{change_id}:replay", **gives(Replayed))
def replay(
    change_id: Uuid, body: Replay, service: Serving, caller: Annotated[Caller, _by("replay")], key: Key = None
) -> Response:
    """Compute a change again and say whether anything differs; takes a server that runs the learner."""
    change, replayer = visible(service, caller, change_id), service.replayer
    if replayer is None:
        raise Problem("no-learner")

    def do() -> tuple[dict[str, Any], None]:
        return replayer.replay(change.change_id, body.start, caller.actor), None

    return once(service, caller, key, ["replay", change_id, body.model_dump()], do)


@router.get("/control", **gives(Freezes))
def show_control(service: Serving, caller: Annotated[Caller, _by("read")]) -> dict[str, Any]:
    """List the freezes of learning that are in force."""
    standing = service.ledger.freezes(standing=True)
    shown = [one for one in standing if one.extent == "everywhere" or caller.sees(one.tenant)]
    return {"freezes": [freeze_seen(one, caller) for one in shown]}


@router.post("/control:freeze", **gives(Frozen))
def freeze(body: Control, service: Serving, caller: Annotated[Caller, _by("freeze")], key: Key = None) -> Response:
    """Stop learning at once, of a deployment or of everything; un-adapted serving goes on."""
    return _control("freeze", body, service, caller, key)


@router.post("/control:unfreeze", **gives(Frozen))
def unfreeze(body: Control, service: Serving, caller: Annotated[Caller, _by("freeze")], key: Key = None) -> Response:
    """Let a deployment, or everything, learn again."""
    return _control("unfreeze", body, service, caller, key)


def _say_yes(what: Literal["approve", "promote"], body: Approval, looked: Looked, caller: Caller) -> Response:
    ledger = looked.service.ledger

    def do(change: ChangeView) -> dict[str, Any]:
        roles = approving.policy_of(ledger, change).document.approvals.roles
        proof = approving.Proof(body.shown, caller.identity.authenticated_at)
        flow = approving.approve if what == "approve" else approving.promote
        done = flow(ledger, change.change_id, caller.in_role_of(what, roles), body.reason, proof)
        return decided_document(done, body.shown)

    return looked.decide(what, body, caller, do)


def _control(what: str, body: Control, service: Service, caller: Caller, key: str | None) -> Response:
    caller.insist(body.tenant)

    def do() -> tuple[dict[str, Any], None]:
        flow = freezing.freeze if what == "freeze" else freezing.unfreeze
        place = (body.tenant, body.deployment)
        done = flow(service.ledger, caller.actor, body.reason, *place, everywhere=body.everywhere)
        still = service.ledger.frozen(*place)
        seen = {"freeze": freeze_seen(done.freeze, caller), "still": freeze_seen(still, caller)}
        return {"frozen": still is not None, "already": done.already, **seen}, None

    return once(service, caller, key, [what, body.model_dump(mode="json")], do)
