"""From gate results to a decision (DESIGN section 11).

Rules, in order; the first that applies decides:
  1. nothing was learned (no valid samples, no movement)        -> reject
  2. a failed gate whose `on_fail` is reject                    -> reject
  3. a failed gate whose `on_fail` is hold                      -> hold
  4. an inconclusive gate                                       -> hold (inconclusive never applies by itself)
  5. outside the envelope: scope, step norm, cumulative norm    -> hold
  6. otherwise                                                  -> apply
A failed gate whose `on_fail` is drop has dropped its samples and stops nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mass_gov.policy.document import Policy
from mass_gov.records.change import Decision, GateResult, Scope, UpdateSummary, Verdict

Reason = Literal[
    "no_valid_samples",
    "no_movement",
    "gate_rejected",
    "gate_held",
    "gate_inconclusive",
    "outside_envelope",
    "inside_envelope",
]
"""The catalogue of decision reasons."""

EXPLANATIONS: dict[str, str] = {
    "no_valid_samples": "no sample survived the sample gates, so nothing was learned",
    "no_movement": "the update moved no weight",
    "gate_rejected": "a gate failed that rejects the change",
    "gate_held": "a gate failed that holds the change for a person",
    "gate_inconclusive": "a gate could not tell, and inconclusive never applies by itself",
    "outside_envelope": "outside the pre-approved envelope, so a person decides",
    "inside_envelope": "every gate passed and the change lies inside the pre-approved envelope",
}
"""For people: what each reason means."""


def decide(gates: Sequence[GateResult], update: UpdateSummary, scope: Scope, policy: Policy) -> Decision:
    """Apply the six rules above."""
    if update.outcome in ("no_valid_samples", "no_movement"):
        return _decision("reject", (), update.outcome, policy)
    failed = [gate for gate in gates if gate.verdict == "fail"]
    if rejecting := [gate.name for gate in failed if gate.on_fail == "reject"]:
        return _decision("reject", rejecting, "gate_rejected", policy)
    if holding := [gate.name for gate in failed if gate.on_fail == "hold"]:
        return _decision("hold", holding, "gate_held", policy)
    if unclear := [gate.name for gate in gates if gate.verdict == "inconclusive"]:
        return _decision("hold", unclear, "gate_inconclusive", policy)
    if outside := _outside_envelope(update, scope, policy):
        return _decision("hold", outside, "outside_envelope", policy)
    return _decision("apply", (), "inside_envelope", policy)


def _outside_envelope(update: UpdateSummary, scope: Scope, policy: Policy) -> list[str]:
    envelope = policy.document.envelope
    names = [] if scope in envelope.scopes else ["envelope.scopes"]
    if update.step_norm is None or not update.step_norm <= envelope.step_norm:
        names.append("envelope.step_norm")
    if update.cumulative_norm is None or not update.cumulative_norm <= envelope.cumulative_norm:
        names.append("envelope.cumulative_norm")
    return names


def _decision(verdict: Verdict, violated: Sequence[str], reason: Reason, policy: Policy) -> Decision:
    return Decision(
        verdict=verdict,
        envelope=policy.document.envelope.id,
        violated=tuple(violated),
        decided_by="policy",
        reason=reason,
    )
