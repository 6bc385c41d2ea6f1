"""Approvals and expiries against the policy that decided about the change: part of step (10) of `mass_gov.flows.audit`.

Rules: times are those of the log's events. Signatures and who had which role are the ledger's own rules, which step (8)
replays; what a policy asks beyond them is asked here. What this does not know is whether a person who was shown
something looked at it.
"""

from __future__ import annotations

import datetime as dt

from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import Entry
from mass_gov.ledger.notebook import Notebook
from mass_gov.policy import Policy
from mass_gov.policy.approving import expires_at, must_be_shown, role_counts, too_old
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import ChangeApproved, ChangeRejected


class ApprovalCheck:
    """Remembers when each change was recorded, and judges what people (or time) said about it."""

    def __init__(self, findings: Findings, notes: Notebook) -> None:
        self._findings = findings
        self._notes = notes

    def recorded(self, entry: Entry, change: ChangeBody, policy: Policy | None) -> None:
        """(10) Note when; whoever asked may ask for this scope."""
        self._notes.note("time of change", change.identity.change_id, entry.predicate.time)
        role, scope = entry.predicate.actor.role, change.identity.scope
        if policy is not None and not policy.document.scopes.may_ask(role, scope):
            self._wrong(entry, change.identity.change_id, f"{policy.label} does not let a {role} ask for scope {scope}")

    def approved(self, entry: Entry, approval: ChangeApproved, policy: Policy) -> None:
        """(10) It is as many, in time, by whom, and after what, as the policy wants."""
        rules, change_id = policy.document.approvals, approval.change_id
        role, now = entry.predicate.actor.role, dt.datetime.fromisoformat(entry.predicate.time)
        due = self._due(change_id, policy)
        faults = {
            f"it takes {approval.required} approvals, and {policy.label} wants {rules.required}": (
                approval.required != rules.required
            ),
            f"{policy.label} does not count the requester's own approval": (
                approval.self_approved and not rules.self_approval
            ),
            f"{policy.label} does not count the approval of a {role}": not role_counts(policy, role),
            f"{policy.label} wants the approver's own signature": (
                rules.signature_required and approval.signature is None
            ),
            f"{policy.label} wants an approver to have seen what the change does": (
                must_be_shown(policy) and approval.shown is None
            ),
            f"it was given after its time was over: {due}": (
                approval.meaning == "apply" and due is not None and now > due
            ),
            too_old(policy, approval.authenticated_at, now) or "": (
                too_old(policy, approval.authenticated_at, now) is not None
            ),
        }
        for what, wrong in faults.items():
            if wrong:
                self._wrong(entry, change_id, what)

    def rejected(self, entry: Entry, rejection: ChangeRejected, policy: Policy) -> None:
        """(10) Where time rejected it, its time was over; and it was the system that said so."""
        if rejection.cause != "expired":
            return
        if entry.predicate.actor.role != "system":
            who = entry.predicate.actor.principal
            self._wrong(entry, rejection.change_id, f"{who} says that its time was over; only the system does")
        due = self._due(rejection.change_id, policy)
        if due is None or dt.datetime.fromisoformat(entry.predicate.time) < due:
            what = f"its time was not over: {policy.label} lets it wait {f'until {due}' if due else 'for ever'}"
            self._wrong(entry, rejection.change_id, what)

    def _due(self, change_id: str, policy: Policy) -> dt.datetime | None:
        recorded = self._notes.find("time of change", change_id)
        return expires_at(policy, recorded) if recorded is not None else None

    def _wrong(self, entry: Entry, change_id: str, what: str) -> None:
        kind = entry.predicate.body.type.removeprefix("change.")
        place = {"approved": "approval", "rejected": "rejection", "recorded": "request"}[kind]
        self._findings.wrong(10, f"event {entry.index}, {place}", what, entry.index, change_id)
