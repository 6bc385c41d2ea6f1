"""Counts of the same cases under two states, as a leaf keeps them: with their difference, its bound and the margin."""

from __future__ import annotations

from mass_gov.policy.bounds import paired_lower_bound
from mass_gov.policy.gate_settings import MarginGate
from mass_gov.records.change import PairedCounts


def paired_counts(*, both_right: int, lost: int, gained: int, both_wrong: int, gate: MarginGate) -> PairedCounts:
    """The counts, and the bound that the gate wants of them. Without a case the difference is 0 and the bound -1."""
    n = both_right + lost + gained + both_wrong
    return PairedCounts(
        both_right=both_right,
        lost=lost,
        gained=gained,
        both_wrong=both_wrong,
        difference=(gained - lost) / n if n else 0.0,
        lower_bound=paired_lower_bound(gained, lost, n, gate.bound),
        margin=gate.margin,
    )
