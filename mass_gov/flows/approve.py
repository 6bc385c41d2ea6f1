"""A person decides: approve or reject a held change, promote an applied one to the pointer's next state.

Rules: an approval is bound to the recorded event, its parent state, the pointer head, the policy and the suite, and
says which behaviour diff was shown (`flows.behaviour`), so that nobody approves what they did not see. Only the roles
that the policy names count, each person once; the requester's own yes only where the policy allows it, and marked.
A policy may ask for a recent proof of identity and for the approver's own signature. Enough approvals apply the change
in the same transaction; activation is compare-and-swap on the pointer's head. A change whose time is over, or that was
made from weights which were rolled back since, is not approved any more. Needs no model and no torch.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

from uuid6 import uuid7

from mass_gov.errors import PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.evidence.approval import approver_key, sign_approval
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.evidence.signing import Signer
from mass_gov.flows.authority import authorise
from mass_gov.flows.behaviour import read_behaviour
from mass_gov.flows.expiry import expire_one
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.approving import expires_at, fresh_until, must_be_shown, role_counts, too_old
from mass_gov.records.artifacts import AnswerContent, ReasonContent
from mass_gov.records.base import timestamp
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import Actor, Body, ChangeActivated, ChangeApproved, ChangeRejected, ResponseServed

Meaning = Literal["apply", "promote"]
_ACTION: dict[Meaning, Literal["approve", "promote"]] = {"apply": "approve", "promote": "promote"}


@dataclass(frozen=True, slots=True)
class Proof:
    """What an approver brings along besides their name.

    Attributes:
        shown: digest of the behaviour diff that they were shown; None where nothing was.
        authenticated_at: when they last proved who they are; a signature made now is a proof of now.
        signer: their own key.
    """

    shown: str | None = None
    authenticated_at: str | None = None
    signer: Signer | None = None


NO_PROOF = Proof()


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person's decision did."""

    change: ChangeView
    approvals: int
    required: int
    self_approved: bool


def approve(ledger: Ledger, change_id: str, actor: Actor, reason: str, proof: Proof = NO_PROOF) -> Decided:
    """Approve a held change; with enough approvals it applies.

    Raises:
        PermissionRefusedError: this person's approval does not count under the policy (noted as a denial).
        StaleChangeError: the pointer moved since the change was made, what it was made from was rolled back, or
            something else was shown than what was recorded.
        RefusedError: the change is not waiting for an approval any more, or was not shown.
    """
    change = ledger.change(change_id)
    if change.status not in ("held", "pending"):
        raise RefusedError(f"change {change.change_id} is {change.status}, not held; there is nothing to approve.")
    return _say_yes(ledger, change, actor, reason, "apply", proof)


def promote(ledger: Ledger, change_id: str, actor: Actor, reason: str, proof: Proof = NO_PROOF) -> Decided:
    """Make an applied instance-scope change the pointer's next state.

    Raises:
        PermissionRefusedError, StaleChangeError, RefusedError: as for `approve`.
    """
    change = ledger.change(change_id)
    if change.status != "applied":
        raise RefusedError(
            f"change {change.change_id} is {change.status}; only an applied change of scope instance can be promoted."
        )
    return _say_yes(ledger, change, actor, reason, "promote", proof)


def reject(ledger: Ledger, change_id: str, actor: Actor, reason: str) -> ChangeView:
    """Reject a held change for good.

    Raises:
        PermissionRefusedError: the actor may not.
        RefusedError: the change is not held.
    """
    change = ledger.change(change_id)
    authorise(ledger, actor, "reject", change.place, change_id=change.change_id)
    body = ChangeRejected(change_id=change.change_id, recorded=change.entry.leaf_hash)
    ledger.append([_draft(change, actor, body, reason)])
    return ledger.change(change.change_id)


def policy_of(ledger: Ledger, change: ChangeView) -> Policy:
    """The policy that decided about a change, and says what its approval takes."""
    return load_policy(ledger.policy_bytes(change.body.parents.policy))


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


def _say_yes(ledger: Ledger, change: ChangeView, actor: Actor, reason: str, meaning: Meaning, proof: Proof) -> Decided:
    policy = policy_of(ledger, change)
    own = actor.principal == change.body.identity.requester
    authorise(ledger, actor, _ACTION[meaning], change.place, change_id=change.change_id)
    _check_person(ledger, change, actor, policy, meaning)
    _check_waiting(ledger, change, policy)
    _check_proven(ledger, change, meaning)
    _check_seen(ledger, change, policy, proof)
    proof = _proven(ledger, change, actor, policy, meaning, proof)
    required = policy.document.approvals.required
    approvals = sum(approval.meaning == meaning for approval in change.approvals) + 1
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
        shown=proof.shown,
        authenticated_at=proof.authenticated_at,
        signing_key=proof.signer.keyid if proof.signer is not None else None,
    )
    if proof.signer is not None:
        approval = approval.model_copy(update={"signature": sign_approval(approval.document(), proof.signer)})
    until = _good_until(change, policy, meaning, proof)
    drafts = [replace(_draft(change, actor, approval, reason), not_after=until)]
    if approvals >= required:
        drafts += [_draft(change, actor, body) for body in _effects(ledger, change, meaning)]
    ledger.append(drafts)
    return Decided(ledger.change(change.change_id), approvals, required, own)


