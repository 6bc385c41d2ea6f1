"""How much a change's own samples differ from one another, and how much of what it learned was real.

  distinct-2   different pairs of neighbouring tokens over all pairs, within questions (Li et al., "A
               Diversity-Promoting Objective Function for Neural Conversation Models", 2016); 1: none comes twice
  self-BLEU    mean over the questions of BLEU-4 of each with the others as references (Zhu et al., "Texygen", 2018), in
               [0, 1]; 1 where all are the same. Precisions without a match are smoothed as sacrebleu does by default

Rules: pure Python, so that an auditor computes it again; BLEU is rounded to 12 decimals, since logarithms differ in the
last bits between machines. A token is a run of letters, a single digit, or any other visible character: mathematics has
few spaces, and 12+3 and 12+4 share more than one word does. What has no pair, or no second question, has no statistic.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mass_gov.policy.sample_weights import real_share_of
from mass_gov.records.artifacts import SampleContent
from mass_gov.records.change import Measure

_TOKEN = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
ORDER = 4
FROM_THE_SAMPLES = ("update.distinct_2", "update.real_share", "update.self_bleu")
"""Measures that samples give, as the leaf sorts them."""


def sample_measures(judged: Sequence[SampleContent], names: Collection[str]) -> tuple[Measure, ...]:
    """The measures of `names` that judged and weighed samples give, by name as in a leaf."""
    wanted = [name for name in FROM_THE_SAMPLES if name in names]
    if not wanted:
        return ()
    kept = [sample for sample in judged if not sample.dropped_by]
    read = [tokens(sample.question or "") for sample in kept if not sample.real]
    found = {
        "update.distinct_2": (_distinct_2(read), len(read)),
        "update.self_bleu": (_self_bleu(read), len(read)),
        "update.real_share": (real_share_of(judged), len(kept)),
    }
    return tuple(Measure(name=name, value=found[name][0], n=found[name][1]) for name in wanted)


def tokens(text: str) -> list[str]:
    """Runs of letters, single digits, other visible characters; case-folded."""
    return _TOKEN.findall(text.casefold())


def distinct_2(texts: Sequence[str]) -> float | None:
    """Different bigrams over all bigrams of the texts, in (0, 1]; None where there is none."""
    return _distinct_2([tokens(text) for text in texts])


def _distinct_2(texts: Sequence[Sequence[str]]) -> float | None:
    pairs = [pair for text in texts for pair in pairwise(text)]
    return len(set(pairs)) / len(pairs) if pairs else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU of each text with the others as references, in [0, 1]; None for fewer than two texts."""
    return _self_bleu([tokens(text) for text in texts])


def _self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    if len(texts) < 2:
        return None
    counted = list(map(_Counted.of, texts))
    largest = [_two_largest([one.orders[place] for one in counted]) for place in range(ORDER)]
    lengths = Counter(one.length for one in counted)
    values = [
        _bleu(one.length, list(map(_matched_beside, one.orders, largest)), lengths - Counter([one.length]))
        for one in counted
    ]
    return round(math.fsum(values) / len(values), 12)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A text's length in tokens, and its n-grams of order 1 to 4 with how often each stands there."""

    length: int
    orders: tuple[Counter[tuple[str, ...]], ...]

    @classmethod
    def of(cls, text: Sequence[str]) -> _Counted:
        grams = (zip(*(text[i:] for i in range(n)), strict=False) for n in range(1, ORDER + 1))
        return cls(len(text), tuple(map(Counter, grams)))


def _bleu(length: int, matches: Sequence[int], lengths: Collection[int]) -> float:
    """Sentence BLEU in [0, 1] of a text of this length with so many matches by order, and references of these lengths.

    Papineni et al., 2002, over the orders that the text is long enough for; the k-th order without a match counts
    1 / 2^k matches (smoothing 3 of Chen and Cherry, 2014).
    """
    missed, logs = 0, list[float]()
    for place in range(min(ORDER, length)):
        matched = float(matches[place])
        if matched == 0:
            missed += 1
            matched = 2.0**-missed
        logs.append(math.log(matched / (length - place)))
    if not logs or missed == len(logs):
        return 0.0
    closest = min((abs(other - length), other) for other in lengths)[1]
    brevity = 1.0 if length >= closest else math.exp(1 - closest / length)
    return brevity * math.exp(math.fsum(logs) / len(logs))


Two = dict[tuple[str, ...], tuple[int, int]]
_NEITHER = (0, 0)


def _two_largest(texts: Sequence[Counter[tuple[str, ...]]]) -> Two:
    """How often each n-gram stands in the text that has it most, and in the next one."""
    found: Two = {}
    for text in texts:
        for gram, count in text.items():
            first, second = found.get(gram, _NEITHER)
            if count > first:
                found[gram] = (count, first)
            elif count > second:
                found[gram] = (first, count)
    return found


def _matched_beside(mine: Counter[tuple[str, ...]], largest: Two) -> int:
    """How many of a text's n-grams stand in another of those that `largest` is of, each as often as in the one that has
    it most."""
    matched = 0
    for gram, count in mine.items():
        first, second = largest[gram]
        if count < first:
            matched += count
        elif second:  # this text has it most, so the next one has it at most as often
            matched += second
    return matched
