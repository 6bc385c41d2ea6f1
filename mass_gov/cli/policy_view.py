"""How policies look on a terminal and in JSON: what one says, how two differ, what examples and backtests gave."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from mass_gov.cli.output import BAD, FAINT, GOOD, UNSURE, facts, grid, number, one_line, styled
from mass_gov.errors import InputError

if TYPE_CHECKING:
    from mass_gov.flows.backtest import Backtest
    from mass_gov.flows.policies import Activation
    from mass_gov.flows.policy_examples import Tried
    from mass_gov.policy import Policy
    from mass_gov.policy.rules import Rule
    from mass_gov.policy.widening import Difference

_DIRECTIONS = {"wider": BAD, "other": UNSURE, "narrower": GOOD, "neither": FAINT}
_TOP = 5
"""Reasons shown of each kind of flip."""


def summary(policy: Policy, in_force: bool | None) -> RenderableType:
    """What a policy says besides its gates."""
    document = policy.document
    approvals, update, samples = document.approvals, document.update, document.samples
    own = "counts, and is marked" if approvals.self_approval else "does not count"
    rows: dict[str, RenderableType] = {
        "says": one_line(document.description),
        "in force": {True: "yes", False: "no", None: "not looked up (a file or a name was given)"}[in_force],
        "digest": policy.digest,
        "suites": f"{document.suites.instance} for one answer, {document.suites.deployment} for a pointer",
        "applies by itself": _envelope(policy),
        "steps": "judged as taken, never projected"
        if update.trust_radius == "unused"
        else f"projected to {number(update.trust_radius)} (scope {update.projection})",
        "samples": f"real share {number(samples.real_share)}"
        + ("; weighed by the density ratio" if samples.importance_weights else ""),
        "may ask for": "; ".join(
            f"{role}: {', '.join(scopes) or 'nothing'}" for role, scopes in document.scopes.model_dump().items()
        ),
        "approvals": f"{approvals.required} of {', '.join(approvals.roles)}; the requester's own approval {own}",
        "approvers": _proof(policy),
        "while pending": f"serves the {document.while_pending} answer"
        if document.while_pending != "none"
        else "serves no answer",
        "keeps": "the delta of an update for one answer"
        + (" (recipes are not kept instead yet)" if document.retention.instance == "recipe" else ""),
    }
    return facts(rows)


def _envelope(policy: Policy) -> str:
    envelope = policy.document.envelope.model_dump()
    limits = [
        f"{name.replace('_', ' ')} up to {number(value)}"
        for name, value in envelope.items()
        if isinstance(value, float)
    ]
    return f"scope {', '.join(envelope['scopes']) or 'none'}; {', '.join(limits)}"


def _proof(policy: Policy) -> str:
    approvals = policy.document.approvals
    parts = ["sign" if approvals.signature_required else "sign where their key is registered"]
    if approvals.max_authentication_age_seconds is not None:
        parts.append(f"proved who they are within {approvals.max_authentication_age_seconds} s")
    if approvals.expires_after_hours is not None:
        parts.append(f"have {number(approvals.expires_after_hours)} hours, then it counts as rejected")
    return "; ".join(parts)


def gates(documents: dict[str, Any]) -> RenderableType:
    """Every gate with its settings."""
    table = grid("gate", "limit", "scopes", "if it fails")
    table.columns[0].no_wrap = True
    for name, gate in documents.items():
        if gate == "unused":
            table.add_row(name, Text("unused", style=FAINT), "-", "-")
            continue
        settings = {key: value for key, value in gate.items() if key not in ("on_fail", "scopes")}
        limits = [f"{key} {value if isinstance(value, str) else number(value)}" for key, value in settings.items()]
        scopes = "all" if len(gate["scopes"]) > 1 else gate["scopes"][0]
        table.add_row(name, ", ".join(limits) or "-", scopes, gate["on_fail"])
    return table


def rules(found: Sequence[Rule]) -> RenderableType:
    """Every rule with what it requires and why."""
    table = grid("rule", "requires", "if it fails", "why")
    for column in table.columns[1::2]:
        column.overflow = "fold"
    for rule in found:
        table.add_row(rule.name, one_line(rule.require), rule.on_fail, one_line(rule.why))
    return table


def examples(tried: Sequence[tuple[Policy, Tried]]) -> RenderableType:
    """What every example was to be, and was."""
    table = grid("policy", "example", "decided", "because", "")
    table.columns[1].overflow = table.columns[3].overflow = "fold"
    for policy, one in tried:
        table.add_row(
            policy.label,
            one.example.name,
            styled(one.decision.verdict),
            ", ".join(one.because),
            Text("ok", style=GOOD) if one.as_it_should else Text(_wanted(one), style=BAD),
        )
    return table


def _wanted(one: Tried) -> str:
    return f"not {one.expected}, {', '.join(one.example.because)}"


def example_document(policy: Policy, one: Tried) -> dict[str, Any]:
    """One example, for programs."""
    return {
        "policy": policy.label,
        "example": one.example.name,
        "why": one.example.why,
        "expected": one.expected,
        "expected_because": list(one.example.because),
        "decided": one.decision.verdict,
        "because": list(one.because),
        "ok": one.as_it_should,
    }


def differences(old: Policy, new: Policy, found: Sequence[Difference]) -> RenderableType:
    """Setting by setting."""
    table = grid("setting", old.label, new.label, "lets pass")
    table.columns[0].no_wrap = True
    for column in table.columns[1:3]:
        column.overflow = "fold"
    for one in found:
        said = "-" if one.direction == "neither" else one.direction
        table.add_row(one.path, _value(one.old), _value(one.new), Text(said, style=_DIRECTIONS[one.direction]))
    return table


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return one_line(str(value), 60)
    return number(value)


def difference_document(one: Difference) -> dict[str, Any]:
    """One setting, for programs."""
    old, new = (list(value) if isinstance(value, tuple) else value for value in (one.old, one.new))
    return {"setting": one.path, "old": old, "new": new, "direction": one.direction}


def verdict_on(wider: Sequence[str]) -> str:
    """What it takes to activate it."""
    if not wider:
        return "It lets nothing pass that the old one did not: one person may activate it."
    return (
        f"It lets more pass by {', '.join(wider)}: it takes two people, unless the old one counts one's own approval."
    )


def activation(done: Activation) -> str:
    """What an activation did."""
    names = f"{done.policy.label} ({done.policy.digest[:16]})"
    wider = f" It widens {', '.join(done.widens)}." if done.widens else ""
    place = f"in the place of {done.replaced.label}"
    if done.activated:
        return f"{names} is in force {place}, approved by {', '.join(done.approvers)}.{wider}"
    return f"{names} is proposed {place}.{wider}\nAnother person has to activate the same file."


def moment(text: str | None) -> str | None:
    """A moment as events say it; without a zone it is UTC.

    Raises:
        InputError: it is none.
    """
    from mass_gov.records.base import timestamp

    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
        return timestamp(found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC))
    except (ValueError, OverflowError):  # no time at all, or one that UTC puts before the year 1 or after 9999
        raise InputError(f"{one_line(text, 40)!r} is no time. Write it as 2026-11-28 or 2026-11-28T09:00.") from None


def backtest(candidate: Policy, found: Backtest) -> Iterator[RenderableType]:
    """The table of decisions, why they flip, and what is not known."""
    if not found.changes:
        yield "No change was recorded then: there is nothing to replay."
        return
    table = grid("recorded", candidate.label, "changes", "mostly because")
    table.columns[3].overflow = "fold"
    for (old, new), n in sorted(found.outcomes.items(), key=lambda item: -item[1]):
        reasons = found.reasons.get((old, new))
        because = ", ".join(f"{name} ({count})" for name, count in reasons.most_common(_TOP)) if reasons else "-"
        table.add_row(styled(old), styled(new) if new != "unknown" else Text(new, style=UNSURE), str(n), because)
    yield table
    for (old, new), ids in sorted(found.examples.items()):
        yield "\n".join((f"{old} before, {new} under {candidate.label}:", *(f"  {one}" for one in ids)))
    yield f"{found.flips} of {found.changes} decisions would be others; {found.unknown} cannot be told."
    if found.missing:
        missing = ", ".join(f"{name} ({count})" for name, count in found.missing.most_common())
        yield f"Not recorded, or computed otherwise under the candidate: {missing}."


def backtest_document(found: Backtest) -> dict[str, Any]:
    """The same, for programs."""
    return {
        "changes": found.changes,
        "flips": found.flips,
        "unknown": found.unknown,
        "outcomes": [
            {
                "recorded": old,
                "candidate": new,
                "changes": n,
                "reasons": dict(found.reasons.get((old, new), {})),
                "change_ids": found.examples.get((old, new), []),
            }
            for (old, new), n in sorted(found.outcomes.items())
        ],
        "missing": dict(found.missing),
    }
