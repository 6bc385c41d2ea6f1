"""Step 3, update: K weighted SFT steps on LoRA over the kept samples, and the signed delta that comes of them.

A step that cannot be taken (no valid sample, nothing moved, a number that is not finite) is an outcome with a name; the
state is then the parent's. This step does not know limits: the policy judges the norms that are reported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.model_signing import delta_digest
from mass_gov.evidence.state import state_digest
from mass_gov.mass.learner import Learner
from mass_gov.mass.values import Adapter, TrainingSample, UpdateResult, UpdateSettings
from mass_gov.mass.values import UpdateOutcome as LearnerOutcome
from mass_gov.records.artifacts import ModuleStep, SamplesContent, UpdateContent
from mass_gov.records.change import UpdateOutcome, UpdateSummary
from mass_gov.records.settings import UpdateSpec

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


def take_steps(
    learner: Learner,
    samples: SamplesContent,
    parent: Adapter,
    parent_state: str,
    spec: UpdateSpec,
) -> Learned:
    """Take the step on the samples' weights, starting from `parent`."""
    sizes = tuple(sorted((spec.step_sizes or {}).items()))
    settings = UpdateSettings(spec.steps, spec.step_size, sizes, spec.softening)
    training = [
        TrainingSample(sample.question, sample.solution, sample.weight)
        for sample in samples.samples
        if sample.question is not None and sample.solution is not None and not sample.dropped_by
    ]
    result = learner.update(training, parent, settings)
    files = learner.write_adapter(result.adapter) if result.outcome is LearnerOutcome.STEPPED else None
    content = _content(result, settings)
    return Learned(result.adapter, files, _summary(learner, result, files, parent_state, content), content)


def signed_by(summary: UpdateSummary, key: str) -> UpdateSummary:
    """Name the key that signed the delta."""
    return summary.model_copy(update={"delta_key": key if summary.delta is not None else None})


def _content(result: UpdateResult, settings: UpdateSettings) -> UpdateContent:
    return UpdateContent(
        losses=result.losses,
        gradient_norms=result.gradient_norms,
        modules=tuple(
            ModuleStep(
                module=norm.module,
                step_size=settings.step_size_of(norm.module),
                step_norm=norm.step,
                cumulative_norm=norm.cumulative,
            )
            for norm in result.norms
        ),
    )


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
        projected=False,
        projected_norm=None,
        loss_first=content.losses[0] if content.losses else None,
        loss_last=content.losses[-1] if content.losses else None,
        anchor_kl=None,
        delta=delta,
        retained="delta",
        delta_key=None,
        state=state_digest(learner.base_digest, delta) if delta is not None else parent_state,
    )
