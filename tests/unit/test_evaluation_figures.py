"""Figures: ranks against their definitions, attribution against doing without, streams of one operator."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mass_gov.errors import InputError, ModelError
from mass_gov.flows.evaluation.amortised import Curve, break_even, streams_of
from mass_gov.flows.evaluation.attribution import AttributionJudge, Practised
from mass_gov.flows.evaluation.curriculum import judge, scorer_auroc, shares
from mass_gov.flows.evaluation.file_surroundings import FileSurroundings
from mass_gov.flows.evaluation.ranks import auroc, mean_ranks, spearman
from mass_gov.flows.evaluation.surroundings import DomainSurroundings
from mass_gov.mass.reference_model import reference_folder
from mass_gov.mass.rivals.values import Written
from mass_gov.tasks.registry import DOMAINS, domain, recognise
from tests.fakes.small_core import make_core, with_core


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    generator = np.random.default_rng(0)
    scores, positive = generator.integers(0, 5, 40).tolist(), (generator.random(40) < 0.4).tolist()
    pairs = [
        (a, b)
        for a, x in zip(scores, positive, strict=True)
        if x
        for b, y in zip(scores, positive, strict=True)
        if not y
    ]
    assert auroc(scores, positive) == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    assert math.isnan(auroc([1.0, 2.0], [True, True]))


def test_rank_correlation_ignores_everything_but_order() -> None:
    values = [3.0, -1.0, 2.0, 10.0]
    assert mean_ranks([5.0, 1.0, 5.0]).tolist() == [2.5, 1.0, 2.5]
    assert spearman(values, [math.exp(v) for v in values]) == pytest.approx(1.0)
    assert spearman(values, [-v for v in values]) == pytest.approx(-1.0)
    assert spearman([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(1 - 6 * 4 / (4 * 15))  # the textbook's formula
    assert math.isnan(spearman(values, [1.0] * 4))


def oracle_samples(question: str, count: int) -> list[Written]:
    pairs = DomainSurroundings(list(DOMAINS)).oracle(question, 0, count)
    return [Written("", q, s, s.rpartition("#")[2], score=float(i)) for i, (q, s) in enumerate(pairs)]


@pytest.mark.parametrize("name", list(DOMAINS))
def test_oracle_practice_is_judged_right_and_spoilt_practice_wrong(name: str) -> None:
    question = domain(name).sample(5, "hard").question
    right = oracle_samples(question, 4)
    wrong = [replace(one, answer=f"{one.answer}1") for one in right]
    figures = shares(judge([question], [[*right, *wrong, Written("broken")]]))[name]
    assert (figures["right"], figures["parsed"]) == (0.5, pytest.approx(8 / 9))


def test_a_scorer_that_prefers_right_samples_has_auroc_one() -> None:
    question = domain("nested").sample(5, "hard").question
    good = [replace(one, score=1.0) for one in oracle_samples(question, 3)]
    bad = [replace(one, answer="0", solution="#0", score=0.0) for one in good]
    assert scorer_auroc(judge([question], [[*good, *bad]]))["nested"]["auroc"] == 1.0
    assert scorer_auroc(judge([question], [good]))["nested"]["auroc"] is None


def test_attribution_orders_samples_as_doing_without_them_does(tmp_path: Path) -> None:
    core = replace(make_core(reference_folder(), step_size=0.05), steps=1)
    judge_ = AttributionJudge(with_core(reference_folder(), tmp_path / "trained", core))
    found = []
    for seed in range(3):
        task = domain("linear").sample(seed, "hard")
        different = list({one.question: one for one in oracle_samples(task.question, 16)}.values())[:4]
        samples = [replace(one, weight=1 / len(different)) for one in different]
        attribution, without = judge_.effects(task.question, task.solution, samples)
        assert any(attribution)
        found.append(np.corrcoef(attribution, without)[0, 1])
        agreement = judge_.agreement([Practised(task.question, task.solution, tuple(samples))])
        assert agreement.tasks == 1 and -1.0 <= agreement.attribution_loo <= 1.0
    assert np.mean(found) > 0.9, "at a small step leaving out is what the gradient foretells"


def test_a_folder_without_a_scorer_attributes_nothing(tmp_path: Path) -> None:
    core = replace(make_core(reference_folder()), scorer=None)
    with pytest.raises(ModelError, match="scorer"):
        AttributionJudge(with_core(reference_folder(), tmp_path / "plain", core))


def test_streams_share_an_operator_and_repeat_no_question() -> None:
    for stream in streams_of("operator", 3, 5, seed=1):
        assert len({task.question for task in stream}) == 5
        assert len({task.question.partition(":")[0] for task in stream}) == 1
    with pytest.raises(InputError, match="share no operator"):
        streams_of("largest", 1, 2, seed=1)


def test_promoting_breaks_even_where_its_cost_falls_below() -> None:
    own = Curve((0.5, 0.5, 0.5), (9.0, 5.0, 3.0))
    curves = {"promoted": own, "slow-think": Curve((0.4,) * 3, (4.0,) * 3), "mass-gold": Curve((0.6,) * 3, (2.0,) * 3)}
    found = break_even(curves)
    assert (found["slow-think"]["tasks"], found["mass-gold"]["tasks"]) == (3, None)


def test_demonstrations_are_stated_by_the_question_and_true() -> None:
    world = DomainSurroundings(list(DOMAINS))
    for name in ("induction", "operator"):
        for seed in range(5):
            question = domain(name).sample(seed, "hard").question
            pairs = world.demonstrations(question)
            assert pairs and question not in [q for q, _ in pairs]
            for asked, answer in pairs:
                assert answer in question
                if recognise(asked) == name:
                    assert domain(name).answer(domain(name).read(asked)) == answer
    assert not world.demonstrations("max 3 8 2")


def test_the_pool_holds_easy_questions_of_the_domains_asked_about() -> None:
    world = DomainSurroundings(["nested", "largest"])
    assert {recognise(question) for question, _ in world.pool()} == {"nested", "largest"}
    for question, solution in world.pool()[::37]:
        source = domain(recognise(question) or "")
        assert source.split_of(source.read(question)) == "easy"
        assert solution.rpartition("#")[2] == source.answer(source.read(question))


def test_a_file_offers_no_path_and_no_sub_problems() -> None:
    world = FileSurroundings("f", ["a", "b"], [("a", "#### 1"), ("c", "#### 2")])
    assert world.pool() == [("c", "#### 2")], "what is asked is not trained on"
    assert "oracle-practice" in (world.unavailable(["mass-gold/oracle-practice"], 1) or "")
    assert "off-path" in (world.unavailable(["mass-gold/k=2/off-path"], 1) or "")
    assert "has 1. Name" in (world.unavailable(["ttt-random"], 2) or ""), "what is asked does not count either"
    assert world.unavailable(["ttt-random", "mass-gold/uniform", "mass-gold/other-task-delta"], 1) is None
    lonely = FileSurroundings("f", ["a", "a"])
    assert "--n 2" in (lonely.unavailable(["mass-gold/other-task-delta"], 1) or "")
    assert {world.another("a", seed) for seed in range(5)} == {"b"}
