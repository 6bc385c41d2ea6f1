"""How much a change's own samples differ from one another, and how much of what it learned was real.

  distinct-2   different pairs of neighbouring tokens over all pairs, within questions (Li et al., "A
               Diversity-Promoting Objective Function for Neural Conversation Models", 2016); 1: none comes twice
  self-BLEU    mean over the questions of BLEU-4 of each with the others as references (Zhu et al., "Texygen", 2018), in
               [0, 1]; 1 where all are the same. Precisions without a match are smoothed as sacrebleu does by default

Rules: pure Python, so that an auditor computes it again; rounded to 12 decimals, because logarithms differ in the last
bits between machines. A token is a run of letters, a single digit, or any other visible character: mathematics has few
spaces, and 12+3 and 12+4 share more than one word does. What has no pair, or no second question, has no statistic.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from mass_gov.policy.gate_settings import Gates
from mass_gov.policy.sample_weights import real_share_of
from mass_gov.records.artifacts import SampleContent
from mass_gov.records.change import Measure

_TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
ORDER = 4
MEASURED = ("update.distinct_2", "update.self_bleu", "update.real_share")


def sample_measures(judged: Sequence[SampleContent], gates: Gates) -> tuple[Measure, ...]:
    """The measures of this module that the gates ask for, of judged and weighed samples."""
    kept = [sample for sample in judged if not sample.dropped_by]
    questions = [sample.question or "" for sample in kept if not sample.real]
    found = {
        "update.distinct_2": (distinct_2(questions), len(questions)),
        "update.self_bleu": (self_bleu(questions), len(questions)),
        "update.real_share": (real_share_of(judged), len(kept)),
    }
    used = [name for name in MEASURED if getattr(gates, name.replace(".", "_")) != "unused"]
    return tuple(Measure(name=name, value=found[name][0], n=found[name][1]) for name in used)


def tokens(text: str) -> list[str]:
    """Runs of letters, single digits, other visible characters; case-folded."""
    return _TOKEN.findall(text.casefold())


def distinct_2(texts: Sequence[str]) -> float | None:
    """Different bigrams over all bigrams of the texts, in (0, 1]; None where there is none."""
    pairs = [pair for text in map(tokens, texts) for pair in pairwise(text)]
    return round(len(set(pairs)) / len(pairs), 12) if pairs else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU of each text with the others as references, in [0, 1]; None for fewer than two texts."""
    if len(texts) < 2:
        return None
    split = [tokens(text) for text in texts]
    values = [bleu(one, [*split[:i], *split[i + 1 :]]) for i, one in enumerate(split)]
    return round(math.fsum(values) / len(values), 12)


def bleu(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Sentence BLEU in [0, 1]: Papineni et al., 2002, over the orders that the hypothesis is long enough for.

    Smoothing 3 of Chen and Cherry (2014): the k-th order without a match counts 1 / 2^k matches.
    """
    length, missed, logs = len(hypothesis), 0, list[float]()
    for order in range(1, min(ORDER, length) + 1):
        have, total = _ngrams(hypothesis, order), length - order + 1
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= _ngrams(reference, order)
        matched = float((have & most).total())
        if matched == 0:
            missed += 1
            matched = 2.0**-missed
        logs.append(math.log(matched / total))
    if not logs or missed == len(logs):
        return 0.0
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    brevity = 1.0 if length >= closest else math.exp(1 - closest / length)
    return brevity * math.exp(math.fsum(logs) / len(logs))


def _ngrams(text: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))
