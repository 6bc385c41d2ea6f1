"""Which samples may be learned from: the sample gates, as pure functions, so that an auditor judges them again.

Three checks on every sample that parses, each with its value and what it saw; offending samples are dropped (weight 0)
and stay in the record. The shares of offending samples are judged in `judgement`, like every other limit.

  format            the sample parses as question, solution and answer
  near_duplicate    its similarity to an earlier kept sample reaches the policy's threshold
  target_leakage    its question is the task itself, or contains it

Similarity is the Jaccard index of character 4-grams of the normalised question, computed exactly (MinHash estimates
the same number, and a change has too few samples to need an estimate). 4-grams that the task itself contains do not
count: practice problems for one task share its given data, and that is not what makes two of them the same.

What is kept weighs the softmax of its scores, or alike where nothing was scored. The softmax is computed in decimal
arithmetic, correctly rounded at every operation, so that an auditor's machine finds the same weights to the bit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Context, Decimal, localcontext

from mass_gov.policy.document import Policy
from mass_gov.records.artifacts import SampleContent, SampleGateContent

SHINGLE = 4
_EXACT = Context(prec=50)

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt): what is not shown hides nothing."""
_CLOSING = ".?!,;:\u2026\u3002\u037e\u060c\u061b\u061f"
"""Marks that end a sentence, after NFKC: with or without them it is the same question."""


def judge_samples(samples: Sequence[SampleContent], question: str, policy: Policy) -> tuple[SampleContent, ...]:
    """Judge every sample, and weigh the kept ones by their scores.

    Arguments:
        samples: in the order of their index; gates, drops and weights that they have already are not looked at.
        question: the task.
        policy: its near-duplicate threshold is used here.

    Returns:
        The samples with gates, drops and weights filled in; the weights of the kept ones add up to 1.
    """
    threshold = policy.document.gates.sample_near_duplicate.similarity
    judged: list[SampleContent] = []
    for sample in samples:
        kept = [other.question for other in judged if not other.dropped_by and other.question is not None]
        judged.append(_judge(sample, question, kept, threshold))
    weights = iter(weigh([sample.score for sample in judged if not sample.dropped_by]))
    return tuple(sample.model_copy(update={"weight": 0.0 if sample.dropped_by else next(weights)}) for sample in judged)


def weigh(scores: Sequence[float | None]) -> list[float]:
    """Return the weights of kept samples: the softmax of their scores, or the same for all unless each has a score."""
    known = [Decimal(score) for score in scores if score is not None]
    if not known or len(known) != len(scores):
        return [1.0 / len(scores) for _ in scores]
    with localcontext(_EXACT):
        largest = max(known)
        shares = [(score - largest).exp() for score in known]
        total = sum(shares)
        return [float(share / total) for share in shares]


def similarity(first: str, second: str, task: str) -> float:
    """Return the Jaccard index of what the two questions have beyond the task, in [0, 1]."""
    one, two = normalise(first), normalise(second)
    if one == two:
        return 1.0
    given = _shingles(normalise(task))
    a, b = _shingles(one) - given, _shingles(two) - given
    return len(a & b) / len(a | b) if a | b else 0.0


def normalise(text: str) -> str:
    """Reduce a question to what a copy cannot hide behind.

    Compatibility-normalised and case-folded; characters that are not shown, white space, and the marks that end the
    sentence are gone.
    """
    # Folding can bring back what NFKC composes otherwise, so it is normalised once more (UAX 15, NFKC_Casefold).
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _shown(text)).casefold())
    compact = "".join(_shown(folded).split())
    return compact.rstrip(_CLOSING) or compact


def _shown(text: str) -> str:
    visible = _INVISIBLE.sub("", text)
    return "".join(letter for letter in visible if unicodedata.category(letter) != "Cf")


def _judge(sample: SampleContent, task: str, kept: list[str], threshold: float) -> SampleContent:
    if sample.question is None:
        gates = [_gate("sample.format", 1.0, False, f"does not parse: {sample.unparseable}")]
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


def _shingles(text: str) -> frozenset[str]:
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))
