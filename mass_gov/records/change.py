"""The change event's leaf (DESIGN section 5): what stands in the log about one test-time update.

Rules: nothing that a person wrote or the model generated, and no digest of a short plaintext; only identities, digests
of long or random bytes, counts, norms, bounds and verdicts. Every gate value can be derived again from the other
fields of the leaf, which is how `verify` re-derives decisions with no model at hand.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from mass_gov.records.base import (
    BigInteger,
    Count,
    Digest,
    Finite,
    Record,
    Slug,
    SubjectHandle,
    Timestamp,
    Uuid,
    not_said,
)

Scope = Literal["instance", "deployment"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
GateLevel = Literal["sample", "update", "regression", "window"]
GateVerdict = Literal["pass", "fail", "inconclusive"]
OnFail = Literal["drop", "hold", "reject"]
Verdict = Literal["apply", "hold", "reject"]
StageName = Literal["synthesis", "gates", "agreement", "update", "regression", "decision", "answer"]
UpdateOutcome = Literal["stepped", "no_valid_samples", "no_movement", "not_finite"]


class Identity(Record):
    """Whose change it is, and when."""

    change_id: Uuid
    tenant: Slug
    deployment: Slug
    scope: Scope
    requester: Slug
    subject: SubjectHandle
    request_commitment: Digest
    """HMAC-SHA256 of the task id under a key outside the database: finds a repeated task, reveals none."""
    requested_at: Timestamp
    recorded_at: Timestamp
    rebased_from: Annotated[Uuid | None, Field(exclude_if=not_said)] = None
    """The change of the same task whose place this one takes, made again because the pointer had moved; that one is
    rejected in the same append."""


class Parents(Record):
    """What the change was made from, by digest."""

    base_model: Digest
    parent_state: Digest
    pointer_head: Count | None
    """Log index of the event that last moved the pointer when its state was read; None if it never moved."""
    config: Digest
    seed: BigInteger
    prompt_template: Digest
    policy: Digest
    suite: Digest
    fingerprint: Digest


class SynthesisSummary(Record):
    """Counts of samples; what was generated stands in the artifact."""

    generated: Count
    unparseable: Count
    near_duplicate: Count
    target_leakage: Count
    kept: Count
    forced: bool
    generator: Digest
    """State whose weights wrote the samples."""
    scorer: Digest | None
    """Digest of the scorer's weights; None while every kept sample weighs the same."""
    dropped: Annotated[dict[Slug, Count] | None, Field(exclude_if=not_said)] = None
    """Samples dropped by each gate that has no count of its own above; None before there were such gates."""


class Measure(Record):
    """A statistic of the change that some gate judges and no other field of the leaf gives."""

    name: Slug
    """The gate that judges it, or what it is a part of; the catalogue is `mass_gov.policy.measures`."""
    value: Finite | None
    """None when it is not a finite number, which never passes."""
    n: Count
    """How many things were counted or averaged."""


class UpdateSummary(Record):
    """The step that was taken."""

    outcome: UpdateOutcome
    steps: Count
    modules: Count
    """Adapted modules; what happened in each stands in the artifact, so that a leaf stays small for any model."""
    not_finite: Count
    """Losses and norms that were not finite numbers."""
    step_sizes: Digest | None
    """Digest of the step size per module (canonical JSON); None when no step was taken."""
    step_norm: Finite | None
    """Largest relative Frobenius norm over modules of the step as taken, before any projection."""
    cumulative_norm: Finite | None
    """The same for base -> new state, after the projection where there was one."""
    projected: bool
    """True when the step was projected into the trust region (a policy's choice)."""
    projected_norm: Finite | None
    """`step_norm` after the projection; None when there was none."""
    loss_first: Finite | None
    """Weighted loss before the first step; None when no step was taken."""
    loss_last: Finite | None
    """Weighted loss before the last step (the same number when there was one step)."""
    anchor_kl: Finite | None
    """Mean KL divergence to the base on anchors, as the measure `update.anchor_kl`; None when the policy asks for none.
    """
    delta: Digest | None
    """Digest of the delta's folder as model-signing computes it; None when nothing was learned."""
    retained: Literal["delta", "recipe"]
    """Whether the delta itself is kept, or only what is needed to make it again (a policy's choice)."""
    delta_key: Digest | None
    """Key id of the P-256 key that signed the delta."""
    state: Digest
    """The state that serving this change means; the parent state when nothing was learned."""


class PairedCounts(Record):
    """Paired outcomes of the same cases under two states."""

    both_right: Count
    lost: Count
    """Right before, wrong after."""
    gained: Count
    both_wrong: Count
    difference: Finite
    """(gained - lost) / n."""
    lower_bound: Finite
    """One-sided 95% lower bound of the difference."""
    margin: Finite
    """What the policy lets the bound fall below zero by."""


class RegressionSummary(Record):
    """Counts and bounds; outcomes per case stand in the artifact."""

    n: Count
    against_previous: PairedCounts
    against_base: PairedCounts
    critical_n: Count
    critical_lost: Count


class GateResult(Record):
    """One check: a statistic, its limit and the verdict."""

    name: Slug
    level: GateLevel
    statistic: Slug
    value: Finite | None
    """None when the statistic is missing or not finite, which never passes."""
    limit: Finite
    comparison: Literal["<=", ">="]
    n: Count
    verdict: GateVerdict
    on_fail: OnFail


class Decision(Record):
    """What the policy (or a person) said."""

    verdict: Verdict
    envelope: Slug
    violated: tuple[Slug, ...]
    """Gates and envelope limits that stood in the way, in the order they were judged."""
    decided_by: Slug
    """`policy` for an automatic decision, else the principal."""
    reason: Slug
    """A code from the catalogue in `mass_gov.policy.decision`."""


class Cost(Record):
    """What the change cost. FLOPs and tokens are metered and reproducible; seconds are not."""

    flops: BigInteger
    generated_tokens: Count
    seconds: dict[StageName, Finite]
    """Wall seconds by stage."""


class ChangeBody(Record):
    """Body of `change.recorded`."""

    identity: Identity
    parents: Parents
    synthesis: SynthesisSummary
    update: UpdateSummary
    regression: RegressionSummary | None
    """None when there was no new state to test."""
    gates: tuple[GateResult, ...]
    decision: Decision
    cost: Cost
    measures: Annotated[tuple[Measure, ...] | None, Field(exclude_if=not_said)] = None
    """By name, each once; None before there were gates that need them."""
    log_size: Annotated[Count | None, Field(exclude_if=not_said)] = None
    """Events of the log that depth, budget and cooldown were read from; None where the policy asks for none of them."""
