"""What a sample gate is given, and what it says: one verdict on one sample, with a detail that a person can act on.

Rules: a gate is a pure function (sample, about) -> finding. None as finding: this policy does not use the gate. A
detail repeats nothing that the gate is there to keep out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mass_gov.policy.gate_settings import Gates
from mass_gov.policy.similarity import KeptQuestions, NearestCase
from mass_gov.records.artifacts import SampleContent


@dataclass(frozen=True, slots=True)
class About:
    """What a sample is judged in view of."""

    task: str
    gates: Gates
    """As a change of this scope meets them."""
    earlier: KeptQuestions
    """Questions of the samples before it that were let through."""
    cases: NearestCase | None
    """The suites' questions; None where they are not at hand."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one gate on one sample. `value` is None where there was no finite number to judge."""

    value: float | None
    holds: bool
    detail: str


def measured(sample: SampleContent, name: str) -> float | None:
    """What a model found about the sample, if that is a finite number."""
    value = (sample.measures or {}).get(name)
    return value if value is not None and math.isfinite(value) else None


def question_of(sample: SampleContent) -> str:
    """The question of a sample that parses."""
    return sample.question or ""
