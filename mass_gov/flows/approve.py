"""A person decides: approve or reject a held change, promote an applied one to the pointer's next state.

Rules: an approval is bound to the recorded event, its parent state, the pointer head, the policy and the suite, so that
nobody approves what they did not see. The requester's own approval counts only where the policy allows self-approval,
and is marked. Enough approvals apply the change in the same transaction; activation is compare-and-swap on the
pointer's head. A change that was made from weights which were rolled back since is not approved any more. Needs no
model and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uuid6 import uuid7

from mass_gov.errors import PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.policy import Policy, load_policy
from mass_gov.records.artifacts import AnswerContent, ReasonContent
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import (
    AccessDenied,
    Actor,
    Body,
    ChangeActivated,
    ChangeApproved,
    ChangeRejected,
    ResponseServed,
)

Meaning = Literal["apply", "promote"]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person's decision did."""

    change: ChangeView
    approvals: int
    required: int
    self_approved: bool


def approve(ledger: Ledger, change_id: str, actor: Actor, reason: str) -> Decided:
    """Approve a held change; with enough approvals it applies.

    Raises:
        PermissionRefusedError: the requester's own approval does not count under the policy (recorded as a denial).
        StaleChangeError: the pointer moved since the change was made, or what it was made from was rolled back.
        RefusedError: the change is not waiting for an approval.
    """
    change = ledger.change(change_id)
    if change.status not in ("held", "pending"):
        raise RefusedError(f"change {change.change_id} is {change.status}, not held; there is nothing to approve.")
    return _say_yes(ledger, change, actor, reason, "apply")


def promote(ledger: Ledger, change_id: str, actor: Actor, reason: str) -> Decided:
    """Make an applied instance-scope change the pointer's next state.

    Raises:
        PermissionRefusedError, StaleChangeError, RefusedError: as for `approve`.
    """
    change = ledger.change(change_id)
    if change.status != "applied":
        raise RefusedError(
            f"change {change.change_id} is {change.status}; only an applied change of scope instance can be promoted."
        )
    return _say_yes(ledger, change, actor, reason, "promote")


def reject(ledger: Ledger, change_id: str, actor: Actor, reason: str) -> ChangeView:
    """Reject a held change for good.

    Raises:
        RefusedError: the change is not held.
    """
    change = ledger.change(change_id)
    body = ChangeRejected(change_id=change.change_id, recorded=change.entry.leaf_hash)
    ledger.append([_draft(change, actor, body, reason)])
    return ledger.change(change.change_id)


def undone_parent(ledger: Ledger, change: ChangeView) -> ChangeView | None:
    """Return the rolled-back change whose state this one was made from; None where that state was never undone."""
    maker = maker_of_parent(ledger, change)
    made_by = ledger.change(maker) if maker is not None else None
    # Looking one step back is enough: no active change is ever left standing on one that was rolled back.
    return made_by if made_by is not None and made_by.status == "rolled_back" else None


def maker_of_parent(ledger: Ledger, change: ChangeView) -> str | None:
    """Name the change that made the state which this one was made from; None for the base."""
    head = change.body.parents.pointer_head
    return ledger.move(head).to_change if head is not None else None


def _say_yes(ledger: Ledger, change: ChangeView, actor: Actor, reason: str, meaning: Meaning) -> Decided:
    policy = load_policy(ledger.policy_bytes(change.body.parents.policy))
    own = actor.principal == change.body.identity.requester
    if own and not policy.document.approvals.self_approval:
        _deny(ledger, change, actor, policy)
        raise PermissionRefusedError(
            f"policy {policy.label} does not count the requester's own approval, and {actor.principal!r} requested "
            f"change {change.change_id}. Another person has to approve it."
        )
    if (undone := undone_parent(ledger, change)) is not None:
        raise StaleChangeError(
            f"change {change.change_id} was made from the state of {undone.change_id}, which was rolled back since. "
            "Ask its task again under a new id, and reject or roll back this one."
        )
    required, approvals = (
        policy.document.approvals.required,
        sum(approval.meaning == meaning for approval in change.approvals) + 1,
    )
    approval = ChangeApproved(
        change_id=change.change_id,
        recorded=change.entry.leaf_hash,
        parent_state=change.body.parents.parent_state,
        expected_head=change.body.parents.pointer_head,
        policy=policy.digest,
        suite=change.body.parents.suite,
        meaning=meaning,
        self_approved=own,
        approvals=approvals,
        required=required,
    )
    drafts = [_draft(change, actor, approval, reason)]
    if approvals >= required:
        drafts += [_draft(change, actor, body) for body in _effects(ledger, change, meaning)]
    ledger.append(drafts)
    return Decided(ledger.change(change.change_id), approvals, required, own)


def _effects(ledger: Ledger, change: ChangeView, meaning: Meaning) -> list[Body]:
    """Say what the last needed approval brings about."""
    body = change.body
    effects: list[Body] = []
    if meaning == "promote" or body.identity.scope == "deployment":
        effects.append(
            ChangeActivated(
                change_id=change.change_id,
                expected_head=body.parents.pointer_head,
                from_state=body.parents.parent_state,
                to_state=body.update.state,
                cause="promotion" if meaning == "promote" else "approval",
            )
        )
    if meaning == "apply":
        answer = AnswerContent.model_validate(parse_canonical(ledger.artifact(change.entry, "answer")))
        if answer.adapted is not None:
            served = ResponseServed(
                response_id=str(uuid7()),
                change_id=change.change_id,
                state=answer.adapted.state,
                served="adapted",
                unadapted=None,
            )
            effects.append(served)
    return effects


def _deny(ledger: Ledger, change: ChangeView, actor: Actor, policy: Policy) -> None:
    body = AccessDenied(action="approve", policy=policy.digest, change_id=change.change_id, count=1)
    ledger.append([_draft(change, actor, body)])


def _draft(change: ChangeView, actor: Actor, body: Body, reason: str | None = None) -> EventDraft:
    artifacts = () if reason is None else (reason_artifact(reason),)
    identity = change.body.identity
    return EventDraft(actor, identity.tenant, identity.deployment, body, artifacts)


def reason_artifact(reason: str) -> ArtifactDraft:
    """Seal a person's own words: they never stand in a leaf."""
    return ArtifactDraft("reason", canonical_bytes(ReasonContent(text=reason).document()), SYSTEM_SUBJECT)
