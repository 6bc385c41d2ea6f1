"""Two samples of one change that ask the same: the later one is dropped.

4-grams that the task itself contains do not count: practice for one task shares its given data, and that is not what
makes two problems the same.
"""

from __future__ import annotations

from mass_gov.policy.sample_gates.finding import About, Finding, question_of
from mass_gov.records.artifacts import SampleContent


def near_duplicate(sample: SampleContent, about: About) -> Finding:
    """The similarity to the most similar sample before it is below the policy's."""
    nearest = about.earlier.nearest(question_of(sample))
    return Finding(nearest, nearest < about.gates.sample_near_duplicate.similarity, f"similarity {nearest:.3f}")
