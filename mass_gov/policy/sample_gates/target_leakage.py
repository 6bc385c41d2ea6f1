"""The task itself, or a text that contains it, as a sample's question: practising it would be answering it."""

from __future__ import annotations

from mass_gov.policy.sample_gates.finding import About, Finding, question_of
from mass_gov.policy.similarity import normalise
from mass_gov.records.artifacts import SampleContent


def target_leakage(sample: SampleContent, about: About) -> Finding:
    """The task does not stand in the sample's question."""
    leaks = normalise(about.task) in normalise(question_of(sample))
    return Finding(float(leaks), not leaks, "the task" if leaks else "another")
