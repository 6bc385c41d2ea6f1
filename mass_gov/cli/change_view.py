"""One change for people: what was decided and why on top, then the evidence in the order of the sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from mass_gov.cli.change_why import limit_used, why_panel
from mass_gov.cli.output import BAD, FAINT, GOOD, UNSURE, bar, facts, grid, number, one_line, panel, styled, visible
from mass_gov.documents.contents import Contents
from mass_gov.ledger import ChangeView, ResponseView
from mass_gov.policy import Policy
from mass_gov.policy.decision import EXPLANATIONS
from mass_gov.records.artifacts import AnswerText, CaseContent, ModuleStep, SampleContent
from mass_gov.records.change import ChangeBody, GateResult, PairedCounts

MEANINGS = {
    "applied": "its own answer is served; no pointer moved",
    "active": "the pointer moved to its state",
    "held": "a person has to decide",
    "pending": "inside the envelope, and not activated yet",
    "rejected": "nothing of it is served",
    "retired": "its pointer moved to another base model",
    "rolled_back": "it was undone",
}
_MODULES_SHOWN = 12
_STAGES = ("synthesis", "gates", "update", "regression", "decision", "answer")


def print_change(
    console: Console, change: ChangeView, contents: Contents, responses: Sequence[ResponseView], *, full_samples: bool
) -> None:
    """Print every part that there is."""
    console.print(panel(f"change {change.change_id}: why, and what next", _why(change, contents)))
    console.print(panel("from what, for whom", _origin(change, contents.policy)))
    console.print(panel("task and answers", _answers(contents)))
    console.print(panel("gates", _gates(change.body.gates)))
    console.print(panel("samples", _samples(change.body, contents, full_samples)))
    console.print(panel("update", _update(change.body, contents)))
    console.print(panel("regression", _regression(change.body, contents)))
    console.print(panel("history and cost", _history(change, contents, responses)))


def why(body: ChangeBody) -> str:
    """The decision's reason in words."""
    said = EXPLANATIONS.get(body.decision.reason, body.decision.reason)
    return said + (f" ({', '.join(body.decision.violated)})" if body.decision.violated else "")


def _why(change: ChangeView, contents: Contents) -> RenderableType:
    decided = {
        "decision": Text.assemble(styled(change.body.decision.verdict), f": {why(change.body)}"),
        "status": Text.assemble(styled(change.status), f": {MEANINGS[change.status]}"),
    }
    return Group(facts(dict(decided)), why_panel(change, contents.policy, contents.samples))


def _origin(change: ChangeView, policy: Policy | None) -> RenderableType:
    body = change.body
    marks = ["samples were forced by the caller"] if body.synthesis.forced else []
    if any(approval.self_approved for approval in change.approvals):
        marks.append("self-approved")
    rows: dict[str, RenderableType] = {
        "scope": f"{body.identity.scope}, in {body.identity.tenant}/{body.identity.deployment}",
        "requester": f"{body.identity.requester}, {body.identity.requested_at[:19].replace('T', ' ')} UTC",
        "subject": body.identity.subject,
        "log index": f"{change.index}; seed {body.parents.seed}",
        "from state": body.parents.parent_state,
        "to state": body.update.state if body.update.delta else "the same: nothing was learned",
        "policy": (f"{policy.label}, " if policy else "") + body.parents.policy[:16],
        "base model": body.parents.base_model,
    }
    if marks:
        rows["marked"] = Text("; ".join(marks), style=UNSURE)
    return facts(rows)


def _sealed(contents: Contents, role: str) -> Text:
    return Text(f"not shown: {contents.sealed.get(role, 'not recorded')}", style=FAINT)


