"""Every decision once more, from the recorded metrics and the recorded policy: step (10) of `mass_gov.flows.audit`.

Rules: a policy is used only if its bytes have the digest that the change names, wherever they come from: the ledger's
sealed copy, or for an auditor without keys the one that was shipped. Approvals are held against the same policy. What
this does not know is whether the metrics are true; `replay` computes them again.
"""

from __future__ import annotations

from functools import cache

from mass_gov.config_data import data_folder
from mass_gov.errors import PolicyError
from mass_gov.flows.audit_contents import ContentCheck
from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import Entry
from mass_gov.policy import Policy, load_policy, rederive
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import ChangeApproved, ChangeRecorded, PolicyActivated


class DecisionCheck:
    """Looks at changes and approvals as they pass by."""

    def __init__(self, contents: ContentCheck, findings: Findings) -> None:
        self._contents = contents
        self._findings = findings
        self._policy_of: dict[str, str] = {}

    def look(self, entry: Entry, change_id: str | None) -> None:
        """(10) Derive again what an event decided; list what a person did alone, and samples that were supplied."""
        match entry.predicate.body:
            case ChangeRecorded(change=change):
                self._findings.count("changes")
                self._policy_of[change.identity.change_id] = change.parents.policy
                if change.synthesis.forced:
                    self._findings.warn(f"Change {change_id} (event {entry.index}) learned from supplied samples.")
                self._decision(entry, change)
            case ChangeApproved() as approval:
                self._approval(entry, approval)
            case PolicyActivated() as activated if activated.self_approved:
                self._findings.warn(
                    f"Policy {activated.name}/v{activated.version} (event {entry.index}) was activated by "
                    f"{', '.join(activated.approvers)} alone."
                )

    def _decision(self, entry: Entry, change: ChangeBody) -> None:
        policy = self._policy(change.parents.policy)
        if policy is None:
            return
        self._findings.checked(10)
        change_id = change.identity.change_id
        where = f"event {entry.index}, decision"
        with self._findings.guard(10, where, entry.index, change_id):
            gates, decision = rederive(change, policy)
            for recorded, derived in zip(change.gates, gates, strict=False):
                if recorded != derived:
                    what = f"gate {recorded.name}: recorded {recorded.verdict}, {policy.label} gives {derived.verdict}"
                    self._findings.wrong(10, f"event {entry.index}, gates", what, entry.index, change_id)
            if len(change.gates) != len(gates):
                what = f"{len(change.gates)} gates are recorded, {policy.label} has {len(gates)}"
                self._findings.wrong(10, f"event {entry.index}, gates", what, entry.index, change_id)
            if change.decision != decision:
                what = f"recorded {change.decision.verdict} ({change.decision.reason}), {policy.label} gives "
                self._findings.wrong(10, where, f"{what}{decision.verdict} ({decision.reason})", entry.index, change_id)

    def _approval(self, entry: Entry, approval: ChangeApproved) -> None:
        if approval.self_approved:
            self._findings.warn(
                f"Change {approval.change_id} was approved (event {entry.index}) by the one who had asked for it."
            )
        policy = self._policy(self._policy_of.get(approval.change_id, ""))
        if policy is None:
            return
        self._findings.checked(10)
        rules, where = policy.document.approvals, f"event {entry.index}, approval"
        if approval.required != rules.required:
            what = f"it takes {approval.required} approvals, and {policy.label} wants {rules.required}"
            self._findings.wrong(10, where, what, entry.index, approval.change_id)
        if approval.self_approved and not rules.self_approval:
            what = f"{policy.label} does not count the requester's own approval"
            self._findings.wrong(10, where, what, entry.index, approval.change_id)

    def _policy(self, digest: str) -> Policy | None:
        policy = self._contents.policies.get(digest) or _shipped().get(digest)
        if policy is None:
            self._findings.skipped(10, f"policy {digest[:16]} is sealed and was not shipped: give the key store")
        return policy


@cache
def _shipped() -> dict[str, Policy]:
    """The policies that came with the program, by digest; one that does not load decides nothing."""
    found: dict[str, Policy] = {}
    for path in sorted(data_folder("policies").glob("*/v*.yaml")):
        try:
            policy = load_policy(path.read_bytes(), str(path))
        except PolicyError:
            continue
        found[policy.digest] = policy
    return found
