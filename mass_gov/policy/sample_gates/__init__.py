"""The sample gates after `sample.format`, in the catalogue's order: one file each, one signature for all.

A gate takes a sample that parses, and what it is judged in view of (`finding.About`), and returns a
`finding.Finding`, or None where the policy does not use it.
"""

from __future__ import annotations

from collections.abc import Callable

from mass_gov.policy.sample_gates import (
    agreement,
    contamination,
    near_duplicate,
    perplexity,
    personal_data,
    secrets,
    target_leakage,
)
from mass_gov.policy.sample_gates.finding import About, Finding
from mass_gov.records.artifacts import SampleContent

Gate = Callable[[SampleContent, About], Finding | None]

AGREEMENT_GATE = "sample.agreement"
"""The last one, and the only one that is asked about what every other lets through."""
GATES: dict[str, Gate] = {
    "sample.near_duplicate": near_duplicate.near_duplicate,
    "sample.target_leakage": target_leakage.target_leakage,
    "sample.contamination": contamination.contamination,
    "sample.personal_data": personal_data.personal_data,
    "sample.secrets": secrets.secrets,
    "sample.perplexity": perplexity.perplexity,
    AGREEMENT_GATE: agreement.agreement,
}
OF_REAL = ("sample.target_leakage", "sample.contamination", "sample.personal_data", "sample.secrets")
"""Gates that judge anchors too: what is wrong with them is wrong whoever wrote the sample."""

__all__ = ["AGREEMENT_GATE", "GATES", "OF_REAL", "About", "Finding", "Gate"]
