"""Step 2, gates: which samples may be learned from.

The checks themselves are pure and stand in `mass_gov.policy.samples`, where an auditor calls them too; this step runs
them on what synthesis wrote and what was measured of it, and counts for the leaf. Offending samples are dropped
(weight 0) and stay in the record.
"""

from __future__ import annotations

from collections.abc import Mapping

from mass_gov.policy.document import Policy
from mass_gov.policy.gate_settings import Gates
from mass_gov.policy.samples import dropped_later, judge_samples
from mass_gov.records.artifacts import SampleContent, SamplesContent
from mass_gov.records.change import Scope, SynthesisSummary


def gate_samples(
    written: SamplesContent,
    question: str,
    policy: Policy,
    generator: str,
    scorer: str | None = None,
    *,
    scope: Scope = "instance",
    cases: Mapping[str, str] | None = None,
) -> tuple[SamplesContent, SynthesisSummary]:
    """Judge every sample, and weigh the kept ones.

    Arguments:
        written: samples as they came from synthesis, with what was measured of them.
        question: the task.
        policy: its thresholds are used here.
        generator: digest of the state whose weights wrote the samples.
        scorer: digest of the head that scored them; None where nothing did.
        scope: what was asked for.
        cases: name -> question of the suites; None where they are not at hand, which `sample.contamination` fails.

    Returns:
        The samples with gates, drops and weights filled in, and the counts that go into the leaf.
    """
    judged = judge_samples(written.samples, question, policy, scope, cases)
    gates = policy.document.gates_for(scope)
    summary = summarise(judged, written.forced, generator, scorer, gates)
    return written.model_copy(update={"samples": judged}), summary


def summarise(
    samples: tuple[SampleContent, ...], forced: bool, generator: str, scorer: str | None, gates: Gates
) -> SynthesisSummary:
    """Count what the gates did to the model's own samples, for the leaf."""
    own = [sample for sample in samples if not sample.real]
    dropped = [name for sample in own for name in sample.dropped_by]
    return SynthesisSummary(
        generated=len(own),
        unparseable=dropped.count("sample.format"),
        near_duplicate=dropped.count("sample.near_duplicate"),
        target_leakage=dropped.count("sample.target_leakage"),
        kept=sum(not sample.dropped_by for sample in own),
        forced=forced,
        generator=generator,
        scorer=scorer,
        dropped=dropped_later(samples, gates),
    )
