"""Why a change was held or rejected, and what to do next: the first thing that an operator wants to know."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from mass_gov.cli.output import BAD, UNSURE, bar, grid, number, one_line
from mass_gov.documents.changes import rule_told
from mass_gov.ledger import ChangeView
from mass_gov.policy import Policy
from mass_gov.policy.approving import expires_at, must_be_shown
from mass_gov.policy.rules import PREFIX as RULE
from mass_gov.records.artifacts import SamplesContent
from mass_gov.records.change import ChangeBody, GateResult

_NOUNS = {"fail": "failed", "inconclusive": "could not tell"}


def violated(body: ChangeBody, policy: Policy | None = None, samples: SamplesContent | None = None) -> Group | None:
    """What stood in the way: each gate and envelope limit with value, limit and a detail; None where nothing did."""
    gates = [gate for gate in body.gates if gate.verdict != "pass" and gate.on_fail != "drop"]
    if body.decision.reason == "no_valid_samples":
        gates += [gate for gate in body.gates if gate.verdict != "pass" and gate.on_fail == "drop"]
    envelope = [name for name in body.decision.violated if name.startswith("envelope.")]
    if not gates and not envelope:
        return None
    table = grid("what", "value", "limit", "of limit", "verdict", "why")
    table.columns[0].no_wrap = True
    table.columns[5].overflow = "fold"
    for gate in gates:
        sign = "≤" if gate.comparison == "<=" else "≥"
        verdict = Text(f"{_NOUNS[gate.verdict]}: {gate.on_fail}s", style=BAD if gate.on_fail == "reject" else UNSURE)
        detail = one_line(rule_told(gate, policy), 500) if gate.name.startswith(RULE) else _detail(gate, body, samples)
        table.add_row(
            gate.name, number(gate.value), f"{sign} {number(gate.limit)}", limit_used(gate, 8), verdict, detail
        )
    for name in envelope:
        value, limit, detail = _outside(name, body, policy)
        used = bar(value, limit, 8) if value is not None and limit is not None else Text("-")
        table.add_row(name, number(value), "-" if limit is None else f"≤ {number(limit)}", used, "outside", detail)
    return Group(table)


def next_steps(change: ChangeView, policy: Policy | None) -> Iterator[str]:
    """The commands that somebody may want now, one a line."""
    ident, status = change.change_id, change.status
    if status in ("held", "pending"):
        yield from _to_decide(change, policy)
    elif status == "rejected":
        yield "nothing of it is served. Ask the task again under a new id to learn from it anew."
    elif status == "applied":
        yield f"mass-gov changes promote {ident} --reason TEXT    makes it the pointer's next state"
        yield f"mass-gov changes rollback {ident} --reason TEXT   withdraws its answer"
    elif status == "active":
        yield f"mass-gov changes rollback {ident} --reason TEXT   moves the pointer back"
    if status != "rolled_back":
        yield f"mass-gov replay {ident}    computes it again, and says whether anything differs"


def _to_decide(change: ChangeView, policy: Policy | None) -> Iterator[str]:
    ident = change.change_id
    if policy is not None:
        rules = policy.document.approvals
        given = sum(approval.meaning == "apply" for approval in change.approvals)
        own = "" if rules.self_approval else f", not {change.body.identity.requester}"
        due = expires_at(policy, change.entry.predicate.time)
        until = f", until {due:%Y-%m-%d %H:%M} UTC" if due is not None else ""
        count = f"{rules.required - given} of {rules.required} approval(s)"
        yield f"waits for {count} by {' or '.join(rules.roles)}{own}{until}"
    shown = " --shown DIGEST" if policy is None or must_be_shown(policy) else ""
    yield f"mass-gov changes diff {ident}    shows what it does, and the digest to approve with"
    yield f"mass-gov changes approve {ident}{shown} --reason TEXT"
    yield f"mass-gov changes reject {ident} --reason TEXT"


def limit_used(gate: GateResult, width: int) -> Text:
    """How much of its limit a gate's value takes, as a bar.

    A limit from above is used up by the value. Against one from below, a value has used up the part of the way to it:
    -value of -limit where the limit is a loss below zero, and limit / value where it is above zero.
    """
    if gate.value is None:
        return Text("no value", style=BAD)
    if gate.comparison == "<=":
        return bar(gate.value, gate.limit, width)
    if gate.limit > 0:
        return bar(gate.limit, max(gate.value, 0.0), width)
    return bar(max(0.0, -gate.value), -gate.limit, width)


def _outside(name: str, body: ChangeBody, policy: Policy | None) -> tuple[float | None, float | None, str]:
    part = name.removeprefix("envelope.")
    if part == "scopes":
        allowed = ", ".join(policy.document.envelope.scopes) if policy is not None else "other scopes"
        return None, None, f"scope {body.identity.scope} was asked for; {allowed or 'no scope'} applies by itself"
    measures = {measure.name: measure.value for measure in body.measures or ()}
    value = getattr(body.update, part, measures.get(f"update.{part}"))
    limit = getattr(policy.document.envelope, part, None) if policy is not None else None
    return value, limit if isinstance(limit, float | int) else None, "outside what applies by itself"


def _detail(gate: GateResult, body: ChangeBody, samples: SamplesContent | None) -> str:
    """What a person can act on: which samples, how many cases."""
    said = f"{gate.statistic.replace('_', ' ')} of {gate.n}"
    regression = body.regression
    if gate.level == "sample" and samples is not None:
        dropped = [s for s in samples.samples if gate.name in s.dropped_by]
        details = [found.detail for s in dropped for found in s.gates if found.gate == gate.name]
        return said + (f": {one_line(details[0], 80)}" if details else "")
    if gate.level == "regression" and regression is not None:
        if gate.name == "regression.critical":
            return f"{regression.critical_lost} of {regression.critical_n} critical cases lost"
        counts = regression.against_base if gate.name == "regression.base" else regression.against_previous
        return f"{counts.lost} lost, {counts.gained} gained of {regression.n} cases"
    return said


def why_panel(change: ChangeView, policy: Policy | None, samples: SamplesContent | None) -> RenderableType:
    """Both, one under the other."""
    table = violated(change.body, policy, samples)
    lines: list[RenderableType] = [Text(step) for step in next_steps(change, policy)]
    return Group(table, Text(), *lines) if table is not None else Group(*lines)
