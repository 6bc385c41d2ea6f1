"""A sample that the frozen base finds far more, or far less, surprising than real tasks: noise, or a worn phrase.

The statistic is the mean negative log-likelihood per token (nats) of question and solution under the frozen base, which
the learner's side records. An auditor judges the number again; `replay` computes it again.
"""

from __future__ import annotations

from mass_gov.policy.sample_gates.finding import About, Finding, measured
from mass_gov.records.artifacts import SampleContent

PERPLEXITY = "perplexity"


def perplexity(sample: SampleContent, about: About) -> Finding | None:
    """The recorded number lies in the policy's band, its ends included."""
    settings = about.gates.sample_perplexity
    if settings == "unused":
        return None
    value = measured(sample, PERPLEXITY)
    if value is None:
        return Finding(None, False, "not measured, or not a finite number")
    band = f"{settings.low:g} to {settings.high:g}"
    where = "below" if value < settings.low else "above" if value > settings.high else "within"
    return Finding(value, where == "within", f"{value:.3f} nats a token, {where} {band}")
