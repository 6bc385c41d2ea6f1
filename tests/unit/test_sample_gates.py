"""Each later sample gate: what it alone stops, what it lets pass, and that a number it cannot read stops the sample."""

from __future__ import annotations

import math
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from pydantic import ValidationError

from mass_gov.errors import IntegrityError
from mass_gov.policy import Policy
from mass_gov.policy.judgement import Facts, judge
from mass_gov.policy.sample_gates import personal_data, secrets
from mass_gov.policy.sample_weights import real_share_of, weigh
from mass_gov.policy.samples import judge_samples, let_through, verdicts
from mass_gov.records.artifacts import SampleContent, SamplesContent
from mass_gov.records.change import SynthesisSummary, UpdateSummary
from mass_gov.stages.gates import gate_samples
from mass_gov.tasks.shipped_suites import suite_bytes
from mass_gov.tasks.suites import parse_suite
from tests.fakes.policies import policy_with

TASK = "What is 17 + 25 * 3?"
CASES = {"core/1": "Compute the sum of 14 and 90", "core/2": "2+5"}
CONTAMINATION = {"similarity": 0.8, "limit": 0.0, "on_fail": "drop"}
SHARE = {"limit": 0.0, "on_fail": "drop"}
PERPLEXITY = {"low": 0.5, "high": 3.0, "limit": 0.5, "on_fail": "drop"}
AGREEMENT = {"resolves": 4, "agreement": 0.75, "limit": 0.5, "on_fail": "drop"}


def sample(index: int, question: str | None, solution: str = "1", **more: Any) -> SampleContent:
    fields: dict[str, Any] = {
        "index": index,
        "seed": "0",
        "tokens": (),
        "text": question or "",
        "finished": True,
        "question": question,
        "solution": solution if question else None,
        "answer": "1" if question else None,
        "unparseable": None if question else "no-answer",
        "score": None,
        "weight": 0.0,
        "gates": (),
        "dropped_by": (),
    }
    return SampleContent(**{**fields, **more})


def one(policy: Policy, question: str, solution: str = "1", **measures: float | None) -> SampleContent:
    (judged,) = judge_samples(
        [sample(0, question, solution, measures=measures or None)], TASK, policy, "instance", CASES
    )
    return judged


def detail(judged: SampleContent, gate: str) -> str:
    return next(finding.detail for finding in judged.gates if finding.gate == gate)


# --- contamination ---


@pytest.mark.parametrize("asked", ["compute the sum of 14 and 90.", "Compute the s\u200bum of 14 and 9\uff10", "2 + 5"])
def test_a_suites_case_is_no_practice_however_it_is_disguised(asked: str) -> None:
    judged = one(policy_with({"sample.contamination": CONTAMINATION}), asked)
    assert judged.dropped_by == ("sample.contamination",)
    assert "case core/" in detail(judged, "sample.contamination")
    assert one(policy_with({}), asked).dropped_by == ()  # this gate alone stops it


def test_a_question_of_its_own_is_not_contaminated() -> None:
    judged = one(policy_with({"sample.contamination": CONTAMINATION}), "Compute the product of 3 and 4, then halve it")
    assert (judged.dropped_by, judged.weight) == ((), 1.0)


def test_without_the_suite_nothing_is_known_to_be_clean() -> None:
    policy = policy_with({"sample.contamination": CONTAMINATION})
    (judged,) = judge_samples([sample(0, "9 - 4")], TASK, policy, "instance", None)
    assert judged.dropped_by == ("sample.contamination",)
    assert next(g.value for g in judged.gates if g.gate == "sample.contamination") is None


def test_no_case_of_the_shipped_suite_passes_as_practice() -> None:
    cases = {case.case_id: case.question for case in parse_suite(suite_bytes("core-v1")).cases}
    asked = [sample(i, question) for i, question in enumerate(cases.values())]
    judged = verdicts(asked, TASK, policy_with({"sample.contamination": CONTAMINATION}), "instance", cases)
    assert all("sample.contamination" in [g.gate for g in one.gates if g.verdict == "fail"] for one in judged)


# --- personal data and secrets: what is recognised stands in tests/properties/test_recognisers.py ---


@pytest.mark.parametrize("part", ["question", "solution"])
def test_personal_data_is_dropped_and_not_repeated(part: str) -> None:
    policy = policy_with({"sample.personal_data": SHARE})
    texts = {"question": "9 - 4", "solution": "5"} | {part: "write to anna.smith@example.org now"}
    judged = one(policy, **texts)
    assert judged.dropped_by == ("sample.personal_data",)
    assert detail(judged, "sample.personal_data") == f"e-mail address at {part} 9-31"
    assert one(policy, "9 - 4", "5").dropped_by == ()
    assert one(policy_with({}), **texts).dropped_by == ()


def test_no_text_is_too_short_to_be_looked_through_that_could_hold_a_find() -> None:
    for one in (*personal_data.RECOGNISERS, *secrets.RECOGNISERS):
        shortest, _ = _parser.parse(one.pattern.pattern, one.pattern.flags).getwidth()
        assert one.least <= shortest, one.kind


