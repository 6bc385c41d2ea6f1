"""Step 2, gates: which samples may be learned from.

The checks themselves are pure and stand in `mass_gov.policy.samples`, where an auditor calls them too; this step runs
them on what synthesis wrote, and counts for the leaf. Offending samples are dropped (weight 0) and stay in the record.
"""

from __future__ import annotations

from mass_gov.policy.document import Policy
from mass_gov.policy.samples import judge_samples
from mass_gov.records.artifacts import SampleContent, SamplesContent
from mass_gov.records.change import SynthesisSummary


def gate_samples(
    written: SamplesContent, question: str, policy: Policy, generator: str, scorer: str | None = None
) -> tuple[SamplesContent, SynthesisSummary]:
    """Judge every sample, and weigh the kept ones by their scores.

    Arguments:
        written: samples as they came from synthesis.
        question: the task.
        policy: its near-duplicate threshold is used here.
        generator: digest of the state whose weights wrote the samples.
        scorer: digest of the head that scored them; None where nothing did.

    Returns:
        The samples with gates, drops and weights filled in, and the counts that go into the leaf.
    """
    judged = judge_samples(written.samples, question, policy)
    return written.model_copy(update={"samples": judged}), summarise(judged, written.forced, generator, scorer)


def summarise(samples: tuple[SampleContent, ...], forced: bool, generator: str, scorer: str | None) -> SynthesisSummary:
    """Count what the gates did, for the leaf."""
    dropped = [name for sample in samples for name in sample.dropped_by]
    return SynthesisSummary(
        generated=len(samples),
        unparseable=dropped.count("sample.format"),
        near_duplicate=dropped.count("sample.near_duplicate"),
        target_leakage=dropped.count("sample.target_leakage"),
        kept=sum(not sample.dropped_by for sample in samples),
        forced=forced,
        generator=generator,
        scorer=scorer,
    )
