"""The gates, judged: each one a statistic of the change's facts, a limit of the policy, and a verdict.

Rules: a value that is missing or not finite never passes. Inconclusive is not a pass. The facts are the leaf's own
summaries, so whoever holds a leaf and the policy can judge again (`rederive`); the artifacts are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mass_gov.errors import IntegrityError
from mass_gov.policy.bounds import paired_lower_bound
from mass_gov.policy.consistency import consistent, consistent_regression
from mass_gov.policy.decision import decide
from mass_gov.policy.document import Policy
from mass_gov.policy.gate_settings import AtLeastGate, BudgetGate, Gates, MarginGate
from mass_gov.policy.measures import BOUNDS, STATISTICS
from mass_gov.policy.metrics import dropped_by_gate, metrics_of
from mass_gov.policy.power import cases_needed
from mass_gov.policy.rules import judge_rules
from mass_gov.records.change import (
    ChangeBody,
    Decision,
    GateLevel,
    GateResult,
    GateVerdict,
    Measure,
    OnFail,
    PairedCounts,
    RegressionSummary,
    Scope,
    SynthesisSummary,
    UpdateSummary,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is judged: three summaries of one change, its measures by name, and the scope that was asked for."""

    scope: Scope
    synthesis: SynthesisSummary
    update: UpdateSummary
    regression: RegressionSummary | None
    measures: Mapping[str, Measure] = field(default_factory=dict)


def facts_of(change: ChangeBody) -> Facts:
    """What a recorded change says of itself."""
    measures = {measure.name: measure for measure in change.measures or ()}
    return Facts(change.identity.scope, change.synthesis, change.update, change.regression, measures)


def judge(facts: Facts, policy: Policy) -> tuple[GateResult, ...]:
    """Judge every gate that applies, in the order of the sentence: samples, update, regression; window and rules."""
    gates = policy.document.gates_for(facts.scope)
    results = list(_sample_gates(facts.synthesis, gates))
    if facts.update.outcome != "no_valid_samples":
        results += _measured("update", facts.measures, gates)
        results += _update_gates(facts.update, gates)
    if facts.regression is not None:
        results += _regression_gates(facts.regression, gates)
        results += _measured("window", facts.measures, gates)
    if facts.update.outcome != "no_valid_samples":
        results += judge_rules(policy.document.rules, metrics_of(facts))
    return tuple(results)


def judge_and_decide(facts: Facts, policy: Policy) -> tuple[tuple[GateResult, ...], Decision]:
    """Judge every gate, and decide on what came out."""
    gates = judge(facts, policy)
    return gates, decide(gates, facts.update, facts.scope, policy, facts.measures)


def rederive(change: ChangeBody, policy: Policy) -> tuple[tuple[GateResult, ...], Decision]:
    """Judge and decide again from a recorded change, trusting its counts and nothing that follows from them.

    Raises:
        IntegrityError: it contradicts itself (`consistent`), a recorded difference or bound is not what its own counts
            give, or a margin is not the policy's.
    """
    consistent(change)
    if change.regression is not None:
        _check_bounds(change.regression, policy.document.gates_for(change.identity.scope))
    return judge_and_decide(facts_of(change), policy)


def judge_regression(regression: RegressionSummary, policy: Policy) -> tuple[GateResult, ...]:
    """Judge a regression run that no change stands behind: of a pointer's state, or of another base model.

    Raises:
        IntegrityError: it contradicts itself, or a recorded bound or margin is not what counts and policy give.
    """
    consistent_regression(regression, "The regression run")
    gates = policy.document.gates_for("deployment")
    _check_bounds(regression, gates)
    return tuple(_regression_gates(regression, gates))


def regression_passed(gates: tuple[GateResult, ...], *, whole: bool) -> bool:
    """Whether a run passed. What already serves passes unless a gate fails; with `whole` (what is to serve next) every
    gate has to pass, and one that could not tell has not."""
    return all(gate.verdict == "pass" if whole else gate.verdict != "fail" for gate in gates)


def _check_bounds(regression: RegressionSummary, gates: Gates) -> None:
    for name, counts, gate in (
        ("previous", regression.against_previous, gates.regression_previous),
        ("base", regression.against_base, gates.regression_base),
    ):
        _check_bound(name, counts, regression.n, gate)


def _check_bound(name: str, counts: PairedCounts, n: int, gate: MarginGate) -> None:
    expected = (
        (counts.gained - counts.lost) / n if n else 0.0,
        paired_lower_bound(counts.gained, counts.lost, n, gate.bound),
    )
    if (counts.difference, counts.lower_bound) != expected:
        raise IntegrityError(f"regression against {name}: the recorded bound is not what its counts give. Restore it.")
    if counts.margin != gate.margin:
        raise IntegrityError(
            f"regression against {name}: the recorded margin is {counts.margin}, the policy's {gate.margin}. Restore "
            "it."
        )


def _sample_gates(synthesis: SynthesisSummary, gates: Gates) -> Iterator[GateResult]:
    n, dropped = synthesis.generated, dropped_by_gate(synthesis)
    for name, gate in gates.used("sample").items():
        share = dropped[name] / n if n and name in dropped else None
        yield _at_most(name, "sample", "share", share, gate.limit, n, gate.on_fail)


