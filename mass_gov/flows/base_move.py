"""Move a pointer to another base model: explicit, tested before, and an event of its own.

Rules: the deployment's suite is run on the new model, on the pointer's present state and on the old model, and every
regression gate of the policy in force has to pass on the new one against both. A gate that could not tell is not a
pass, and nobody can overrule it. Then the pointer goes to the new model's base state by compare-and-swap. No delta
carries over: what was active is retired. The way back is another move, to the old model's base, and not to what stood
on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mass_gov.errors import FrozenError, RefusedError
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.state import state_digest
from mass_gov.flows.approve import reason_artifact
from mass_gov.flows.drafting import canonical
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.flows.initialise import register_model
from mass_gov.flows.workbench import Workbench, current_origin, under_policy_in_force
from mass_gov.ledger import ChangeView, PointerView
from mass_gov.mass.learner import Learner
from mass_gov.mass.values import Adapter
from mass_gov.policy import judge_regression, regression_passed
from mass_gov.records.change import GateResult, RegressionSummary
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import Actor, PointerRebased
from mass_gov.stages.regression import Answers, RegressionRunner, compare


@dataclass(frozen=True, slots=True)
class Moved:
    """A pointer that stands on another base model now."""

    pointer: PointerView
    from_model: str
    to_model: str
    regression: RegressionSummary
    gates: tuple[GateResult, ...]
    retired: tuple[ChangeView, ...]
    """Changes that were active, newest first."""
    index: int


@dataclass
class _AcrossModels(RegressionRunner):
    """Asks the new model where its state is asked for, and the old one otherwise."""

    new: RegressionRunner = field(kw_only=True)

    def answers(self, state: str, adapter: Adapter | None) -> Answers:
        """As the model behind the state answers."""
        if state == state_digest(self.new.learner.base_digest, None):
            return self.new.answers(state, adapter)
        return super().answers(state, adapter)


def move_base(bench: Workbench, suite: RegressionRunner, new: Learner, actor: Actor, reason: str) -> Moved:
    """Move the deployment's pointer to the base state of `new`.

    Arguments:
        bench: opened on the model that the pointer stands on now.
        suite: runs the suite that the policy in force names for deployments, on that model; it is registered.
        new: the other model.

    Raises:
        RefusedError: the new model fails the regression test, or is the one that the pointer stands on, or the bench's
            model is not.
        FrozenError: learning is frozen there.
        StaleChangeError: the pointer moved while this ran; nothing was moved.
    """
    bench = under_policy_in_force(bench)
    place = (bench.tenant, bench.deployment)
    if (frozen := bench.ledger.frozen(*place)) is not None:
        raise FrozenError(f"learning is frozen for {'/'.join(place)} since event {frozen.index}. Unfreeze it first.")
    if new.base_digest == bench.learner.base_digest:
        raise RefusedError(f"{'/'.join(place)} is used with the model {new.base_digest[:12]} already. Name another.")
    origin = current_origin(bench)
    to_state = state_digest(new.base_digest, None)
    runner = _AcrossModels(suite.learner, suite.suite, suite.spec, new=RegressionRunner(new, suite.suite, suite.spec))
    states = ((bench.base_state, None), (origin.state, origin.adapter), (to_state, None))
    content, summary = compare(runner, states, bench.policy.document.gates_for("deployment"))
    gates = judge_regression(summary, bench.policy)
    _refuse_worse(gates, bench)
    template = sha256_hex(new.template.to_json())
    for learner, digest in ((bench.learner, bench.template_digest), (new, template)):
        register_model(bench.ledger, learner.base_digest, digest, learner.parameter_count, actor, *place)
    stack = bench.ledger.pointer_stack(*place)
    body = PointerRebased(
        expected_head=origin.pointer_head,
        from_model=bench.learner.base_digest,
        from_state=origin.state,
        to_model=new.base_digest,
        to_state=to_state,
        policy=bench.policy.digest,
        suite=suite.suite.digest,
        regression=summary,
    )
    sealed = (reason_artifact(reason), ArtifactDraft("regression", canonical(content), SYSTEM_SUBJECT))
    (entry,) = bench.ledger.append([EventDraft(actor, *place, body, sealed)])
    retired = tuple(bench.ledger.change(one.change.change_id) for one in reversed(stack) if one.change is not None)
    return Moved(bench.ledger.pointer(*place), body.from_model, body.to_model, summary, gates, retired, entry.index)


def _refuse_worse(gates: tuple[GateResult, ...], bench: Workbench) -> None:
    if regression_passed(gates, whole=True):
        return
    failed = "; ".join(
        f"{gate.name} {gate.verdict} ({gate.value} where {gate.comparison} {gate.limit} is wanted, n={gate.n})"
        for gate in gates
        if gate.verdict != "pass"
    )
    raise RefusedError(
        f"the new model is not shown to be as good as what {bench.tenant}/{bench.deployment} stands on: {failed}. "
        "Nothing was moved; use a better model, or another --deployment for this one."
    )
