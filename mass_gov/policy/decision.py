"""From gate results to a decision (DESIGN section 11).

Rules, in order; the first that applies decides:
  1. nothing was learned (no valid samples, no movement)        -> reject
  2. a failed gate whose `on_fail` is reject                    -> reject
  3. a failed gate whose `on_fail` is hold                      -> hold
  4. an inconclusive gate                                       -> hold (inconclusive never applies by itself)
  5. outside the envelope: a scope or a limit, or a projection  -> hold
  6. otherwise                                                  -> apply
A failed gate whose `on_fail` is drop has dropped its samples and stops nothing. Gates judge the step as it was taken;
the envelope judges the step as it stands, after a projection. A projected step of scope deployment is held whatever its
norm, and so is a projection that the policy does not foresee. A limit whose value is missing or not finite is exceeded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from mass_gov.policy.document import MEASURED_LIMITS, Policy, PolicyDocument
from mass_gov.records.change import Decision, GateResult, Measure, Scope, UpdateSummary, Verdict

PROJECTED = "update.projected"
"""What a decision names where a step was projected that a person has to see."""
_ROUNDED = 1 + 1e-6
"""Of the trust radius: what a norm in single precision may be above it after it was scaled down to it."""

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


def decide(
    gates: Sequence[GateResult],
    update: UpdateSummary,
    scope: Scope,
    policy: Policy,
    measures: Mapping[str, Measure] = MappingProxyType({}),
) -> Decision:
    """Apply the six rules above.

    Arguments:
        measures: of the change, by name; one that the envelope limits and that is missing here is outside it.
    """
    if update.outcome in ("no_valid_samples", "no_movement"):
        return _decision("reject", (), update.outcome, policy)
    failed = [gate for gate in gates if gate.verdict == "fail"]
    if rejecting := [gate.name for gate in failed if gate.on_fail == "reject"]:
        return _decision("reject", rejecting, "gate_rejected", policy)
    if holding := [gate.name for gate in failed if gate.on_fail == "hold"]:
        return _decision("hold", holding, "gate_held", policy)
    if unclear := [gate.name for gate in gates if gate.verdict == "inconclusive"]:
        return _decision("hold", unclear, "gate_inconclusive", policy)
    if outside := list(_outside_envelope(update, scope, policy.document, measures)):
        return _decision("hold", outside, "outside_envelope", policy)
    return _decision("apply", (), "inside_envelope", policy)


def _outside_envelope(
    update: UpdateSummary, scope: Scope, document: PolicyDocument, measures: Mapping[str, Measure]
) -> Iterator[str]:
    envelope = document.envelope
    if scope not in envelope.scopes:
        yield "envelope.scopes"
    taken = {
        "step_norm": update.projected_norm if update.projected else update.step_norm,
        "cumulative_norm": update.cumulative_norm,
    }
    for name, value in taken.items():
        if _exceeds(value, getattr(envelope, name)):
            yield f"envelope.{name}"
    for name in MEASURED_LIMITS:
        measure = measures.get(f"update.{name}")
        limit: float | Literal["unused"] = getattr(envelope, name)
        if limit != "unused" and _exceeds(measure.value if measure is not None else None, limit):
            yield f"envelope.{name}"
    radius = document.update.radius_for(scope)
    foreseen = scope != "deployment" and radius is not None and not _exceeds(update.projected_norm, radius * _ROUNDED)
    if update.projected and not foreseen:
        yield PROJECTED


def _exceeds(value: float | None, limit: float) -> bool:
    """Whether a value is beyond its limit. What is not known is."""
    return value is None or not value <= limit


def _decision(verdict: Verdict, violated: Sequence[str], reason: Reason, policy: Policy) -> Decision:
    return Decision(
        verdict=verdict,
        envelope=policy.document.envelope.id,
        violated=tuple(violated),
        decided_by="policy",
        reason=reason,
    )
