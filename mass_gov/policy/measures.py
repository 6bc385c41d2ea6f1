"""The measures that later gates judge, by name: what each is, in which unit, and of what.

Rules: a measure is a number that the leaf records and the leaf's other fields do not give; the gate of the same name
judges it. Whoever computes one is named in docs/reference/gates.md.
"""

from __future__ import annotations

STATISTICS: dict[str, str] = {
    "update.distinct_2": "distinct_bigrams",
    "update.self_bleu": "self_bleu",
    "update.real_share": "anchor_share",
    "update.generation_depth": "generations",
    "update.spectral_norm": "max_relative_spectral",
    "update.cumulative_spectral_norm": "max_relative_spectral",
    "update.anchor_kl": "mean_kl_nats",
    "update.anchor_kl_p99": "p99_kl_nats",
    "update.loss_jump": "loss_after_minus_before",
    "update.budget": "share_of_hourly_budget",
    "update.cooldown": "seconds_since_rollback",
    "window.flips": "e_value",
    "window.distinct_2": "distinct_bigrams",
    "window.tail_coverage": "covered_tail_share",
    "window.density_ratio": "largest_mean_ratio",
    "window.generation_depth": "mean_generations",
}
"""Gate by name to the statistic that its result names."""

BOUNDS = {"tango": "lower_bound_95", "corrected": "corrected_lower_bound_95"}
"""Method of a regression gate's bound to the statistic that its result names (`mass_gov.policy.bounds`)."""

KINDS: tuple[str, ...] = (
    "window.kinds.operator",
    "window.kinds.binary",
    "window.kinds.nested",
    "window.kinds.linear",
    "window.kinds.induction",
    "window.kinds.largest",
)
"""Per shipped domain: which kinds of it the kept samples showed, as a set of bits (`mass_gov.policy.monitors`)."""

KINDS_OF: tuple[str, ...] = ("window.tail_coverage", "window.density_ratio")
"""The gates that these are the parts of."""

OWN: tuple[str, ...] = ("window.distinct_2.own", *KINDS)
"""What later windows have to know of this change's samples."""

PARTS: tuple[str, ...] = (
    "update.budget.changes",
    "update.budget.flops",
    "window.flips.lost",
    "window.flips.gained",
    "window.flips.lost_to_base",
    "window.flips.gained_to_base",
    "window.head",
    "window.since",
    *OWN,
)
"""Measures that are parts of a gate's statistic: what was spent this hour, the flips of this change's probe, what its
samples showed, and which window it was judged in."""

RECORDED: tuple[str, ...] = (*(name for name in STATISTICS if name != "update.budget"), *PARTS)
"""Measures that a leaf may have: a budget's share is judged from its two parts, and stands nowhere."""
