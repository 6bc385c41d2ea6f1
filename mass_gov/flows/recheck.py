"""Test what a pointer stands on, after it was activated, and undo the newest change where the test fails.

Rules: the deployment's suite is run on the pointer's state, on the state before its newest active change, and on the
base; the run is an event, whatever comes out. Where a gate of the policy in force fails, the newest change is rolled
back in the same append, by the system, and with `freeze` learning is frozen too. A gate that could not tell undoes
nothing: what serves was decided about before. A state that nothing stands on but the base has nothing to be tested
against. What a person approved knowing that a regression gate failed fails here again: the policy's limit is what such
a deployment has to change.

A change of scope deployment was tested on the same suite before it was activated. What this adds is what was promoted
(tested on the suite for single answers), activated under an older policy, or runs on another machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from mass_gov.errors import StaleChangeError
from mass_gov.flows.authority import authorise
from mass_gov.flows.drafting import canonical
from mass_gov.flows.freeze import SYSTEM, freeze_draft
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.flows.rollback import RolledBack, affected_by, insist, rollback_drafts
from mass_gov.flows.workbench import Workbench, origin_of, under_policy_in_force
from mass_gov.ledger import ChangeView
from mass_gov.mass.values import Adapter
from mass_gov.policy import judge_regression, regression_passed
from mass_gov.records.change import GateResult, RegressionSummary
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import Actor, RegressionPerformed
from mass_gov.stages.regression import RegressionRunner, compare


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What a test of a pointer found, and what it undid.

    Attributes:
        change: the newest active change, which was tested; None where the pointer stands on its base.
        regression: counts and bounds; None where nothing was tested.
        index: log index of the event of the run.
        undone: what was rolled back; None where the test passed.
        frozen: whether learning was frozen for it.
    """

    change: ChangeView | None
    regression: RegressionSummary | None = None
    gates: tuple[GateResult, ...] = ()
    passed: bool = True
    index: int | None = None
    undone: RolledBack | None = None
    frozen: bool = False


def recheck(bench: Workbench, runner: RegressionRunner, actor: Actor, *, freeze: bool = False) -> Rechecked:
    """Run the deployment's suite on the pointer's state; undo its newest change where that fails.

    Arguments:
        runner: of the suite that the policy in force names for deployments, registered in the ledger.
        actor: who runs the test; what follows from it is the system's doing.
        freeze: also freeze learning where the test fails.

    Raises:
        RefusedError: the pointer stands on another base model than the bench's.
        StaleChangeError: the pointer moved while this ran; nothing was written.
    """
    authorise(bench.ledger, actor, "rebase", (bench.tenant, bench.deployment))
    bench = under_policy_in_force(bench)
    stack = bench.ledger.pointer_stack(bench.tenant, bench.deployment)
    pointer = bench.ledger.pointer(bench.tenant, bench.deployment)
    if not stack or stack[-1].change is None:
        return Rechecked(None)
    if stack[-1].state != pointer.state:
        raise StaleChangeError("the pointer moved while its state was read. Run it again.")
    newest, before = stack[-1], stack[-2]
    states = tuple(_state(bench, state) for state in (bench.base_state, before.state, newest.state))
    content, summary = compare(runner, (states[0], states[1], states[2]), bench.policy.document.gates_for("deployment"))
    gates = judge_regression(summary, bench.policy)
    passed = regression_passed(gates, whole=False)
    body = RegressionPerformed(
        state=newest.state,
        pointer_head=pointer.head_index,
        policy=bench.policy.digest,
        suite=runner.suite.digest,
        regression=summary,
        passed=passed,
    )
    sealed = (ArtifactDraft("regression", canonical(content), SYSTEM_SUBJECT),)
    performed = EventDraft(actor, bench.tenant, bench.deployment, body, sealed)
    change = stack[-1].change
    may_freeze = freeze and bench.ledger.frozen(bench.tenant, bench.deployment) is None

    def record() -> int:
        consequences = [] if passed else _consequences(bench, change, gates, freeze=may_freeze)
        return bench.ledger.append([performed, *consequences])[0].index

    index = insist(record)  # the test is not run again because somebody was answered meanwhile
    undone = _undone(bench, change) if not passed else None
    return Rechecked(change, summary, gates, passed, index, undone, frozen=may_freeze and not passed)


def _state(bench: Workbench, state: str) -> tuple[str, Adapter | None]:
    return state, origin_of(bench, state, None).adapter


def _consequences(
    bench: Workbench, change: ChangeView, gates: tuple[GateResult, ...], *, freeze: bool
) -> list[EventDraft]:
    failed = ", ".join(gate.name for gate in gates if gate.verdict == "fail")
    why = f"The regression test after activation failed: {failed}."
    drafts = rollback_drafts(bench.ledger, [(change, None)], SYSTEM, why, cause="regression", first=1)
    if freeze:
        drafts.append(freeze_draft(bench.ledger, SYSTEM, why, bench.tenant, bench.deployment, cause="regression"))
    return drafts


def _undone(bench: Workbench, change: ChangeView) -> RolledBack:
    now = bench.ledger.change(change.change_id)
    return affected_by(bench.ledger, now)
