"""What an artifact holds: the contents that stay out of the leaf, and the reference by which the leaf names them.

Rules: whatever a person wrote or a model generated stands in an artifact, encrypted, never in a leaf. A leaf names an
artifact by the digest of its *stored* (encrypted) bytes and by a key commitment, so that destroying a subject's key
keeps every proof intact (DESIGN section 6). This module does not know how artifacts are encrypted.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from mass_gov.records.base import BigInteger, Count, Digest, Finite, Record, Slug, SubjectHandle, not_said, not_so

ArtifactRole = Literal[
    "request",
    "config",
    "fingerprint",
    "samples",
    "update",
    "delta.adapter_config",
    "delta.adapter_model",
    "delta.signature",
    "regression",
    "gates",
    "answer",
    "policy",
    "suite",
    "reason",
    "shown",
    "incident",
    "clauses",
]


class ArtifactRef(Record):
    """How a leaf names an artifact."""

    role: ArtifactRole
    index: Count
    digest: Digest
    """SHA-256 of the stored bytes."""
    size: Count
    """Length of the stored bytes."""
    commitment: Digest
    """Commitment to the data key, so that no second plaintext can be shown for the same ciphertext."""
    subject: SubjectHandle
    """Whose key wraps the data key."""


class RequestContent(Record):
    """The problem as it came in. Gold answers never enter: they must not be able to reach the learner."""

    question: str
    task_id: str
    source: str


class SampleGateContent(Record):
    """What one sample gate found about one sample."""

    gate: Slug
    value: Finite | None
    """None where there was no finite number to judge, which never passes."""
    verdict: Literal["pass", "fail"]
    detail: str


class SampleContent(Record):
    """One self-generated question-answer pair, as generated, parsed and judged."""

    index: Count
    seed: BigInteger
    tokens: tuple[int, ...]
    text: str
    finished: bool
    question: str | None
    solution: str | None
    answer: str | None
    unparseable: str | None
    score: Finite | None
    weight: Finite
    gates: tuple[SampleGateContent, ...]
    dropped_by: tuple[Slug, ...]
    measures: Annotated[dict[Slug, Finite | None] | None, Field(exclude_if=not_said)] = None
    """What a model found about this sample (`agreement`, `perplexity`), which its text alone does not tell."""
    real: Annotated[bool, Field(exclude_if=not_so)] = False
    """An anchor: a real task with its gold answer, mixed in by the policy, which no model wrote."""

    def with_measure(self, name: str, value: float | None) -> SampleContent:
        """The same with one more measure; a number that is not finite is a missing one, which no gate passes."""
        finite = value if value is not None and math.isfinite(value) else None
        return self.model_copy(update={"measures": {**(self.measures or {}), name: finite}})


class BatchContent(Record):
    """The batch that a change was computed in.

    What its bits depend on are the two widths; size and place only say with how many others it was computed.
    """

    size: Count
    place: Count
    practise_width: Count
    """Tokens that the prompt of the practice was padded to."""
    solve_width: Count
    """Tokens that the prompt of the answers was padded to."""


class SamplesContent(Record):
    """Every sample of one change, the dropped ones included, and the batch they were decoded in."""

    prompt_tokens: tuple[int, ...]
    batch_size: Count
    forced: bool
    """True when the samples were supplied by the caller instead of generated (marked everywhere)."""
    samples: tuple[SampleContent, ...]
    """First what was generated or supplied, then the anchors."""
    anchor_pool: Annotated[Digest | None, Field(exclude_if=not_said)] = None
    """Digest of the pool that anchors were chosen from, or samples compared with; None where nobody asked for it."""
    batch: Annotated[BatchContent | None, Field(exclude_if=not_said)] = None
    """The batch that the whole change was computed in; None for one that was computed by itself."""


class ModuleStep(Record):
    """Step size and relative weight change of one module."""

    module: str
    step_size: Finite
    step_norm: Finite | None
    """Relative Frobenius norm of the step as taken; None when it is not a finite number."""
    cumulative_norm: Finite | None
    """The same for base -> new state, after the projection where there was one."""
    spectral_norm: Annotated[Finite | None, Field(exclude_if=not_said)] = None
    """Relative spectral norm of the step as taken; None where no policy asked, or it is not a finite number."""
    cumulative_spectral_norm: Annotated[Finite | None, Field(exclude_if=not_said)] = None
    """The same for base -> new state, after the projection where there was one."""
    projected_norm: Annotated[Finite | None, Field(exclude_if=not_said)] = None
    """`step_norm` after the projection into the trust region; None where the step was not projected."""


class UpdateContent(Record):
    """What the update did, step by step and module by module."""

    losses: tuple[Finite, ...]
    """Weighted loss before each step."""
    gradient_norms: tuple[Finite, ...]
    modules: tuple[ModuleStep, ...]
    loss_after: Annotated[Finite | None, Field(exclude_if=not_said)] = None
    """Weighted loss after the last step as taken; None where no policy asked, or it is not a finite number."""
    anchors: Annotated[Digest | None, Field(exclude_if=not_said)] = None
    """Digest of the pool (`mass_gov.tasks.anchors`) whose anchors the divergences are of."""
    divergences: Annotated[tuple[Finite | None, ...] | None, Field(exclude_if=not_said)] = None
    """KL(base || new state) in nats at each token of the anchors' solutions, in the pool's order."""

    def step_sizes(self) -> dict[str, float]:
        """Step size by module name: what the leaf names by digest."""
        return {module.module: module.step_size for module in self.modules}

    def largest_norms(self) -> tuple[float | None, float | None]:
        """Largest step and cumulative norm; None when there is no module or one has no finite norm."""
        return _largest([m.step_norm for m in self.modules]), _largest([m.cumulative_norm for m in self.modules])

    def largest_projected_norm(self) -> float | None:
        """Largest norm after the projection; None where there was none."""
        return _largest([m.projected_norm for m in self.modules])

    def not_finite(self) -> int:
        """How many norms are missing because they were not finite numbers."""
        return sum((m.step_norm is None) + (m.cumulative_norm is None) for m in self.modules)


def _largest(values: list[float | None]) -> float | None:
    """A maximum over unknowns is unknown."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


class CaseContent(Record):
    """One regression case: right or not before, after, and on the frozen base, with the answers given."""

    case_id: str
    domain: str
    critical: bool
    before: bool
    after: bool
    base: bool
    before_answer: str | None
    after_answer: str | None
    base_answer: str | None


class RegressionContent(Record):
    """Outcome per case of one suite run."""

    suite: Digest
    batch_size: Count
    cases: tuple[CaseContent, ...]
    probe: Annotated[tuple[CaseContent, ...] | None, Field(exclude_if=not_said)] = None
    """Fresh cases of this change alone (`mass_gov.tasks.probes`); None where no window gate asks for them."""


class AnswerText(Record):
    """One greedy answer by one state."""

    state: Digest
    tokens: tuple[int, ...]
    text: str
    answer: str | None
    """The parsed final answer; None when the text holds none (an outcome, not an error)."""
    finished: bool


class AnswerContent(Record):
    """The answers to the task by the new state, by its parent and by the frozen base."""

    adapted: AnswerText | None
    parent: AnswerText
    base: AnswerText


class ReasonContent(Record):
    """Why a person decided as they did, in their own words."""

    text: str


class IncidentContent(Record):
    """What went wrong, in the words of whoever opened the incident."""

    title: str
    description: str
