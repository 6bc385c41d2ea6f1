"""Put another policy in force: one person where it only narrows, two where it lets more pass.

Rules: what widens is what the two files say (`mass_gov.policy.widening`); when in doubt it widens. The first person's
yes to a widening policy is a proposal, the second one's activates it, and the event names both. A policy in force that
counts one's own approval (solo) lets one person widen it alone, and the event is marked. Activation is compare-and-swap
on the policy in force: what one looked at is what is replaced. Once principals are registered, a proposal counts while
whoever made it may still make one: neither a name from before, which nobody proved, nor somebody retired since is a
second person. Needs no model and no torch.

This module does not know who somebody is; it is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from mass_gov.errors import NotFoundError, PermissionRefusedError, RefusedError
from mass_gov.flows.authority import authorise
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.flows.initialise import policy_in_force
from mass_gov.ledger import Ledger
from mass_gov.policy import Policy
from mass_gov.policy.permissions import acting_as
from mass_gov.policy.widening import widens
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import Actor, PolicyActivated, PolicyProposed

_MAY = ("operator", "admin")


@dataclass(frozen=True, slots=True)
class Activation:
    """What came of the wish to put a policy in force."""

    policy: Policy
    replaced: Policy
    widens: tuple[str, ...]
    approvers: tuple[str, ...]
    """Everybody who said yes, the actor last."""
    activated: bool
    """False: it was proposed, and waits for another person."""


def activate_policy(ledger: Ledger, policy: Policy, actor: Actor, tenant: str, deployment: str) -> Activation:
    """Put `policy` in force, or propose it where it takes another person.

    Raises:
        PermissionRefusedError: the actor is neither operator nor admin.
        NotFoundError: no policy is in force yet.
        RefusedError: it is in force already, or the actor proposed it and nobody else did.
        StaleChangeError: another policy came into force meanwhile.
    """
    authorise(ledger, actor, "policies", (tenant, deployment), every_tenant=True)
    if actor.role not in _MAY:
        raise PermissionRefusedError(
            f"{actor.principal} acts as {actor.role}; an operator or an admin sets the policy."
        )
    current = policy_in_force(ledger)
    if current is None:
        raise NotFoundError(
            "no policy is in force in this ledger yet. Run `mass-gov init --policy` with the first one."
        )
    if current.digest == policy.digest:
        raise RefusedError(f"policy {policy.label} is in force already; nothing was done.")
    wider = widens(current.document, policy.document)
    proposed = ledger.policy_proposers(policy.digest)
    others = tuple(
        sorted(name for name, index in proposed.items() if name != actor.principal and _may_still(ledger, name, index))
    )
    enough = bool(others) or not wider or current.document.approvals.self_approval
    if not enough and actor.principal in proposed:
        raise RefusedError(
            f"policy {policy.label} lets more pass than {current.label}, and {actor.principal} proposed it already "
            f"(event {proposed[actor.principal]}). Another person has to activate the same file."
        )
    approvers = (*others, actor.principal)
    body = _activated(policy, current, wider, approvers) if enough else _proposed(policy, current, wider)
    artifact = ArtifactDraft("policy", policy.source, SYSTEM_SUBJECT)
    ledger.append([EventDraft(actor, tenant, deployment, body, (artifact,))])
    return Activation(policy, current, wider, approvers, enough)


def _may_still(ledger: Ledger, name: str, index: int) -> bool:
    """Whether the name of a proposal was proved, and may still propose."""
    since, known = ledger.proven_since(), ledger.principal(name)
    if since is None:
        return True
    return index > since and known is not None and acting_as(known.roles, "policies") is not None


def _activated(policy: Policy, current: Policy, wider: tuple[str, ...], approvers: tuple[str, ...]) -> PolicyActivated:
    return PolicyActivated(
        policy=policy.digest,
        name=policy.document.name,
        version=policy.document.version,
        replaces=current.digest,
        approvers=approvers,
        self_approved=len(approvers) == 1,
        widens=wider,
    )


def _proposed(policy: Policy, current: Policy, wider: tuple[str, ...]) -> PolicyProposed:
    return PolicyProposed(
        policy=policy.digest,
        name=policy.document.name,
        version=policy.document.version,
        replaces=current.digest,
        widens=wider,
    )
