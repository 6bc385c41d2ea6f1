"""Step 5, decision: what the policy says about the facts. A refusal is a recorded decision, not an error."""

from __future__ import annotations

from mass_gov.policy import Facts, Policy, judge_and_decide
from mass_gov.records.change import Decision, GateResult


def decide_change(facts: Facts, policy: Policy) -> tuple[tuple[GateResult, ...], Decision]:
    """Judge every gate and decide, as `verify` does again from the leaf."""
    return judge_and_decide(facts, policy)
