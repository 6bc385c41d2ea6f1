"""The gates, judged: each one a statistic of the change's facts, a limit of the policy, and a verdict.

Rules: a value that is missing or not finite never passes. Inconclusive is not a pass. The facts are the leaf's own
summaries, so whoever holds a leaf and the policy can judge again (`rederive`); the artifacts are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mass_gov.errors import IntegrityError
from mass_gov.policy.bounds import paired_lower_bound
from mass_gov.policy.consistency import consistent
from mass_gov.policy.decision import decide
from mass_gov.policy.document import Gates, Policy
from mass_gov.records.change import (
    ChangeBody,
    Decision,
    GateLevel,
    GateResult,
    GateVerdict,
    OnFail,
    PairedCounts,
    RegressionSummary,
    Scope,
    SynthesisSummary,
    UpdateSummary,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is judged: three summaries of one change, and the scope that was asked for."""

    scope: Scope
    synthesis: SynthesisSummary
    update: UpdateSummary
    regression: RegressionSummary | None


def judge(facts: Facts, policy: Policy) -> tuple[GateResult, ...]:
    """Judge every gate that applies, in the order of the sentence: samples, update, regression."""
    gates = policy.document.gates
    results = list(_sample_gates(facts.synthesis, gates))
    if facts.update.outcome != "no_valid_samples":
        results += _update_gates(facts.update, gates)
    if facts.regression is not None:
        results += _regression_gates(facts.regression, gates)
    return tuple(results)


def rederive(change: ChangeBody, policy: Policy) -> tuple[tuple[GateResult, ...], Decision]:
    """Judge and decide again from a recorded change, trusting its counts and nothing that follows from them.

    Raises:
        IntegrityError: it contradicts itself (`consistent`), a recorded difference or bound is not what its own counts
            give, or a margin is not the policy's.
    """
    consistent(change)
    margins = policy.document.gates
    if change.regression is not None:
        for name, counts, margin in (
            ("previous", change.regression.against_previous, margins.regression_previous.margin),
            ("base", change.regression.against_base, margins.regression_base.margin),
        ):
            _check_bound(name, counts, change.regression.n, margin)
    facts = Facts(change.identity.scope, change.synthesis, change.update, change.regression)
    gates = judge(facts, policy)
    return gates, decide(gates, facts.update, facts.scope, policy)


def _check_bound(name: str, counts: PairedCounts, n: int, margin: float) -> None:
    expected = (
        (counts.gained - counts.lost) / n if n else 0.0,
        paired_lower_bound(counts.gained, counts.lost, n),
    )
    if (counts.difference, counts.lower_bound) != expected:
        raise IntegrityError(f"regression against {name}: the recorded bound is not what its counts give. Restore it.")
    if counts.margin != margin:
        raise IntegrityError(
            f"regression against {name}: the recorded margin is {counts.margin}, the policy's {margin}. Restore it."
        )


def _sample_gates(synthesis: SynthesisSummary, gates: Gates) -> Iterator[GateResult]:
    n = synthesis.generated
    for name, count, gate in (
        ("sample.format", synthesis.unparseable, gates.sample_format),
        ("sample.near_duplicate", synthesis.near_duplicate, gates.sample_near_duplicate),
        ("sample.target_leakage", synthesis.target_leakage, gates.sample_target_leakage),
    ):
        share = count / n if n else None
        yield _at_most(name, "sample", "share", share, gate.limit, n, gate.on_fail)


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
            statistic="lower_bound_95",
            value=paired_lower_bound(counts.gained, counts.lost, regression.n),
            limit=-gate.margin,
            comparison=">=",
            n=regression.n,
            verdict=_non_inferior(counts, regression.n, gate.margin),
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


def _non_inferior(counts: PairedCounts, n: int, margin: float) -> GateVerdict:
    """Pass on the bound; fail when even the estimate is below the margin; otherwise the suite could not tell."""
    if paired_lower_bound(counts.gained, counts.lost, n) >= -margin:
        return "pass"
    return "fail" if n == 0 or (counts.gained - counts.lost) / n < -margin else "inconclusive"


def _at_most(  # one argument per field of the record
    name: str, level: GateLevel, statistic: str, value: float | None, limit: float, n: int, on_fail: OnFail
) -> GateResult:
    usable = value if _usable(value) else None
    return GateResult(
        name=name,
        level=level,
        statistic=statistic,
        value=usable,
        limit=limit,
        comparison="<=",
        n=n,
        verdict="pass" if usable is not None and usable <= limit else "fail",
        on_fail=on_fail,
    )


def _usable(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
