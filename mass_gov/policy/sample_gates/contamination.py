"""A sample that asks what a suite asks: whoever learns from it is no longer tested by that case.

The similarity is that of near-duplicates, over the whole text: what a case shares with the task counts here, because
the case is what must not be learned. Without the suite's questions nobody can know, which is not a pass.
"""

from __future__ import annotations

from mass_gov.policy.sample_gates.finding import About, Finding, question_of
from mass_gov.records.artifacts import SampleContent


def contamination(sample: SampleContent, about: About) -> Finding | None:
    """The similarity to the most similar case of the suites is below the policy's."""
    settings = about.gates.sample_contamination
    if settings == "unused":
        return None
    if about.cases is None:
        return Finding(None, False, "the suite's questions were not at hand")
    value, case = about.cases.nearest(question_of(sample))
    near = f" to case {case}" if case is not None else ""
    return Finding(value, value < settings.similarity, f"similarity {value:.3f}{near}")
