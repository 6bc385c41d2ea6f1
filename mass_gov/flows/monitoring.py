"""What the window monitors need of one change, where the model and the samples are at hand.

Rules: nothing is computed that no gate of the policy asks for. The probe is asked of the parent, of the base and of the
new state, of each in the same batches. The window itself is read from the log and derived in
`mass_gov.policy.monitors.windows`, as `verify` derives it again. An alarm stops learning in the same append that
records the change which raised it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mass_gov.flows.freeze import SYSTEM, freeze_draft
from mass_gov.flows.own_measures import flip_measures, own_measures
from mass_gov.flows.workbench import Origin, Workbench
from mass_gov.ledger import Ledger
from mass_gov.policy.monitors.windows import HEAD, History, Reach, alarm_of, measures_of, reach_of
from mass_gov.records.artifacts import CaseContent, SamplesContent
from mass_gov.records.change import SCOPES, ChangeBody, GateResult, Measure, Scope
from mass_gov.records.drafts import EventDraft
from mass_gov.stages.regression import ask, outcomes
from mass_gov.stages.update import Learned
from mass_gov.tasks.probes import probe_cases


@dataclass(frozen=True, slots=True)
class Watch:
    """Which change is watched, and how its window is read when it is wanted."""

    change_id: str
    read: Callable[[Reach], History]


def watching(change_id: str, bench: Workbench) -> Watch:
    """Watch a change that is being made: its window ends with the newest change of the deployment."""
    return Watch(change_id, lambda reach: read_history(bench.ledger, bench.tenant, bench.deployment, reach, None))


def watching_again(change: ChangeBody, ledger: Ledger) -> Watch | None:
    """Watch a recorded change again: its window ends where it says. None where its policy used none."""
    head = next((measure for measure in change.measures or () if measure.name == HEAD), None)
    if head is None:
        return None
    place = change.identity
    before = -1 if head.value is None else int(head.value)  # -1: it was the deployment's first change
    return Watch(place.change_id, lambda reach: read_history(ledger, place.tenant, place.deployment, reach, before))


def read_history(ledger: Ledger, tenant: str, deployment: str, reach: Reach, upto: int | None) -> History:
    """Read as much of a deployment's changes as the windows look at, up to the log index `upto`, that one included."""
    return History(
        ledger.past(tenant, deployment, limit=reach.recent, upto=upto, scopes=SCOPES),
        ledger.past(tenant, deployment, limit=reach.probed, upto=upto, scopes=reach.scopes),
    )


def probe(
    change_id: str, scope: Scope, origin: Origin, learned: Learned, bench: Workbench
) -> tuple[CaseContent, ...] | None:
    """Ask this change's own fresh cases of base, parent and new state; None where the policy wants no probe."""
    gate = bench.policy.document.gates_for(scope).window_flips
    if gate == "unused":
        return None
    cases = probe_cases(change_id, gate.cases)
    base = ask(bench.learner, cases, None, bench.spec.answer)
    before = base if origin.adapter is None else ask(bench.learner, cases, origin.adapter, bench.spec.answer)
    return outcomes(cases, base, before, ask(bench.learner, cases, learned.adapter, bench.spec.answer))


def window_measures(
    scope: Scope,
    question: str,
    samples: SamplesContent,
    cases: Sequence[CaseContent] | None,
    known: Mapping[str, Measure],
    watch: Watch,
    bench: Workbench,
) -> tuple[Measure, ...]:
    """Everything that the window gates judge, and its parts; nothing where the policy uses none.

    Arguments:
        known: measures that other steps found (`update.generation_depth`).
    """
    document = bench.policy.document
    reach = reach_of(document.gates)
    if reach is None:
        return ()
    own = (*own_measures(question, samples, document.gates), *flip_measures(cases))
    measures = dict(known) | {measure.name: measure for measure in own}
    return (*own, *measures_of(document.gates_for(scope), measures, reach.cut(watch.read(reach))))


def freeze_after(body: ChangeBody, bench: Workbench) -> list[EventDraft]:
    """Draft the freeze that an alarm brings about; nothing where every window gate passed."""
    alarm = alarm_of(body)
    if alarm is None:
        return []
    gate = next(gate for gate in body.gates if gate.name == alarm)
    why, place = _why(body.identity.change_id, gate), (bench.tenant, bench.deployment)
    return [freeze_draft(bench.ledger, SYSTEM, why, *place, cause="monitor", monitor=alarm)]


def _why(change_id: str, gate: GateResult) -> str:
    value = "no number" if gate.value is None else f"{gate.value:.6g}"
    return f"Change {change_id}: {gate.name} is {value}, and the policy wants {gate.comparison} {gate.limit:g}."