def test_secrets_are_dropped_and_not_repeated() -> None:
    policy, key = policy_with({"sample.secrets": SHARE}), "AKIA" + "IOSFODNN7EXAMPLE"
    judged = one(policy, f"use {key} here")
    assert judged.dropped_by == ("sample.secrets",)
    assert key not in judged.model_dump_json(include={"gates"})
    assert detail(judged, "sample.secrets") == "AWS access key at question 4-24"
    assert one(policy, "use the key of the door here").dropped_by == ()
    assert one(policy_with({}), f"use {key} here").dropped_by == ()


# --- perplexity ---


@pytest.mark.parametrize(("value", "kept"), [(0.49, False), (0.5, True), (3.0, True), (3.01, False)])
def test_only_samples_inside_the_band_are_kept(value: float, kept: bool) -> None:
    judged = one(policy_with({"sample.perplexity": PERPLEXITY}), "9 - 4", perplexity=value)
    assert judged.dropped_by == (() if kept else ("sample.perplexity",))
    assert one(policy_with({}), "9 - 4", perplexity=value).dropped_by == ()


@pytest.mark.parametrize("gate", ["sample.perplexity", "sample.agreement"])
def test_a_measure_that_is_missing_stops_the_sample(gate: str) -> None:
    policy = policy_with({gate: PERPLEXITY if gate == "sample.perplexity" else AGREEMENT})
    for measures in ({}, {gate.removeprefix("sample."): None}, {"other": 1.0}):
        judged = one(policy, "9 - 4", **measures)
        assert (judged.dropped_by, judged.weight) == ((gate,), 0.0)
        assert "not measured" in detail(judged, gate)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("gate", ["perplexity", "agreement"])
def test_a_measure_that_is_not_finite_is_never_recorded_and_never_passes(number: float, gate: str) -> None:
    with pytest.raises(ValidationError):
        sample(0, "9 - 4", measures={gate: number})
    forced = sample(0, "9 - 4").model_copy(update={"measures": {gate: number}})  # past the boundary all the same
    policy = policy_with({f"sample.{gate}": PERPLEXITY if gate == "perplexity" else AGREEMENT})
    (judged,) = judge_samples([forced], TASK, policy, "instance", CASES)
    assert judged.dropped_by == (f"sample.{gate}",)


# --- agreement ---


@pytest.mark.parametrize(("agreed", "kept"), [(0.0, False), (0.5, False), (0.75, True), (1.0, True)])
def test_an_answer_that_is_not_reached_again_is_dropped(agreed: float, kept: bool) -> None:
    judged = one(policy_with({"sample.agreement": AGREEMENT}), "9 - 4", agreement=agreed)
    assert judged.dropped_by == (() if kept else ("sample.agreement",))
    assert one(policy_with({}), "9 - 4", agreement=agreed).dropped_by == ()


@pytest.mark.parametrize("share", [0.76, 1.25, 1e9, -0.25])
def test_a_share_that_so_many_solutions_cannot_give_stops_the_sample(share: float) -> None:
    judged = one(policy_with({"sample.agreement": AGREEMENT}), "9 - 4", agreement=share)
    assert judged.dropped_by == ("sample.agreement",)


def test_agreement_is_asked_about_what_every_other_gate_lets_through_alone() -> None:
    policy = policy_with({"sample.agreement": AGREEMENT, "sample.personal_data": SHARE})
    asked = [sample(0, "9 - 4"), sample(1, TASK), sample(2, "mail a@example.org"), sample(3, None), sample(4, "9-4")]
    judged = verdicts(asked, TASK, policy, "instance", CASES)
    assert [one.index for one in let_through(judged)] == [0]
    assert [len(one.dropped_by) for one in judged] == [1, 1, 1, 1, 1]  # one reason each, so that counts add up
    assert all(g.gate != "sample.agreement" for one in judged[1:] for g in one.gates)


# --- counts and limits of the leaf ---


def test_the_leaf_counts_each_drop_once_and_a_gate_judges_the_share() -> None:
    policy = policy_with({"sample.personal_data": SHARE, "sample.secrets": {"limit": 0.0, "on_fail": "hold"}})
    both = "mail a@example.org the key AKIAIOSFODNN7EXAMPLE"
    asked = (sample(0, "9 - 4"), sample(1, both), sample(2, "keep AKIAIOSFODNN7EXAMPLE"), sample(3, None))
    written = SamplesContent(prompt_tokens=(), batch_size=4, forced=False, samples=asked)
    _, summary = gate_samples(written, TASK, policy, "ab" * 32, scope="instance", cases=CASES)
    assert summary.dropped == {"sample.personal_data": 1, "sample.secrets": 1}
    assert (summary.generated, summary.kept, summary.unparseable) == (4, 1, 1)
    assert results(summary, policy)["sample.secrets"] == (0.25, "fail")


