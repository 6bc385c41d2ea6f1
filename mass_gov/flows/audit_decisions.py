"""Every decision once more, from the recorded metrics and the recorded policy: step (10) of `mass_gov.flows.audit`.

Rules: a policy is used only if its bytes have the digest that the change names, wherever they come from: the ledger's
sealed copy, or for an auditor without keys the one that was shipped. With the keys at hand a policy that cannot be read
is a fault. Approvals, the suite and what is served while a change waits are held against the same policy. What this
does not know is whether the metrics are true; `replay` computes them again.
"""

from __future__ import annotations

from functools import cache

from mass_gov.config_data import data_folder
from mass_gov.errors import PolicyError
from mass_gov.flows.audit_approvals import ApprovalCheck
from mass_gov.flows.audit_contents import Contents
from mass_gov.flows.audit_people import Handovers
from mass_gov.flows.audit_report import Findings
from mass_gov.flows.audit_standing import RACE
from mass_gov.flows.audit_windows import WindowCheck
from mass_gov.ledger import Entry
from mass_gov.ledger.notebook import Notebook
from mass_gov.policy import Policy, judge_regression, load_policy, rederive, regression_passed
from mass_gov.policy.monitors.windows import HEAD
from mass_gov.policy.widening import widens
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import (
    ChangeApproved,
    ChangeRecorded,
    ChangeRejected,
    PointerRebased,
    PolicyActivated,
    PolicyProposed,
    RegressionPerformed,
    ResponseServed,
    SuiteRegistered,
    TokenIssued,
)


