"""Step 2, gates: which samples may be learned from.

Three checks on every sample that parses, each with its value and what it saw; offending samples are dropped (weight 0)
and stay in the record. The shares of offending samples are judged by `mass_gov.policy`, like every other limit.

  format            the sample parses as question, solution and answer
  near_duplicate    its similarity to an earlier kept sample reaches the policy's threshold
  target_leakage    its question is the task itself, or contains it

Similarity is the Jaccard index of character 4-grams of the normalised question, computed exactly (MinHash estimates
the same number, and a change has too few samples to need an estimate). 4-grams that the task itself contains do not
count: practice problems for one task share its given data, and that is not what makes two of them the same.
"""

from __future__ import annotations

import unicodedata

from mass_gov.policy.document import Policy
from mass_gov.records.artifacts import SampleContent, SampleGateContent, SamplesContent
from mass_gov.records.change import SynthesisSummary

SHINGLE = 4


def gate_samples(
    written: SamplesContent, question: str, policy: Policy, generator: str
) -> tuple[SamplesContent, SynthesisSummary]:
    """Judge every sample and weigh the kept ones alike.

    Arguments:
        written: samples as they came from synthesis.
        question: the task.
        policy: its near-duplicate threshold is used here.
        generator: digest of the state whose weights wrote the samples.

    Returns:
        The samples with gates, drops and weights filled in, and the counts that go into the leaf.
    """
    threshold = policy.document.gates.sample_near_duplicate.similarity
    judged: list[SampleContent] = []
    for sample in written.samples:
        kept = [other.question for other in judged if not other.dropped_by and other.question is not None]
        judged.append(_judge(sample, question, kept, threshold))
    kept_count = sum(not sample.dropped_by for sample in judged)
    weighed = tuple(
        sample if sample.dropped_by else sample.model_copy(update={"weight": 1.0 / kept_count}) for sample in judged
    )
    return written.model_copy(update={"samples": weighed}), summarise(weighed, written.forced, generator)


def summarise(samples: tuple[SampleContent, ...], forced: bool, generator: str) -> SynthesisSummary:
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
        scorer=None,
    )


def _judge(sample: SampleContent, task: str, kept: list[str], threshold: float) -> SampleContent:
    if sample.question is None:
        gates = [_gate("sample.format", 1.0, sample.unparseable is None, f"does not parse: {sample.unparseable}")]
    else:
        leaks = normalise(task) in normalise(sample.question)
        nearest = max((similarity(sample.question, other, task) for other in kept), default=0.0)
        gates = [
            _gate("sample.format", 0.0, True, "parses"),
            _gate("sample.near_duplicate", nearest, nearest < threshold, f"similarity {nearest:.3f}"),
            _gate("sample.target_leakage", float(leaks), not leaks, "the task" if leaks else "another"),
        ]
    failed = tuple(gate.gate for gate in gates if gate.verdict == "fail")
    # One reason per sample, the first, so that the counts add up to the samples.
    return sample.model_copy(update={"gates": tuple(gates), "dropped_by": failed[:1]})


def _gate(name: str, value: float, holds: bool, detail: str) -> SampleGateContent:
    return SampleGateContent(gate=name, value=value, verdict="pass" if holds else "fail", detail=detail)


def similarity(first: str, second: str, task: str) -> float:
    """Return the Jaccard index of what the two questions have beyond the task, in [0, 1]."""
    one, two = normalise(first), normalise(second)
    if one == two:
        return 1.0
    given = _shingles(normalise(task))
    a, b = _shingles(one) - given, _shingles(two) - given
    return len(a & b) / len(a | b) if a | b else 0.0


def normalise(text: str) -> str:
    """Compatibility-normalise, fold case, and remove all white space: what a copy cannot hide behind."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _shingles(text: str) -> frozenset[str]:
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))