@pytest.mark.parametrize("dropped", [None, {}, {"sample.secrets": 0}])
def test_a_leaf_without_the_count_of_a_gate_in_use_fails_it(dropped: dict[str, int] | None) -> None:
    policy = policy_with({"sample.personal_data": {"limit": 1.0, "on_fail": "hold"}})
    summary = SynthesisSummary(
        generated=4,
        unparseable=0,
        near_duplicate=0,
        target_leakage=0,
        kept=4,
        forced=False,
        generator="ab" * 32,
        scorer=None,
        dropped=dropped,
    )
    assert results(summary, policy)["sample.personal_data"] == (None, "fail")


def test_a_gate_for_one_scope_says_nothing_about_the_other() -> None:
    policy = policy_with({"sample.perplexity": {**PERPLEXITY, "scopes": ["deployment"]}})
    asked = [sample(0, "9 - 4")]
    assert judge_samples(asked, TASK, policy, "instance", CASES)[0].dropped_by == ()
    assert judge_samples(asked, TASK, policy, "deployment", CASES)[0].dropped_by == ("sample.perplexity",)


def results(summary: SynthesisSummary, policy: Policy) -> dict[str, tuple[float | None, str]]:
    update = UpdateSummary.model_construct(outcome="no_valid_samples")
    gates = judge(Facts("instance", summary, update, None), policy)
    return {gate.name: (gate.value, gate.verdict) for gate in gates}


# --- anchors and weights ---

MIXED = {"real_share": 0.25, "importance_weights": False}


def test_anchors_weigh_the_policys_share_together() -> None:
    asked = [sample(0, "9 - 4", score=1.0), sample(1, "8 * 3", score=2.0), *anchors(2, "6 / 2", "90 - 1", "3 + 8")]
    judged = judge_samples(asked, TASK, policy_with({}, samples=MIXED), "instance", CASES)
    assert sum(one.weight for one in judged if one.real) == pytest.approx(0.25, rel=1e-15)
    assert sum(one.weight for one in judged) == pytest.approx(1.0, rel=1e-15)
    assert judged[1].weight / judged[0].weight == pytest.approx(math.e, rel=1e-15)
    assert real_share_of(judged) == 0.25


def test_an_anchor_that_asks_the_task_or_a_suites_case_is_not_learned_from() -> None:
    policy = policy_with({"sample.contamination": CONTAMINATION}, samples=MIXED)
    asked = [sample(0, "9 - 4"), *anchors(1, TASK, "2+5", "9 - 4")]
    judged = judge_samples(asked, TASK, policy, "instance", CASES)
    assert [one.dropped_by for one in judged] == [(), ("sample.target_leakage",), ("sample.contamination",), ()]
    assert [one.weight for one in judged] == [0.75, 0.0, 0.0, 0.25]  # that a sample asks the same takes nothing from it


def test_where_no_anchor_is_left_the_real_share_is_zero_and_the_samples_weigh_it_all() -> None:
    judged = judge_samples(
        [sample(0, "9 - 4"), *anchors(1, TASK)], TASK, policy_with({}, samples=MIXED), "instance", {}
    )
    assert (real_share_of(judged), [one.weight for one in judged]) == (0.0, [1.0, 0.0])


def test_nothing_is_learned_from_anchors_alone() -> None:
    judged = judge_samples(
        [sample(0, None), *anchors(1, "6 / 2")], TASK, policy_with({}, samples=MIXED), "instance", {}
    )
    assert [one.weight for one in judged] == [0.0, 0.0]


def test_importance_weights_multiply_the_scores_weights() -> None:
    policy = policy_with({}, samples={"real_share": 0.0, "importance_weights": True})
    asked = [
        sample(0, "9 - 4", score=0.0, measures={"density_ratio": 0.5}),
        sample(1, "8 * 3", score=math.log(2), measures={"density_ratio": 2.0}),
    ]
    judged = judge_samples(asked, TASK, policy, "instance", {})
    assert [one.weight for one in judged] == pytest.approx([1 / 9, 8 / 9], rel=1e-12)
    ignored = judge_samples(asked, TASK, policy_with({}), "instance", {})
    assert [one.weight for one in ignored] == pytest.approx([1 / 3, 2 / 3], rel=1e-12)


@pytest.mark.parametrize("ratio", [None, 0.0, -1.0])
def test_a_density_ratio_that_is_missing_is_an_error_and_not_a_guess(ratio: float | None) -> None:
    policy = policy_with({}, samples={"real_share": 0.0, "importance_weights": True})
    with pytest.raises(IntegrityError, match="density ratio"):
        judge_samples([sample(0, "9 - 4", measures={"density_ratio": ratio})], TASK, policy, "instance", {})


def test_ratios_of_one_change_nothing_and_a_share_takes_its_part() -> None:
    assert weigh([1.0, 2.0], [1.0, 1.0]) == weigh([1.0, 2.0])
    assert weigh([None, None], [3.0, 1.0], 0.5) == [0.375, 0.125]


def anchors(first: int, *questions: str) -> list[SampleContent]:
    return [sample(first + i, question, real=True) for i, question in enumerate(questions)]
