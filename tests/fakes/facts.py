"""What a policy judges, of a change that passes every gate; a test says what is otherwise."""

from __future__ import annotations

from typing import Any

from mass_gov.records.change import PairedCounts, RegressionSummary, SynthesisSummary, UpdateSummary

DIGEST = "ab" * 32


def synthesis(**otherwise: Any) -> SynthesisSummary:
    """Six samples, all of them kept."""
    ordinary = SynthesisSummary(
        generated=6,
        unparseable=0,
        near_duplicate=0,
        target_leakage=0,
        kept=6,
        forced=False,
        generator=DIGEST,
        scorer=None,
    )
    return ordinary.model_copy(update=otherwise)


def update(**otherwise: Any) -> UpdateSummary:
    """One small step of one module, which lowers the loss."""
    ordinary = UpdateSummary(
        outcome="stepped",
        steps=1,
        modules=1,
        not_finite=0,
        step_sizes=DIGEST,
        step_norm=0.01,
        cumulative_norm=0.01,
        projected=False,
        projected_norm=None,
        loss_first=1.0,
        loss_last=0.9,
        anchor_kl=None,
        delta=DIGEST,
        retained="delta",
        delta_key=DIGEST,
        state=DIGEST,
    )
    return ordinary.model_copy(update=otherwise)


def regression(against_previous: PairedCounts, against_base: PairedCounts, critical_lost: int = 0) -> RegressionSummary:
    """A run of a suite with four critical cases."""
    n = sum(getattr(against_base, name) for name in ("both_right", "lost", "gained", "both_wrong"))
    return RegressionSummary(
        n=n,
        against_previous=against_previous,
        against_base=against_base,
        critical_n=4,
        critical_lost=critical_lost,
    )
