"""Step 3, update: K weighted SFT steps on LoRA over the kept samples, and the signed delta that comes of them.

A step that cannot be taken (no valid sample, nothing moved, a number that is not finite) is an outcome with a name; the
state is then the parent's. A step that is longer than the trust radius is projected back, and both norms are kept. What
the policy asks to know of it is measured here: spectral norms, the loss after the step, the divergence from the base on
anchors. This step does not know limits: the policy judges what is reported here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.model_signing import delta_digest
from mass_gov.evidence.state import state_digest
from mass_gov.mass.learner import Learner
from mass_gov.mass.values import Adapter, TrainingSample, UpdateResult, UpdateSettings
from mass_gov.mass.values import UpdateOutcome as LearnerOutcome
from mass_gov.policy.update_measures import ANCHORS, LOSS_JUMP, SPECTRAL, mean, update_measures
from mass_gov.records.artifacts import ModuleStep, SamplesContent, UpdateContent
from mass_gov.records.change import Measure, UpdateOutcome, UpdateSummary
from mass_gov.records.settings import UpdateSpec
from mass_gov.tasks.anchors import AnchorPool

Files = Mapping[str, bytes]

_OUTCOMES: dict[LearnerOutcome, UpdateOutcome] = {
    LearnerOutcome.STEPPED: "stepped",
    LearnerOutcome.NO_WEIGHT: "no_valid_samples",
    LearnerOutcome.UNMOVED: "no_movement",
    LearnerOutcome.NON_FINITE: "not_finite",
}


@dataclass(frozen=True, slots=True)
class Learned:
    """What the update left: the new state's adapter and files, and what is recorded about it."""

    adapter: Adapter
    files: Files | None
    """The delta's PEFT folder by file name; None when nothing was learned."""
    summary: UpdateSummary
    content: UpdateContent
    measures: tuple[Measure, ...] = ()
    """What the policy asked to be measured of it (`mass_gov.policy.update_measures`)."""


def take_steps(
    learner: Learner,
    samples: SamplesContent,
    parent: Adapter,
    parent_state: str,
    spec: UpdateSpec,
    *,
    radius: float | None = None,
    asked: Collection[str] = (),
    anchors: AnchorPool | None = None,
) -> Learned:
    """Take the step on the samples' weights, starting from `parent`.

    Arguments:
        radius: of the trust region that the step is projected into; None leaves it as taken.
        asked: names of the measures that are wanted.
        anchors: real tasks on which the new state is compared with the base, where a divergence is wanted.
    """
    sizes = tuple(sorted((spec.step_sizes or {}).items()))
    settings = UpdateSettings(spec.steps, spec.step_size, sizes, spec.softening, radius)
    training = [
        TrainingSample(sample.question, sample.solution, sample.weight)
        for sample in samples.samples
        if sample.question is not None and sample.solution is not None and not sample.dropped_by
    ]
    spectral = not set(SPECTRAL).isdisjoint(asked)
    pool = None if set(ANCHORS).isdisjoint(asked) else anchors
    pairs = [(one.question, one.solution(learner.template.marker)) for one in pool.to_compare()] if pool else []
    result = learner.update(
        training, parent, settings, spectral=spectral, loss_after=LOSS_JUMP in asked, compared=pairs
    )
    files = learner.write_adapter(result.adapter) if result.outcome is LearnerOutcome.STEPPED else None
    content = _content(result, settings, pool)
    measures = () if result.outcome is LearnerOutcome.NO_WEIGHT else update_measures(content, asked)
    return Learned(result.adapter, files, _summary(learner, result, files, parent_state, content), content, measures)


def signed_by(summary: UpdateSummary, key: str) -> UpdateSummary:
    """Name the key that signed the delta."""
    return summary.model_copy(update={"delta_key": key if summary.delta is not None else None})


def _content(result: UpdateResult, settings: UpdateSettings, pool: AnchorPool | None) -> UpdateContent:
    projected = result.projection < 1.0
    after = result.projected_norms or result.norms
    texts = result.divergences
    tokens = None if texts is None else tuple(_finite(value) for text in texts for value in text)
    return UpdateContent(
        losses=result.losses,
        gradient_norms=result.gradient_norms,
        modules=tuple(
            ModuleStep(
                module=norm.module,
                step_size=settings.step_size_of(norm.module),
                step_norm=norm.step,
                cumulative_norm=stands.cumulative,
                spectral_norm=_finite(norm.step_spectral),
                cumulative_spectral_norm=_finite(stands.cumulative_spectral),
                projected_norm=stands.step if projected else None,
            )
            for norm, stands in zip(result.norms, after, strict=True)
        ),
        loss_after=_finite(result.loss_after),
        anchors=pool.digest if pool is not None and tokens is not None else None,
        divergences=tokens,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _summary(
    learner: Learner, result: UpdateResult, files: Files | None, parent_state: str, content: UpdateContent
) -> UpdateSummary:
    delta = delta_digest(files) if files is not None else None
    step_norm, cumulative_norm = content.largest_norms()
    return UpdateSummary(
        outcome=_OUTCOMES[result.outcome],
        steps=result.steps_done,
        modules=len(content.modules),
        # A loss or gradient that is not finite ends the loop before there are norms.
        not_finite=content.not_finite() + (result.outcome is LearnerOutcome.NON_FINITE),
        step_sizes=sha256_hex(canonical_bytes(content.step_sizes())) if content.modules else None,
        step_norm=step_norm,
        cumulative_norm=cumulative_norm,
        projected=result.projection < 1.0,
        projected_norm=content.largest_projected_norm(),
        loss_first=content.losses[0] if content.losses else None,
        loss_last=content.losses[-1] if content.losses else None,
        anchor_kl=mean(content.divergences or ()),
        delta=delta,
        retained="delta",
        delta_key=None,
        state=state_digest(learner.base_digest, delta) if delta is not None else parent_state,
    )
