"""What a ledger must hold before its first change: a policy in force, the base model and the suite, each by an event.

Rules: each is written once; a ledger keeps the policy that it has, and a different one is refused here, because
switching policies is a decision of its own. Needs no model and no torch.
"""

from __future__ import annotations

from mass_gov.errors import RefusedError
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.ledger import Ledger
from mass_gov.policy import Policy, load_policy
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import Actor, Body, ModelRegistered, PolicyActivated, SuiteRegistered


def policy_in_force(ledger: Ledger) -> Policy | None:
    """Return the policy that decides now, or None in a ledger that has none yet."""
    digest = ledger.active_policy()
    return load_policy(ledger.policy_bytes(digest)) if digest is not None else None


def activate_first_policy(ledger: Ledger, policy: Policy, actor: Actor, tenant: str, deployment: str) -> Policy:
    """Activate `policy` in a ledger that has none; otherwise insist that it is the one in force.

    Raises:
        RefusedError: another policy is in force.
    """
    current = policy_in_force(ledger)
    if current is None:
        try:
            _activate(ledger, policy, actor, tenant, deployment)
            return policy
        except RefusedError:  # another process activated one first: compare-and-swap on the policy in force
            current = policy_in_force(ledger)
            if current is None:
                raise
    if current.digest != policy.digest:
        raise RefusedError(
            f"policy {current.label} is in force here, and is not replaced by the way. "
            f"`mass-gov policy activate {policy.document.name}` replaces it."
        )
    return current


def _activate(ledger: Ledger, policy: Policy, actor: Actor, tenant: str, deployment: str) -> None:
    body = PolicyActivated(
        policy=policy.digest,
        name=policy.document.name,
        version=policy.document.version,
        replaces=None,
        approvers=(actor.principal,),
        self_approved=True,
    )
    _append(ledger, body, actor, tenant, deployment, ArtifactDraft("policy", policy.source, SYSTEM_SUBJECT))


def register_model(
    ledger: Ledger, model: str, prompt_template: str, parameters: int, actor: Actor, tenant: str, deployment: str
) -> None:
    """Register a base model with how problems are put to it, once, and again when that has changed."""
    if not ledger.has_model(model) or ledger.model(model).prompt_template != prompt_template:
        body = ModelRegistered(model=model, prompt_template=prompt_template, parameters=str(parameters))
        _append(ledger, body, actor, tenant, deployment)


def register_suite(
    ledger: Ledger, digest: str, name: str, cases: int, source: bytes, actor: Actor, tenant: str, deployment: str
) -> None:
    """Register a regression suite with its file, once."""
    if not ledger.has_suite(digest):
        body = SuiteRegistered(suite=digest, name=name, cases=cases)
        _append(ledger, body, actor, tenant, deployment, ArtifactDraft("suite", source, SYSTEM_SUBJECT))


def _append(ledger: Ledger, body: Body, actor: Actor, tenant: str, deployment: str, *artifacts: ArtifactDraft) -> None:
    ledger.append([EventDraft(actor, tenant, deployment, body, artifacts)])