def _answers(contents: Contents) -> RenderableType:
    rows: dict[str, RenderableType] = {}
    rows["task"] = visible(contents.request.question) if contents.request else _sealed(contents, "request")
    if contents.answer is None:
        rows["answers"] = _sealed(contents, "answer")
        return facts(rows)
    rows["base answer"] = _answer(contents.answer.base)
    if contents.answer.parent.state != contents.answer.base.state:
        rows["parent answer"] = _answer(contents.answer.parent)
    rows["adapted answer"] = _answer(contents.answer.adapted) if contents.answer.adapted else Text("none", style=FAINT)
    return facts(rows)


def _answer(answer: AnswerText) -> Text:
    found = one_line(answer.answer) if answer.answer is not None else "unparseable"
    style = "bold" if answer.answer is not None else BAD
    return Text.assemble((found, style), (f"\n{one_line(answer.text, 180)}", FAINT))


def _gates(gates: Sequence[GateResult]) -> RenderableType:
    table = grid("gate", "value", "limit", "of limit", "verdict", "on fail")
    table.columns[0].no_wrap = True
    for gate in gates:
        table.add_row(
            gate.name,
            number(gate.value),
            f"{'≤' if gate.comparison == '<=' else '≥'} {number(gate.limit)}",
            limit_used(gate, 10),
            styled(gate.verdict),
            gate.on_fail,
        )
    return table


def _samples(body: ChangeBody, contents: Contents, full: bool) -> RenderableType:
    counts = body.synthesis
    dropped = {
        "unparseable": counts.unparseable,
        "near-duplicate": counts.near_duplicate,
        "the task itself": counts.target_leakage,
    } | {gate.removeprefix("sample.").replace("_", " "): n for gate, n in (counts.dropped or {}).items() if n}
    listed = ", ".join(f"{n} {what}" for what, n in dropped.items())
    head = Text(f"{counts.kept} of {counts.generated} kept; dropped: {listed}")
    if contents.samples is None:
        return Group(head, _sealed(contents, "samples"))
    table = grid("#", "practice problem", "answer", "verdict")
    table.columns[1].overflow = table.columns[3].overflow = "fold"
    for sample in contents.samples.samples:
        shown = sample.text if full or sample.question is None else sample.question
        problem = visible(shown) if full else one_line(shown, 120)
        table.add_row(str(sample.index), problem, one_line(sample.answer or "-", 24), _sample_verdict(sample))
    return Group(head, table)


def _sample_verdict(sample: SampleContent) -> Text:
    if not sample.dropped_by:
        scored = "" if sample.score is None else f"score {sample.score:.2f}, "
        return Text(f"kept, {scored}weight {sample.weight:.2f}", style=GOOD)
    detail = next((gate.detail for gate in sample.gates if gate.gate in sample.dropped_by), "")
    return Text(f"dropped: {one_line(detail, 60)}", style=UNSURE)


def _update(body: ChangeBody, contents: Contents) -> RenderableType:
    update = body.update
    head = Text(f"{update.outcome.replace('_', ' ')}: {update.steps} step(s)")
    if update.loss_first is not None:
        head.append(f"; loss before the first step {number(update.loss_first)}")
        if update.steps > 1:
            head.append(f", before the last {number(update.loss_last)}")
    if not update.modules:
        return head
    head.append(f"\nlargest relative norm: {number(update.step_norm)} step, {number(update.cumulative_norm)} from base")
    if contents.update is None:
        return Group(head, _sealed(contents, "update"))
    modules = contents.update.modules
    whose, step, cumulative = _limits(body, contents.policy)
    head.append(f"; by module, against the {whose}:")
    lines = [head, _norms(modules, step, cumulative)]
    if (more := len(modules) - _MODULES_SHOWN) > 0:
        lines.append(Text(f"and {more} more with smaller steps", style=FAINT))
    return Group(*lines)


def _limits(body: ChangeBody, policy: Policy | None) -> tuple[str, float, float]:
    """Whose limits the norms are shown against: the envelope's, or without the policy the gates'."""
    if policy is not None:
        return "envelope's limits", policy.document.envelope.step_norm, policy.document.envelope.cumulative_norm
    limits = {gate.name: gate.limit for gate in body.gates}
    return "gates' limits", limits.get("update.step_norm", 1.0), limits.get("update.cumulative_norm", 1.0)


