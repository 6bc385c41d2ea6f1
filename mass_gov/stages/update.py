"""Step 3, update: K weighted SFT steps on LoRA over the kept samples, and the signed delta that comes of them.

A step that cannot be taken (no valid sample, nothing moved, a number that is not finite) is an outcome with a name; the
state is then the parent's. This step does not know limits: the policy judges the norms that are reported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mass_gov.evidence.model_signing import delta_digest
from mass_gov.evidence.state import state_digest
from mass_gov.mass.learner import Learner
from mass_gov.mass.lora import Adapter
from mass_gov.mass.values import TrainingSample, UpdateResult, UpdateSettings
from mass_gov.mass.values import UpdateOutcome as LearnerOutcome
from mass_gov.records.artifacts import SamplesContent, UpdateContent
from mass_gov.records.change import ModuleStep, UpdateOutcome, UpdateSummary
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
    settings = UpdateSettings(steps=spec.steps, step_size=spec.step_size, softening=spec.softening)
    training = [
        TrainingSample(sample.question, sample.solution, sample.weight)
        for sample in samples.samples
        if sample.question is not None and sample.solution is not None and not sample.dropped_by
    ]
    result = learner.update(training, parent, settings)
    files = learner.write_adapter(result.adapter) if result.outcome is LearnerOutcome.STEPPED else None
    return Learned(
        adapter=result.adapter,
        files=files,
        summary=_summary(learner, result, files, parent_state, settings),
        content=UpdateContent(
            losses=result.losses,
            gradient_norms=result.gradient_norms,
            step_norms={norm.module: norm.step for norm in result.norms},
            cumulative_norms={norm.module: norm.cumulative for norm in result.norms},
        ),
    )


def signed_by(summary: UpdateSummary, key: str) -> UpdateSummary:
    """Name the key that signed the delta."""
    return summary.model_copy(update={"delta_key": key if summary.delta is not None else None})


def _summary(
    learner: Learner, result: UpdateResult, files: Files | None, parent_state: str, settings: UpdateSettings
) -> UpdateSummary:
    delta = delta_digest(files) if files is not None else None
    taken = max((norm.step for norm in result.norms), default=None)
    return UpdateSummary(
        outcome=_OUTCOMES[result.outcome],
        steps=result.steps_done,
        modules=tuple(
            ModuleStep(
                module=norm.module,
                step_size=settings.step_size_of(norm.module),
                step_norm=norm.step,
                cumulative_norm=norm.cumulative,
            )
            for norm in result.norms
        ),
        projected=False,
        norm_before_projection=taken,
        norm_after_projection=taken,
        loss_first=result.losses[0] if result.losses else None,
        loss_last=result.losses[-1] if result.losses else None,
        anchor_kl=None,
        delta=delta,
        delta_key=None,
        state=state_digest(learner.base_digest, delta) if delta is not None else parent_state,
    )
