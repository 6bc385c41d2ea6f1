"""Which samples may be learned from: the sample gates, as pure functions, so that an auditor judges them again.

Every sample that parses meets the gates of `sample_gates` in the catalogue's order, each with its value and what it
saw. One that fails is dropped for the first gate that it fails (so that the counts add up to the samples), has weight
0, and stays in the record with every finding. The shares of offending samples are judged in `judgement`, like every
other limit.

Rules: what text tells is computed here, each time anew; what only a model can tell (`measures`) is read, and judged
here. Later samples are compared with those that every gate but `sample.agreement` let through, so that what agreement
costs can be spent on those alone. Anchors are judged for what would be wrong whoever wrote them (`OF_REAL`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from mass_gov.policy.document import Policy
from mass_gov.policy.gate_settings import LATER_GATES, Gates
from mass_gov.policy.sample_gates import AGREEMENT_GATE, GATES, OF_REAL, About, Finding
from mass_gov.policy.sample_weights import with_weights
from mass_gov.policy.similarity import KeptQuestions, nearest_case
from mass_gov.records.artifacts import SampleContent, SampleGateContent
from mass_gov.records.change import Scope


def judge_samples(
    samples: Sequence[SampleContent],
    question: str,
    policy: Policy,
    scope: Scope = "instance",
    cases: Mapping[str, str] | None = None,
) -> tuple[SampleContent, ...]:
    """Judge every sample, and weigh the kept ones.

    Arguments:
        samples: in the order of their index; gates, drops and weights that they have already are not looked at.
        question: the task.
        policy: its thresholds are used here.
        scope: what was asked for; a policy may use a gate for one scope only.
        cases: name -> question of the suites. None where they are not at hand, which `sample.contamination` fails.

    Returns:
        The samples with gates, drops and weights filled in; the weights of the kept ones add up to 1.
    """
    return with_weights(verdicts(samples, question, policy, scope, cases), policy.document.samples)


def verdicts(
    samples: Sequence[SampleContent],
    question: str,
    policy: Policy,
    scope: Scope,
    cases: Mapping[str, str] | None,
) -> tuple[SampleContent, ...]:
    """The samples with gates and drops filled in."""
    gates = policy.document.gates_for(scope)
    index = nearest_case(cases) if cases is not None and gates.sample_contamination != "unused" else None
    judged: dict[int, SampleContent] = {}
    earlier = KeptQuestions(question)
    for place in _order(samples, gates):
        sample = samples[place]
        results = _judge(sample, About(question, gates, earlier, index))
        failed = [result.gate for result in results if result.verdict == "fail"]
        judged[place] = sample.model_copy(update={"gates": tuple(results), "dropped_by": tuple(failed[:1])})
        if sample.question is not None and not sample.real and not set(failed) - {AGREEMENT_GATE}:
            earlier.keep(sample.question)
    return tuple(judged[place] for place in range(len(samples)))


def _order(samples: Sequence[SampleContent], gates: Gates) -> list[int]:
    """The order in which samples are compared with those before them: as written, or by falling score.

    Several answers to one question are mostly wrong ones. The first of them is any; the best is what the scorer is for.
    """
    places = list(range(len(samples)))
    if gates.sample_near_duplicate.keep == "first":
        return places
    scores = [sample.score for sample in samples]
    return sorted(places, key=lambda place: (-(score if (score := scores[place]) is not None else -math.inf), place))


def let_through(judged: Sequence[SampleContent]) -> list[SampleContent]:
    """Of judged samples, those of the model's own that every gate but `sample.agreement` let through."""
    return [sample for sample in judged if not sample.real and not set(sample.dropped_by) - {AGREEMENT_GATE}]


def dropped_later(judged: Sequence[SampleContent], gates: Gates) -> dict[str, int] | None:
    """How many of the model's own samples each later gate in use dropped; None where the policy uses none."""
    used = [name for name in gates.used("sample") if name in LATER_GATES]
    reasons = [reason for sample in judged if not sample.real for reason in sample.dropped_by]
    return {name: reasons.count(name) for name in used} or None


def _judge(sample: SampleContent, about: About) -> list[SampleGateContent]:
    if sample.question is None:
        return [_result("sample.format", Finding(1.0, False, f"does not parse: {sample.unparseable}"))]
    results = [_result("sample.format", Finding(0.0, True, "parses"))]
    for name, gate in GATES.items():
        if sample.real and name not in OF_REAL:
            continue
        if name == AGREEMENT_GATE and any(result.verdict == "fail" for result in results):
            continue  # nobody asked the model about a sample that is dropped anyway
        if (finding := gate(sample, about)) is not None:
            results.append(_result(name, finding))
    return results


@lru_cache(maxsize=1024)
def _result(name: str, finding: Finding) -> SampleGateContent:
    """As it is recorded. Most findings are one of few, and what is recorded of them is checked once."""
    return SampleGateContent(
        gate=name, value=finding.value, verdict="pass" if finding.holds else "fail", detail=finding.detail
    )
