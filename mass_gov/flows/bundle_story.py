"""Do the events of a bundle tell one story? Step (8) of `mass_gov.flows.bundle_verify`.

Rules: a bundle is about one change. Every other event opens the log or changes its keys, registers what the change was
made from before it was made, or says what became of it after. Each agrees with the change wherever both speak: tenant
and deployment, states, policy, suite, the leaf hash and the pointer head that an approval binds, whether it was the
requester's own, the scope that a movement is for. The rules of the ledger for whole logs (where the pointer stood, who
was registered and with which key) need the whole log, and `verify` checks them there; that an approver's signature was
not checked here is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import Entry
from mass_gov.ledger.transitions import SCOPE_OF
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import (
    ChangeActivated,
    ChangeApproved,
    ChangeRejected,
    ChangeRolledBack,
    KeyRevoked,
    KeyRotated,
    LogOpened,
    ModelRegistered,
    PolicyActivated,
    ResponseServed,
    SubjectErased,
    SuiteRegistered,
)


def check_story(entries: Sequence[Entry], recorded: Entry, change: ChangeBody, findings: Findings) -> None:
    """Check every event of the bundle against the change that it is about."""
    identity = change.identity
    place = (recorded.predicate.tenant, recorded.predicate.deployment)
    if place != (identity.tenant, identity.deployment):
        findings.wrong(8, f"event {recorded.index}", "it stands under another tenant than its change", recorded.index)
    seen: set[type] = set()
    for entry in entries:
        findings.checked(8)
        if entry.index == recorded.index:
            continue
        seen.add(type(entry.predicate.body))
        if isinstance(entry.predicate.body, ChangeApproved) and entry.predicate.body.signature is not None:
            findings.unknown(f"the approver's own signature in event {entry.index}: their key is not in a bundle")
        if fault := _fault(entry, recorded, change):
            findings.wrong(8, f"event {entry.index}, {entry.predicate.body.type}", fault, entry.index)
    for kind in (ModelRegistered, PolicyActivated, SuiteRegistered):
        if kind not in seen:
            name = str(kind.model_fields["type"].default)
            findings.wrong(8, f"event {recorded.index}", f"the bundle lacks its {name}", recorded.index)
    _progress(entries, change, findings)


def _fault(entry: Entry, recorded: Entry, change: ChangeBody) -> str | None:
    """What is wrong with one event's part in the story."""
    body = entry.predicate.body
    match body:
        case LogOpened() | KeyRotated() | KeyRevoked():
            return None
        case ModelRegistered() | PolicyActivated() | SuiteRegistered():
            return _made_from(entry, body, recorded, change)
        case SubjectErased():
            fits = body.subject == change.identity.subject
        case ChangeApproved() | ChangeRejected() | ChangeActivated() | ChangeRolledBack() | ResponseServed():
            place = (entry.predicate.tenant, entry.predicate.deployment)
            if place != (recorded.predicate.tenant, recorded.predicate.deployment):
                return "it stands under another tenant or deployment than the change"
            fits = body.change_id == change.identity.change_id
        case _:
            return "a bundle of one change does not call for it"
    if not fits:
        return "it is about another change"
    return "it comes before the change" if entry.index < recorded.index else _disagrees(entry, recorded, change)


def _made_from(
    entry: Entry, body: ModelRegistered | PolicyActivated | SuiteRegistered, recorded: Entry, change: ChangeBody
) -> str | None:
    """The change names the model, the policy or the suite, and it was known before."""
    parents = change.parents
    match body:
        case ModelRegistered():
            fits = (body.model, body.prompt_template) == (parents.base_model, parents.prompt_template)
        case PolicyActivated():
            fits = body.policy == parents.policy
        case SuiteRegistered():
            fits = body.suite == parents.suite
    if not fits:
        return "the change was made from another one"
    return None if entry.index < recorded.index else "it comes after the change that was made from it"


def _disagrees(entry: Entry, recorded: Entry, change: ChangeBody) -> str | None:
    """What a later event says otherwise than the change that it is about."""
    parents, update, body = change.parents, change.update, entry.predicate.body
    match body:
        case ChangeApproved():
            return _disagreeing_approval(entry, body, recorded, change)
        case ChangeRejected():
            return None if body.recorded == recorded.leaf_hash else "it rejects something else"
        case ChangeActivated():
            fits = (body.from_state, body.to_state) == (parents.parent_state, update.state)
            lawful = change.identity.scope == SCOPE_OF[body.cause]
            return (
                None
                if fits and lawful
                else "it moves the pointer between other states or for another cause than may be"
            )
        case ChangeRolledBack():
            return None if body.from_state == update.state else "it takes back another state"
        case ResponseServed() if body.served in ("adapted", "parent"):
            wanted = update.state if body.served == "adapted" else parents.parent_state
            return None if body.state == wanted else f"the {body.served} answer is said to come from another state"
        case _:
            return None


def _disagreeing_approval(entry: Entry, body: ChangeApproved, recorded: Entry, change: ChangeBody) -> str | None:
    parents = change.parents
    bound = (body.recorded, body.parent_state, body.expected_head, body.policy, body.suite)
    if bound != (recorded.leaf_hash, parents.parent_state, parents.pointer_head, parents.policy, parents.suite):
        return "it approves something else than the change that was recorded"
    own = entry.predicate.actor.principal == change.identity.requester
    return None if body.self_approved == own else "it does not say truly whether it is the requester's own"


def _progress(entries: Sequence[Entry], change: ChangeBody, findings: Findings) -> None:
    """What became of the change follows from what was decided and approved before."""
    approved: dict[str, set[str]] = {"apply": set(), "promote": set()}
    required = 0
    over: str | None = "rejected" if change.decision.verdict == "reject" else None
    for entry in entries:
        body, where = entry.predicate.body, f"event {entry.index}, {entry.predicate.body.type}"
        if isinstance(body, ChangeApproved):
            approved[body.meaning].add(entry.predicate.actor.principal)
            required = body.required
        lawful = True
        if isinstance(body, ChangeApproved | ChangeActivated) and over is not None:
            findings.wrong(8, where, f"the change was {over} before", entry.index)
        if isinstance(body, ChangeActivated):
            meaning = {"approval": "apply", "promotion": "promote"}.get(body.cause)
            lawful = (
                change.decision.verdict == "apply" if meaning is None else len(approved[meaning]) >= max(required, 1)
            )
        if isinstance(body, ResponseServed) and body.served == "adapted":
            enough = len(approved["apply"]) >= max(required, 1)
            lawful = over is None and (change.decision.verdict == "apply" or enough)
        if not lawful:
            findings.wrong(8, where, "neither the decision nor enough approvals in the bundle allow it", entry.index)
        if isinstance(body, ChangeRejected | ChangeRolledBack):
            over = "rejected" if isinstance(body, ChangeRejected) else "rolled back"