def _norms(modules: Sequence[ModuleStep], step: float, cumulative: float) -> RenderableType:
    table = grid("module", "step", f"of {number(step)}", "from base", f"of {number(cumulative)}")
    table.columns[0].overflow = "fold"
    for module in sorted(modules, key=lambda one: -(one.step_norm or 0.0))[:_MODULES_SHOWN]:
        table.add_row(
            module.module,
            number(module.step_norm),
            bar(module.step_norm, step, 8),
            number(module.cumulative_norm),
            bar(module.cumulative_norm, cumulative, 8),
        )
    return table


def _regression(body: ChangeBody, contents: Contents) -> RenderableType:
    summary = body.regression
    if summary is None:
        return Text("not run: there was no new state to test", style=FAINT)
    table = grid("compared with", "right", "lost", "gained", "wrong", "95% bound", "margin")
    table.columns[0].no_wrap = True
    for name, counts in (("the state before", summary.against_previous), ("the frozen base", summary.against_base)):
        table.add_row(name, *_paired(counts))
    lines: list[RenderableType] = [
        Text(f"{summary.n} cases, {summary.critical_lost} of {summary.critical_n} critical ones lost"),
        table,
    ]
    if contents.regression is None:
        return Group(*lines, _sealed(contents, "regression"))
    return Group(*lines, *_flipped(contents.regression.cases))


def _paired(counts: PairedCounts) -> list[RenderableType]:
    return [
        str(counts.both_right),
        Text(str(counts.lost), style=BAD if counts.lost else ""),
        Text(str(counts.gained), style=GOOD if counts.gained else ""),
        str(counts.both_wrong),
        number(counts.lower_bound),
        number(-counts.margin),
    ]


def _flipped(cases: Sequence[CaseContent]) -> Iterator[RenderableType]:
    flipped = [case for case in cases if case.before != case.after]
    if not flipped:
        yield Text("no case changed between right and wrong", style=FAINT)
        return
    table = grid("flipped case", "before", "after", "now")
    table.columns[0].overflow = "fold"
    for case in flipped:
        table.add_row(
            one_line(case.case_id) + (" (critical)" if case.critical else ""),
            one_line(case.before_answer or "-", 16),
            one_line(case.after_answer or "-", 16),
            styled("right" if case.after else "wrong"),
        )
    yield table


def _history(change: ChangeView, contents: Contents, responses: Sequence[ResponseView]) -> RenderableType:
    events = {change.index: ("recorded", f"{change.body.decision.verdict} by {change.body.decision.decided_by}")}
    for approval in change.approvals:
        mark = " (self-approved)" if approval.self_approved else ""
        events[approval.index] = (f"{approval.meaning}: yes", f"{approval.approver}{mark}")
    for index, what, said in (
        (change.activation_index, "activated", "the pointer moved to its state"),
        (change.rejection_index, "rejected", "by a person, or by the time in which nobody said yes"),
        (change.rollback_index, "rolled back", "by a person"),
    ):
        if index is not None:
            events[index] = (what, said)
    for response in responses:
        events[response.index] = ("served", f"the {response.served} answer, response {response.response_id}")
    rows: dict[str, RenderableType] = {
        f"#{index} {what}": said + _reason(contents, index) for index, (what, said) in sorted(events.items())
    }
    cost = change.body.cost
    stages = ", ".join(f"{stage} {cost.seconds[stage]:.2f}" for stage in _STAGES if stage in cost.seconds)
    rows["cost"] = f"{int(cost.flops) / 1e9:.2f} GFLOP, {cost.generated_tokens} generated tokens"
    rows["seconds"] = f"{sum(cost.seconds.values()):.2f} ({stages})"
    return facts(rows)


def _reason(contents: Contents, index: int) -> str:
    return f": {one_line(contents.reasons[index])}" if index in contents.reasons else ""
