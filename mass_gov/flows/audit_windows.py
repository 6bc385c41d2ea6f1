"""The window monitors once more, from the leaves alone, and a change's own part from its samples and its probe.

Part of steps (9) and (10) of `mass_gov.flows.audit`. Rules: a window ends with the change that `window.head` names,
which is an earlier one of the same deployment; every `window.*` figure is what those leaves give
(`policy.monitors.windows`). With the contents at hand, the kinds that the samples showed are found again from their
text, and the probe is the change's own cases, right or wrong by exact text. That an alarm is followed by a freeze is a
rule of the ledger (`ledger.alarm_rules`).

What this does not know: whether the answers in a probe are the model's (`replay` asks again).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from mass_gov.flows.audit_change import Comparison
from mass_gov.flows.own_measures import flip_measures, own_measures
from mass_gov.policy import Policy
from mass_gov.policy.monitors.windows import HEAD, History, Past, measures_of, past_of, reach_of
from mass_gov.records.artifacts import ArtifactRole, RegressionContent, RequestContent, SamplesContent
from mass_gov.records.change import ChangeBody, Measure
from mass_gov.tasks.probes import probe_cases

MOST = 1000
"""Changes remembered of every deployment: twice the longest window that a policy can ask for."""


class WindowCheck:
    """Remembers the last changes of every deployment, and derives their windows again."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, str], deque[Past]] = defaultdict(lambda: deque(maxlen=MOST))
        self._moving: dict[tuple[str, str], deque[Past]] = defaultdict(lambda: deque(maxlen=MOST))
        self.unseen = 0
        """Of the change that was judged last: how many of its deployment lay before it and outside its window's sight.

        Others that were recorded while it was computed, or losses that somebody did not want it to see."""

    def remember(self, index: int, change: ChangeBody) -> None:
        """Take a recorded change into the windows of later ones."""
        if change.update.delta is None:
            return
        place, past = (change.identity.tenant, change.identity.deployment), past_of(index, change)
        self._recent[place].append(past)
        if past.scope == "deployment":
            self._moving[place].append(past)

    def faults(self, change: ChangeBody, policy: Policy) -> Iterator[str]:
        """(10) Say what of a change's window is not what the leaves before it give."""
        self.unseen, document = 0, policy.document
        reach = reach_of(document.gates)
        if reach is None or change.regression is None:
            return
        measures = {measure.name: measure for measure in change.measures or ()}
        head = measures[HEAD].value if HEAD in measures else None
        place = (change.identity.tenant, change.identity.deployment)
        recent = [past for past in self._recent[place] if head is not None and past.index <= head]
        if head is not None and (not recent or recent[-1].index != head):
            yield f"its window ends at event {head:g}, which is no change of this deployment that it could have seen"
            return
        self.unseen = len(self._recent[place]) - len(recent)
        # Of the scopes that ask a probe; all of them where the last 1,000 changes hold as many as the window wants.
        probed = recent if reach.scopes != ("deployment",) else self._moving[place]
        probed = [past for past in probed if head is not None and past.index <= head]
        history = reach.cut(History(tuple(recent), tuple(probed)))
        derived = {m.name: m for m in measures_of(document.gates_for(change.identity.scope), measures, history)}
        for name in sorted(_derived(measures) | derived.keys()):
            if measures.get(name) != derived.get(name):
                recorded, wanted = _said(measures.get(name)), _said(derived.get(name))
                yield f"{name} is recorded as {recorded}, and its window gives {wanted}"


def compare_window(change: ChangeBody, policy: Policy, check: Comparison) -> None:
    """(9) What the leaf says of this change's own samples and probe is what they are."""
    if change.regression is None or reach_of(policy.document.gates) is None:
        return
    recorded = {measure.name: measure for measure in change.measures or ()}
    request, samples = check.record("request", RequestContent), check.record("samples", SamplesContent)
    if request is not None and samples is not None:
        _same(recorded, own_measures(request.question, samples, policy.document.gates), "samples", check)
    content = check.record("regression", RegressionContent)
    if content is None:
        return
    gate = policy.document.gates_for(change.identity.scope).window_flips
    if gate == "unused":
        check.same("regression", "probe", None, content.probe)
        return
    _same(recorded, flip_measures(content.probe), "regression", check)
    wanted = probe_cases(change.identity.change_id, gate.cases)
    asked = [(case.case_id, case.domain) for case in content.probe or ()]
    check.same("regression", "probe", [(case.case_id, case.domain) for case in wanted], asked)
    for case, gold in zip(content.probe or (), wanted, strict=False):
        given = (case.before_answer, case.after_answer, case.base_answer)
        outcome = tuple(answer == gold.answer for answer in given)
        check.same("regression", f"case {case.case_id}", (case.before, case.after, case.base), outcome)


def _derived(measures: dict[str, Measure]) -> set[str]:
    """Names of recorded measures that the window gives; the others are the change's own."""
    own = ("window.kinds.", "window.distinct_2.own", "window.flips.")
    return {name for name in measures if name.startswith("window.") and not name.startswith(own)}


def _same(recorded: dict[str, Measure], found: tuple[Measure, ...], role: ArtifactRole, check: Comparison) -> None:
    for measure in found:
        if recorded.get(measure.name) != measure:
            said = _said(recorded.get(measure.name))
            check.wrong(role, f"{measure.name}: the leaf says {said}, the artifact gives {_said(measure)}")


def _said(measure: Measure | None) -> str:
    return "nothing" if measure is None else f"{measure.value} (n {measure.n})"
