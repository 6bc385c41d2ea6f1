"""Sample statistics judged by others: sacrebleu, datasketch's MinHash, a plain comparison by pairs, a known density."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mass_gov.policy.diversity import distinct_2, self_bleu, tokens
from mass_gov.policy.similarity import NearestCase, similarity
from mass_gov.tasks.anchors import shipped_pool
from mass_gov.tasks.registry import sample_tasks

sacrebleu = pytest.importorskip("sacrebleu", reason="second opinion on BLEU")
pytest.importorskip("datasketch", reason="the learner's side: pip install 'mass-gov[ml]'")
pytest.importorskip("sklearn", reason="the learner's side: pip install 'mass-gov[ml]'")

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=12)
QUESTIONS = [task.question for task in sample_tasks(120, 3, split="easy")]


def theirs(hypothesis: list[str], references: list[list[str]]) -> float:
    judge = sacrebleu.metrics.BLEU(tokenize="none", effective_order=True)
    return judge.sentence_score(" ".join(hypothesis), [" ".join(one) for one in references]).score / 100  # type: ignore[no-any-return]


def test_self_bleu_of_real_questions_is_sacrebleus() -> None:
    split = [tokens(question) for question in QUESTIONS[:24]]
    judged = [theirs(one, [*split[:i], *split[i + 1 :]]) for i, one in enumerate(split)]
    assert self_bleu(QUESTIONS[:24]) == pytest.approx(sum(judged) / 24, abs=1e-9)


@given(st.lists(WORDS, min_size=2, max_size=8))
@settings(max_examples=200, deadline=None)
def test_self_bleu_of_any_texts_is_sacrebleus(texts: list[list[str]]) -> None:
    judged = [theirs(one, [*texts[:i], *texts[i + 1 :]]) for i, one in enumerate(texts)]
    assert self_bleu([" ".join(text) for text in texts]) == pytest.approx(sum(judged) / len(texts), abs=1e-9)


def test_sameness_has_self_bleu_one_and_no_shared_token_zero() -> None:
    assert self_bleu(["what is 3 + 4"] * 3) == 1.0
    assert self_bleu(["1 2 3 4 5", "a+b*c-d/e"]) == 0.0
    assert self_bleu(["only one"]) is None and self_bleu([]) is None


def test_distinct_2_counts_different_pairs_over_all() -> None:
    assert distinct_2(["12+3", "12+4"]) == 4 / 6  # 1 2, 2 +, + 3 and 1 2, 2 +, + 4
    assert distinct_2(["12+3"] * 3) == 3 / 9
    assert distinct_2(["7", ""]) is None


@given(st.lists(st.text("ab1 +", min_size=1, max_size=12), min_size=1, max_size=12), st.text("ab1 +", max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_index_finds_what_comparing_with_every_case_finds(cases: list[str], asked: str) -> None:
    value, name = NearestCase({str(i): case for i, case in enumerate(cases)}).nearest(asked)
    by_pairs = [similarity(asked, case) for case in cases]
    assert value == max(by_pairs)
    assert name == (str(by_pairs.index(value)) if value > 0 else None)


def test_minhash_estimates_the_exact_similarity() -> None:
    from mass_gov.flows.near_duplicates import PERMUTATIONS, minhash

    pairs = [(QUESTIONS[i], QUESTIONS[i][: -1 - i % 4] + str(i)) for i in range(100)]
    errors = [minhash(one).jaccard(minhash(two)) - similarity(one, two) for one, two in pairs]
    exact = [similarity(one, two) for one, two in pairs]
    allowed = math.sqrt(sum(j * (1 - j) for j in exact) / PERMUTATIONS) / len(pairs)  # standard error of the mean
    assert abs(sum(errors) / len(errors)) < 4 * allowed
    assert max(map(abs, errors)) < 5 * 0.5 / math.sqrt(PERMUTATIONS)


def test_the_repeated_share_of_a_pool_is_what_pairs_give() -> None:
    from mass_gov.flows.near_duplicates import repeated_share

    texts = [
        (0, "compute the sum of 14 and 90"),
        (1, "Compute the sum of 14 and 90!"),
        (2, "halve the product of 7, 8"),
    ]
    assert repeated_share(texts) == pytest.approx(2 / 3)
    assert repeated_share([(0, one) for _, one in texts]) == 0.0  # within one change it is another gate's
    assert repeated_share([]) == 0.0


def test_density_ratios_follow_a_known_density() -> None:
    """Texts of digits and of letters: real ones are digits four times in five, the model's one time in two."""
    from mass_gov.mass.density import density_ratios

    rng = random.Random(5)

    def draw(digits: float) -> str:
        return "".join(rng.choice("0123456789" if rng.random() < digits else "abcdefghij") for _ in range(1))

    written, real = [draw(0.5) for _ in range(600)], [draw(0.8) for _ in range(600)]
    ratios = density_ratios(written, real)
    mean = {
        kind: _mean([r for t, r in zip(written, ratios, strict=True) if t.isdigit() == kind]) for kind in (True, False)
    }
    assert mean[True] / mean[False] == pytest.approx((0.8 / 0.5) / (0.2 / 0.5), rel=0.25)
    assert _mean(ratios) == pytest.approx(1.0, abs=1e-5)


def test_density_ratios_repeat_and_are_finite_where_nothing_is_alike() -> None:
    from mass_gov.mass.density import density_ratios

    real = [anchor.question for anchor in shipped_pool().anchors]
    written = [f"zz{i}" for i in range(7)]
    assert density_ratios(written, real) == density_ratios(written, real)
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in density_ratios(written, real))
    assert density_ratios(["one"], real) == [1.0] and density_ratios([], real) == []


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