def _measured(level: GateLevel, measures: Mapping[str, Measure], gates: Gates) -> Iterator[GateResult]:
    """Gates that judge one measure of their own name: at most the limit, or at least."""
    for name, settings in gates.used(level).items():
        if name not in STATISTICS:
            continue
        if isinstance(settings, BudgetGate):
            yield _budget(name, measures, settings)
            continue
        measure = measures.get(name)
        value, n = (measure.value, measure.n) if measure is not None else (None, 0)
        statistic = STATISTICS[name]
        if isinstance(settings, AtLeastGate):
            yield _at_least(name, level, statistic, value, settings.limit, n, settings.on_fail)
        else:
            yield _at_most(name, level, statistic, value, settings.limit, n, settings.on_fail)


def _budget(name: str, measures: Mapping[str, Measure], settings: BudgetGate) -> GateResult:
    """The larger share of what may be spent in an hour."""
    spent = [measures.get(f"{name}.{what}") for what in ("changes", "flops")]
    limits = (float(settings.changes_per_hour), settings.flops_per_hour)
    values = [measure.value if measure is not None else None for measure in spent]
    shares = [value / limit for value, limit in zip(values, limits, strict=True) if value is not None and limit > 0]
    share = max(shares) if len(shares) == len(limits) else None
    n = spent[0].n if spent[0] is not None else 0
    return _at_most(name, "update", STATISTICS[name], share, 1.0, n, settings.on_fail)


def _update_gates(update: UpdateSummary, gates: Gates) -> Iterator[GateResult]:
    n = update.modules
    # What was never measured is as bad as what is not a number.
    missing = sum(
        not _usable(v) for v in (update.step_norm, update.cumulative_norm, update.loss_first, update.loss_last)
    )
    unusable = float(update.not_finite + missing)
    yield _at_most("update.finite", "update", "not_finite", unusable, 0.0, n, gates.update_finite.on_fail)
    yield _at_most(
        "update.steps",
        "update",
        "steps",
        float(update.steps),
        gates.update_steps.limit,
        update.steps,
        gates.update_steps.on_fail,
    )
    for name, value, gate in (
        ("update.step_norm", update.step_norm, gates.update_step_norm),
        ("update.cumulative_norm", update.cumulative_norm, gates.update_cumulative_norm),
    ):
        yield _at_most(name, "update", "max_relative_frobenius", value, gate.limit, n, gate.on_fail)


def _regression_gates(regression: RegressionSummary, gates: Gates) -> Iterator[GateResult]:
    for name, counts, gate in (
        ("regression.previous", regression.against_previous, gates.regression_previous),
        ("regression.base", regression.against_base, gates.regression_base),
    ):
        yield GateResult(
            name=name,
            level="regression",
            statistic=BOUNDS[gate.bound],
            value=paired_lower_bound(counts.gained, counts.lost, regression.n, gate.bound),
            limit=-gate.margin,
            comparison=">=",
            n=regression.n,
            verdict=_non_inferior(counts, regression.n, gate),
            on_fail=gate.on_fail,
        )
    critical = gates.regression_critical
    yield _at_most(
        "regression.critical",
        "regression",
        "critical_lost",
        float(regression.critical_lost),
        critical.limit,
        regression.critical_n,
        critical.on_fail,
    )
    if gates.regression_power != "unused":
        power = gates.regression_power
        needed = float(cases_needed(gates.narrower_margin, power.discordance, power.power))
        result = _at_least(
            "regression.power", "regression", "cases", float(regression.n), needed, regression.n, power.on_fail
        )
        # A suite that is too small is not a failure of the change: it could not tell.
        yield result if result.verdict == "pass" else result.model_copy(update={"verdict": "inconclusive"})


def _non_inferior(counts: PairedCounts, n: int, gate: MarginGate) -> GateVerdict:
    """Pass on the bound; fail when even the estimate is below the margin; otherwise the suite could not tell."""
    if paired_lower_bound(counts.gained, counts.lost, n, gate.bound) >= -gate.margin:
        return "pass"
    return "fail" if n == 0 or (counts.gained - counts.lost) / n < -gate.margin else "inconclusive"


def _at_most(  # one argument per field of the record
    name: str, level: GateLevel, statistic: str, value: float | None, limit: float, n: int, on_fail: OnFail
) -> GateResult:
    holds = value is not None and value <= limit
    return _result(name, level, statistic, value, limit, "<=", n, holds, on_fail)


def _at_least(
    name: str, level: GateLevel, statistic: str, value: float | None, limit: float, n: int, on_fail: OnFail
) -> GateResult:
    holds = value is not None and value >= limit
    return _result(name, level, statistic, value, limit, ">=", n, holds, on_fail)


def _result(
    name: str,
    level: GateLevel,
    statistic: str,
    value: float | None,
    limit: float,
    comparison: Literal["<=", ">="],
    n: int,
    holds: bool,
    on_fail: OnFail,
) -> GateResult:
    """A value that is missing or not finite fails, whatever a comparison with it says."""
    usable = value if _usable(value) else None
    return GateResult(
        name=name,
        level=level,
        statistic=statistic,
        value=usable,
        limit=limit,
        comparison=comparison,
        n=n,
        verdict="pass" if usable is not None and holds else "fail",
        on_fail=on_fail,
    )


def _usable(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
