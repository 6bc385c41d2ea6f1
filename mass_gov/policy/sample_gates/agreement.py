"""A sample whose answer the model itself does not reach again: a wrong answer is rarely reached the same way twice.

The statistic is the share of `resolves` fresh, sampled solutions of the sample's question whose answer is the sample's,
which the learner's side records. It costs generation, so only samples that every other gate lets through are asked
about; of the others nothing is said.
"""

from __future__ import annotations

from mass_gov.policy.sample_gates.finding import About, Finding, measured
from mass_gov.records.artifacts import SampleContent

AGREEMENT = "agreement"


def agreement(sample: SampleContent, about: About) -> Finding | None:
    """The recorded share is one of `resolves`, and reaches the policy's."""
    settings = about.gates.sample_agreement
    if settings == "unused":
        return None
    value = measured(sample, AGREEMENT)
    if value is None:
        return Finding(None, False, "not measured, or not a finite number")
    agreed = round(value * settings.resolves)
    if not 0 <= agreed <= settings.resolves or agreed / settings.resolves != value:
        return Finding(None, False, f"{value:g} is no share of {settings.resolves} solutions")
    return Finding(value, value >= settings.agreement, f"{agreed} of {settings.resolves} fresh solutions agree")
