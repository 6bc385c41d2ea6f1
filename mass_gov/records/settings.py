"""Everything that decides what an adaptation computes, in one frozen value whose digest stands in the leaf.

Two runs with the same state, task, seed and settings compute the same bits on the same machine. Paths, time-outs and
anything else that cannot change a result stay out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mass_gov.records.base import BigInteger, Digest, Record, not_said

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0, le=1_000_000, strict=True)]
StepSize = Annotated[float, Field(ge=0, allow_inf_nan=False)]


OptionalDigest = Annotated[Digest | None, Field(exclude_if=not_said)]
OptionalStepSizes = Annotated[dict[str, StepSize] | None, Field(exclude_if=not_said)]


class SamplingSpec(Record):
    """How samples are drawn."""

    count: PositiveInt = 6
    """Samples per task (the paper's m at test time)."""
    temperature: PositiveFloat = 1.0
    max_new_tokens: PositiveInt = 120


class LoraSpec(Record):
    """The shape and the initial value of the LoRA adapter."""

    rank: PositiveInt = 8
    alpha: PositiveInt = 16
    target_modules: tuple[str, ...] = ()
    """Module name suffixes; empty means the architecture's default (attention output and MLP down projection)."""
    seed: BigInteger = "0"
    """Seeds the initial A; the initial B is zero."""
    initial: OptionalDigest = None
    """Digest of the learned start in the model's core, in the place of `seed`; None where nothing was learned."""


class UpdateSpec(Record):
    """The inner loop: K weighted SFT steps."""

    steps: PositiveInt = 1
    step_size: PositiveFloat = 0.1
    softening: PositiveFloat = 1.0
    """Logits are divided by this before the cross-entropy."""
    step_sizes: OptionalStepSizes = None
    """Learned step size by module name; None where `step_size` holds for all."""

    def step_size_of(self, module: str) -> float:
        """The step size of one module, by the longest suffix of its dotted name, as the learner takes it."""
        matching = [(len(name), size) for name, size in (self.step_sizes or {}).items() if module.endswith(name)]
        return max(matching)[1] if matching else self.step_size


class AnswerSpec(Record):
    """How answers are decoded (greedily)."""

    max_new_tokens: PositiveInt = 120
    batch_size: PositiveInt = 16
    """Prompts per decoding batch. Decode logits are not batch-invariant, so this is part of the result."""


class AdaptationSpec(Record):
    """All of the above."""

    format: Literal[1] = 1
    sampling: SamplingSpec = SamplingSpec()
    lora: LoraSpec = LoraSpec()
    update: UpdateSpec = UpdateSpec()
    answer: AnswerSpec = AnswerSpec()
