"""Step 5, decision: what the policy says about the facts. A refusal is a recorded decision, not an error."""

from __future__ import annotations

from mass_gov.policy import Facts, Policy, decide, judge
from mass_gov.records.change import Decision, GateResult


def decide_change(facts: Facts, policy: Policy) -> tuple[tuple[GateResult, ...], Decision]:
    """Judge every gate and decide; the same two calls that `verify` makes again from the leaf."""
    gates = judge(facts, policy)
    return gates, decide(gates, facts.update, facts.scope, policy, facts.measures)