class DecisionCheck:
    """Looks at changes and approvals as they pass by.

    Arguments:
        whole: whether every change of the log passes by; of one alone, no window can be derived again.
    """

    def __init__(
        self, contents: Contents, findings: Findings, notes: Notebook | None = None, *, whole: bool = True
    ) -> None:
        self._contents, self._whole = contents, whole
        self._findings = findings
        self._notes = notes if notes is not None else Notebook()
        self._approvals = ApprovalCheck(findings, self._notes)
        self._suites: dict[str, SuiteRegistered] = {}
        self._in_force: PolicyActivated | None = None
        self._windows = WindowCheck()
        self._handovers = Handovers(findings)

    def look(self, entry: Entry, change_id: str | None) -> None:
        """(10) Derive again what an event decided; list what a person did alone, and samples that were supplied."""
        match entry.predicate.body:
            case ChangeRecorded(change=change):
                self._findings.count("changes")
                self._notes.note("policy of change", change.identity.change_id, change.parents.policy)
                self._notes.note("requester of change", change.identity.change_id, change.identity.requester)
                if change.synthesis.forced:
                    self._findings.warn(f"Change {change_id} (event {entry.index}) learned from supplied samples.")
                self._decision(entry, change)
                self._windows.remember(entry.index, change)
            case TokenIssued() as issued:
                self._handovers.look(entry, issued)
            case ChangeApproved() as approval:
                self._approval(entry, approval)
            case PointerRebased() | RegressionPerformed() as tested:
                self._regression(entry, tested)
            case ChangeRejected() as rejection:
                self._rejection(entry, rejection)
            case PolicyActivated() as activated:
                self._activation(entry, activated)
            case PolicyProposed() as proposed if proposed.replaces is not None:
                self._widening(entry, proposed, proposed.replaces, ())
            case SuiteRegistered() as registered:
                self._suites[registered.suite] = registered
            case ResponseServed(change_id=str()) as response if response.served != "adapted":
                self._served(entry, response)

    def _regression(self, entry: Entry, body: PointerRebased | RegressionPerformed) -> None:
        """(10) A test of a pointer, or of another base model, came out as the policy judges its counts."""
        policy, suite = self._policy(body.policy, entry.index), self._suites.get(body.suite)
        if policy is None:
            return
        self._findings.checked(10)
        where = f"event {entry.index}, regression"
        with self._findings.guard(10, where, entry.index):
            passed = regression_passed(
                judge_regression(body.regression, policy), whole=isinstance(body, PointerRebased)
            )
            recorded = body.passed if isinstance(body, RegressionPerformed) else True
            if recorded != passed:
                what = f"it is said to have {_outcome(recorded)}, and by {policy.label} it has {_outcome(passed)}"
                self._findings.wrong(10, where, what, entry.index)
        wanted = policy.document.suite_for("deployment")
        if suite is not None and (suite.name, suite.cases) != (wanted, body.regression.n):
            what = f"{body.regression.n} cases of {suite.name} were asked, and {policy.label} wants all of {wanted}"
            self._findings.wrong(10, where, what, entry.index)

    def _activation(self, entry: Entry, activated: PolicyActivated) -> None:
        """Whoever may change the limits is as powerful as whoever decides: every such change is shown."""
        before, self._in_force = self._in_force, activated
        name, who = f"{activated.name}/v{activated.version}", ", ".join(activated.approvers)
        if before is not None:
            self._findings.warn(
                f"Policy {name} replaced {before.name}/v{before.version} (event {entry.index}), approved by {who}."
            )
        self._handovers.together(entry.index, f"Policy {name}", activated.approvers)
        if activated.self_approved:
            self._findings.warn(f"Policy {name} (event {entry.index}) was activated by {who} alone.")
        if before is not None:
            self._widening(entry, activated, before.policy, activated.approvers)

    def _widening(
        self, entry: Entry, said: PolicyActivated | PolicyProposed, replaced: str, approvers: tuple[str, ...]
    ) -> None:
        """(10) What a new policy widens is what the two files say, and more than one person stands behind it."""
        old, new = self._policy(replaced, entry.index), self._policy(said.policy, entry.index)
        if old is None or new is None:
            return
        self._findings.checked(10)
        where, wider = f"event {entry.index}, policy", widens(old.document, new.document)
        if said.widens is not None and said.widens != wider:
            what = f"it says that it widens {', '.join(said.widens) or 'nothing'}, and the files say "
            self._findings.wrong(10, where, f"{what}{', '.join(wider) or 'nothing'}", entry.index)
        if wider and len(approvers) == 1:
            if not old.document.approvals.self_approval:
                what = f"{approvers[0]} alone widened {old.label} by {', '.join(wider)}, which takes two people"
                self._findings.wrong(10, where, what, entry.index)
            else:
                self._findings.warn(
                    f"{approvers[0]} alone widened policy {old.label} by {', '.join(wider)} (event {entry.index})."
                )

    def _served(self, entry: Entry, response: ResponseServed) -> None:
        """(10) Where a change does not stand, what is served is what its policy says, or the one now in force."""
        policy = self._policy(self._policy_of(response.change_id), entry.index)
        if policy is None:
            return
        self._findings.checked(10)
        now = self._known(self._in_force.policy) if self._in_force is not None else None
        lawful = {known.document.while_pending for known in (policy, now) if known is not None}
        if "parent" in lawful:
            lawful.add("base")  # a parent that was rolled back meanwhile answers nothing
        if response.served not in lawful:
            pending = policy.document.while_pending
            what = f"the {response.served} answer was served, and {policy.label} serves {pending} while a change waits"
            self._findings.wrong(10, f"event {entry.index}, response", what, entry.index, response.change_id)

    def _decision(self, entry: Entry, change: ChangeBody) -> None:
        change_id = change.identity.change_id
        self._tested(entry, change)
        policy = self._policy(change.parents.policy, entry.index)
        self._approvals.recorded(entry, change, policy)
        if policy is None:
            return
        self._findings.checked(10)
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
            self._window(entry, change, policy)

    def _window(self, entry: Entry, change: ChangeBody, policy: Policy) -> None:
        """(10) What the window of a change says is what the changes before it give, where they pass by too."""
        change_id = change.identity.change_id
        if not self._whole and any(one.name == HEAD and one.value is not None for one in change.measures or ()):
            self._findings.warn(
                f"The window figures of change {change_id} (event {entry.index}) follow from changes before it, which "
                "are not here: they were judged as they are recorded. Verify the log, or an export, to derive them."
            )
            return
        for fault in self._windows.faults(change, policy):
            self._findings.wrong(10, f"event {entry.index}, window", fault, entry.index, change_id)
        if self._windows.unseen > RACE:
            self._findings.warn(
                f"Change {change_id} (event {entry.index}) was watched without {self._windows.unseen} changes that "
                "its deployment had recorded before: its window did not see them."
            )

    def _tested(self, entry: Entry, change: ChangeBody) -> None:
        """(10) The suite is the one that the policy names, and all of it was asked."""
        suite, policy = self._suites.get(change.parents.suite), self._known(change.parents.policy)
        where = f"event {entry.index}, regression"
        if suite is None:
            return  # step (8) says that it is not registered
        wanted = policy.document.suite_for(change.identity.scope) if policy is not None else suite.name
        if policy is not None and suite.name != wanted:
            what = f"it was tested on {suite.name}, and {policy.label} wants {wanted}"
            self._findings.wrong(10, where, what, entry.index, change.identity.change_id)
        if change.regression is not None and change.regression.n != suite.cases:
            what = f"{change.regression.n} cases were asked, and {suite.name} has {suite.cases}"
            self._findings.wrong(10, where, what, entry.index, change.identity.change_id)

    def _approval(self, entry: Entry, approval: ChangeApproved) -> None:
        if approval.self_approved:
            self._findings.warn(
                f"Change {approval.change_id} was approved (event {entry.index}) by the one who had asked for it."
            )
        requester = self._notes.find("requester of change", approval.change_id)
        own, key = entry.predicate.actor.principal, f"{approval.change_id} {approval.meaning}"
        before = (self._notes.take("approvers of change", key) or "").splitlines()
        self._notes.note("approvers of change", key, "\n".join([*before, own]))
        for other in (*((requester,) if requester else ()), *before):
            self._handovers.together(entry.index, f"The approval of change {approval.change_id}", (own, other))
        policy = self._policy(self._policy_of(approval.change_id), entry.index)
        if policy is None:
            return
        self._findings.checked(10)
        self._approvals.approved(entry, approval, policy)

    def _rejection(self, entry: Entry, rejection: ChangeRejected) -> None:
        policy = self._policy(self._policy_of(rejection.change_id), entry.index)
        if policy is not None:
            self._findings.checked(10)
            self._approvals.rejected(entry, rejection, policy)

    def _policy_of(self, change_id: str | None) -> str:
        return self._notes.find("policy of change", change_id or "") or ""

    def _known(self, digest: str) -> Policy | None:
        return self._contents.policies.get(digest) or _shipped().get(digest)

    def _policy(self, digest: str, index: int) -> Policy | None:
        policy = self._known(digest)
        if policy is None and self._contents.keys is None:
            self._findings.skipped(10, f"policy {digest[:16]} is sealed and was not shipped: give the key store")
        elif policy is None and digest:
            what = f"policy {digest[:16]} cannot be read, although the key store is at hand; restore it"
            self._findings.wrong(10, f"event {index}, policy", what, index)
        return policy


def _outcome(passed: bool) -> str:
    return "passed" if passed else "failed"


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
