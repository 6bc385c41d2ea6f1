"""What a candidate policy would have to know about a recorded change, and what the record does not tell.

Rules: a statistic that the candidate judges and that was not recorded is missing. What the recorded policy made the
system compute otherwise than the candidate would is not known either: samples that were dropped by another threshold
(and with them the step that was taken), a step that would have been projected, a suite that would have been another
one, a window of another length. Pure functions; this module does not read a log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mass_gov.policy.cel import compile_program
from mass_gov.policy.document import MEASURED_LIMITS, Policy
from mass_gov.policy.gate_settings import LATER_GATES, BudgetGate, GatePart
from mass_gov.policy.judgement import Facts
from mass_gov.policy.metrics import metrics_of
from mass_gov.policy.rules import PREFIX
from mass_gov.records.change import ChangeBody, Scope, UpdateSummary

SAMPLES, PROJECTION, SUITE = "samples", "update.projection", "suite"
"""What is missing where other samples would have been learned from, the step be another one, or the suite."""
OTHER_STEP = frozenset({SAMPLES, PROJECTION})
"""With these, nothing that follows is known."""
_JUDGES_ONLY = frozenset({"limit", "on_fail", "scopes", "margin", "changes_per_hour", "flops_per_hour"})
"""Settings that judge what was computed; every other one decides what is computed."""


def not_recorded(facts: Facts, candidate: Policy) -> Iterator[str]:
    """Gates, limits and rules of the candidate whose statistics the change does not have, by name."""
    gates = candidate.document.gates_for(facts.scope)
    for name, settings in gates.used().items():
        if name in LATER_GATES and _lacks(name, settings, facts):
            yield name
    for limit in MEASURED_LIMITS:
        if getattr(candidate.document.envelope, limit) != "unused" and f"update.{limit}" not in facts.measures:
            yield f"envelope.{limit}"
    known = metrics_of(facts)
    for rule in candidate.document.rules:
        if compile_program(rule.require).holds(known) is None:
            yield f"{PREFIX}{rule.name}"


def computed_otherwise(candidate: Policy, recorded: Policy, scope: Scope) -> tuple[str, ...]:
    """What the candidate makes the system compute in another way than the recorded policy did, by name."""
    new, old = candidate.document, recorded.document
    was, would = old.gates_for(scope).named(), new.gates_for(scope).named()
    differing = [name for name in would if _computing(was[name]) != _computing(would[name])]
    samples = new.samples != old.samples or any(name.startswith("sample.") for name in differing)
    windows = [name for name in differing if name.startswith("window.") and would[name] != "unused"]
    return (*((SAMPLES,) if samples else ()), *windows)


def tested_otherwise(
    change: ChangeBody, candidate: Policy, recorded: Policy, suites: Mapping[Scope, str]
) -> Iterator[str]:
    """What the candidate would have done otherwise to this change: another projection, another suite."""
    scope = change.identity.scope
    radii = (recorded.document.update.radius_for(scope), candidate.document.update.radius_for(scope))
    if _projects_otherwise(change.update, *radii):
        yield PROJECTION
    if change.regression is not None and suites[scope] != change.parents.suite:
        yield SUITE


def _projects_otherwise(update: UpdateSummary, before: float | None, after: float | None) -> bool:
    """Whether the step would have been another one; one that neither radius cuts is the same under both."""
    would = after is not None and update.step_norm is not None and update.step_norm > after
    return before != after and (update.projected or would)


def _computing(settings: object) -> object:
    """Only those settings of a gate that decide what is computed; None where it is not used."""
    return settings.model_dump(exclude=set(_JUDGES_ONLY)) if isinstance(settings, GatePart) else None


def _lacks(name: str, settings: GatePart, facts: Facts) -> bool:
    if name.startswith("sample."):
        return name not in (facts.synthesis.dropped or {})
    if name == "regression.power":
        return False
    if name.startswith("window.") and facts.regression is None:
        return False
    if facts.update.outcome == "no_valid_samples":
        return False
    if isinstance(settings, BudgetGate):
        return not {f"{name}.changes", f"{name}.flops"} <= facts.measures.keys()
    return name not in facts.measures