def _check_person(ledger: Ledger, change: ChangeView, actor: Actor, policy: Policy, meaning: Meaning) -> None:
    """This person's yes counts: their role is one of the policy's, and it is not their own request."""
    if not role_counts(policy, actor.role):
        roles = " or ".join(policy.document.approvals.roles)
        why = f"{actor.principal!r} acts as {actor.role}. Somebody whose role is {roles} has to."
        _deny(ledger, change, actor, meaning, f"policy {policy.label} does not count that approval: {why}")
    if actor.principal == change.body.identity.requester and not policy.document.approvals.self_approval:
        _deny(
            ledger,
            change,
            actor,
            meaning,
            f"policy {policy.label} does not count the requester's own approval, and {actor.principal!r} requested "
            f"change {change.change_id}. Another person has to approve it.",
        )


def _check_waiting(ledger: Ledger, change: ChangeView, policy: Policy) -> None:
    """It can still be decided about: its time is not over, and what it was made from stands."""
    if expire_one(ledger, change, policy):
        due = expires_at(policy, change.entry.predicate.time)
        raise RefusedError(
            f"change {change.change_id} waited until {due:%Y-%m-%d %H:%M} UTC, as {policy.label} lets it, and is "
            "rejected. Submit the task under a new id."
        )
    if (undone := undone_parent(ledger, change)) is not None:
        raise StaleChangeError(
            f"change {change.change_id} was made from the state of {undone.change_id}, which was rolled back since. "
            "Ask its task again under a new id, and reject or roll back this one."
        )


def _check_proven(ledger: Ledger, change: ChangeView, meaning: Meaning) -> None:
    """Whoever said yes before was somebody: a name from before principals were registered was never proved."""
    since = ledger.proven_since()
    early = [one for one in change.approvals if since is not None and one.meaning == meaning and one.index < since]
    if early:
        raise RefusedError(
            f"change {change.change_id} was approved (event {early[0].index}) as {early[0].approver!r} when nobody was "
            "registered, and nobody proved that name. Reject the change, and ask its task again under a new id."
        )


def _check_seen(ledger: Ledger, change: ChangeView, policy: Policy, proof: Proof) -> None:
    """What was shown is what was recorded."""
    look = (
        f"Look at it: `mass-gov changes diff {change.change_id}`, and approve with the digest that it prints: --shown."
    )
    if proof.shown is None:
        if must_be_shown(policy):
            raise RefusedError(f"policy {policy.label} wants an approver to have seen what the change does. {look}")
        return
    if proof.shown != read_behaviour(ledger, change).digest:
        raise StaleChangeError(f"what was shown ({proof.shown[:16]}) is not what {change.change_id} does. {look}")


def _proven(ledger: Ledger, change: ChangeView, actor: Actor, policy: Policy, meaning: Meaning, proof: Proof) -> Proof:
    """Check the approver's key and the age of their proof of identity; returns the proof as it will be recorded."""
    now = ledger.now()
    if proof.signer is not None:  # whoever signs now, proves now who they are
        proof = replace(proof, authenticated_at=timestamp(now))
    why = _wrong_key(ledger, actor, policy, proof) or _wrong_age(actor, policy, proof, now)
    if why is not None:
        _deny(ledger, change, actor, meaning, why)
    return proof


def _wrong_key(ledger: Ledger, actor: Actor, policy: Policy, proof: Proof) -> str | None:
    registered = ledger.principal(actor.principal)
    known = approver_key(registered.public_key) if registered is not None and registered.public_key else None
    if known is None:
        if not policy.document.approvals.signature_required and proof.signer is None:
            return None
        return (
            f"{actor.principal} has registered no key to sign approvals with. An admin registers it: `mass-gov "
            "principals register --public-key`."
        )
    if proof.signer is not None and proof.signer.keyid == known.keyid:
        return None
    what = "is not signed" if proof.signer is None else "would be signed by another key"
    return (
        f"{actor.principal} signs approvals with the key {known.keyid[:16]}, and this one {what}. Give that key: "
        "--sign-with KEYFILE."
    )


def _wrong_age(actor: Actor, policy: Policy, proof: Proof, now: dt.datetime) -> str | None:
    if proof.authenticated_at is not None and proof.authenticated_at > timestamp(now):
        return (
            f"{actor.principal} proved who they are at {proof.authenticated_at}, and the clock says {timestamp(now)}: "
            "it ran backwards. Set it right, or sign: --sign-with KEYFILE."
        )
    why = too_old(policy, proof.authenticated_at, now)
    return f"{why}. Use a newly issued token, or sign: --sign-with KEYFILE." if why is not None else None


def _good_until(change: ChangeView, policy: Policy, meaning: Meaning, proof: Proof) -> dt.datetime | None:
    """Until when this yes may be written: its change waits so long, and what proves who says it is good so long."""
    due = expires_at(policy, change.entry.predicate.time) if meaning == "apply" else None
    moments = [moment for moment in (due, fresh_until(policy, proof.authenticated_at)) if moment is not None]
    return min(moments, default=None)


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


def _deny(ledger: Ledger, change: ChangeView, actor: Actor, meaning: Meaning, why: str) -> NoReturn:
    ledger.deny(actor, _ACTION[meaning], change.place, change.change_id)
    raise PermissionRefusedError(why)


def _draft(change: ChangeView, actor: Actor, body: Body, reason: str | None = None) -> EventDraft:
    artifacts = () if reason is None else (reason_artifact(reason),)
    return EventDraft(actor, *change.place, body, artifacts)


def reason_artifact(reason: str) -> ArtifactDraft:
    """Seal a person's own words: they never stand in a leaf."""
    return ArtifactDraft("reason", canonical_bytes(ReasonContent(text=reason).document()), SYSTEM_SUBJECT)
