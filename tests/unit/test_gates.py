"""Sample gates: what is dropped, what a copy cannot hide behind, and that judging again gives the same."""

from __future__ import annotations

import math

import pytest

from mass_gov.policy import Policy, load_policy
from mass_gov.policy.sample_weights import weigh
from mass_gov.policy.samples import judge_samples
from mass_gov.policy.similarity import normalise, similarity
from mass_gov.records.artifacts import SampleContent, SampleGateContent, SamplesContent
from mass_gov.records.change import SCOPES
from mass_gov.stages.gates import gate_samples
from tests.fakes.policies import lean_source

TASK = "What is 17 + 25 * 3?"


NEAR = {"similarity": 0.80, "limit": 0.20, "on_fail": "drop"}
"""Of samples that ask the same, the first one is kept."""


@pytest.fixture
def policy() -> Policy:
    return load_policy(lean_source({"sample.near_duplicate": NEAR}, base="default"))


def sample(index: int, question: str | None) -> SampleContent:
    return SampleContent(
        index=index,
        seed="0",
        tokens=(),
        text=question or "",
        finished=True,
        question=question,
        solution="1" if question else None,
        answer="1" if question else None,
        unparseable=None if question else "no-answer",
        score=None,
        weight=0.0,
        gates=(),
        dropped_by=(),
    )


def test_gates_are_those_of_the_document_that_is_asked_whoever_was_asked_before(policy: Policy) -> None:
    document, changed = policy.document, policy.document.gates.model_copy(update={"sample_secrets": "unused"})
    other = document.model_copy(update={"gates": changed})
    for _ in range(2):
        for one in (document, other):
            assert all(one.gates_for(scope) == one.gates.for_scope(scope) for scope in SCOPES)
    for number in range(200):  # each may get the place in memory of one before it
        steps = document.gates.update_steps.model_copy(update={"limit": float(number)})
        fresh = document.model_copy(update={"gates": document.gates.model_copy(update={"update_steps": steps})})
        assert fresh.gates_for("instance").update_steps.limit == number


def dropped(policy: Policy, *questions: str | None) -> list[tuple[str, ...]]:
    judged = judge_samples([sample(i, question) for i, question in enumerate(questions)], TASK, policy)
    return [each.dropped_by for each in judged]


@pytest.mark.parametrize(
    "copy",
    [
        TASK,
        "what is 17+25*3",
        "What is 17 + 25 * 3 ?!",
        "First: What is 17 + 25 * 3? Then double it.",
        "What\u200b is 1\u200d7 + 2\u20605 * 3?",  # zero width space, joiner, word joiner
        "Wh\u034fat is 17\ufe0f + 25 * 3?",  # grapheme joiner, variation selector
        "What is 1\u00ad7 + 25 * 3\u3002",  # soft hyphen, ideographic full stop
        "\u202eWhat is 17 + 25 * 3?",  # right-to-left override
        "What is 17\U000e0041 + 25 * 3?",  # tag character
        "What is 1\u31647 + 25\uffa0 * 3?",  # Hangul fillers
        "\uff37hat is \uff11\uff17 + 25 * 3\uff1f",  # full-width forms
    ],
)
def test_the_task_itself_is_never_practice_however_it_is_disguised(policy: Policy, copy: str) -> None:
    assert dropped(policy, copy) == [("sample.target_leakage",)]


def test_a_copy_of_an_earlier_sample_is_dropped_however_it_is_disguised(policy: Policy) -> None:
    first, disguised = "What is 99 - 4 * 8?", "What is 9\u200b9 - \u034f4 * 8 ."
    assert similarity(first, disguised, TASK) == 1.0
    assert dropped(policy, first, disguised, "What is 6 / 2 + 31?") == [(), ("sample.near_duplicate",), ()]


def test_a_sample_that_does_not_parse_is_dropped_even_if_no_reason_is_given(policy: Policy) -> None:
    unexplained = sample(0, None).model_copy(update={"unparseable": None})
    (judged,) = judge_samples([unexplained], TASK, policy)
    assert (judged.dropped_by, judged.weight) == (("sample.format",), 0.0)


def test_kept_samples_weigh_the_same_and_earlier_verdicts_count_for_nothing(policy: Policy) -> None:
    flattered = sample(0, TASK).model_copy(
        update={
            "weight": 1000.0,
            "gates": (SampleGateContent(gate="sample.format", value=0, verdict="pass", detail="fine"),),
        }
    )
    judged = judge_samples([flattered, sample(1, "What is 6 / 2?"), sample(2, "What is 90 - 1?")], TASK, policy)
    assert [each.weight for each in judged] == [0.0, 0.5, 0.5]
    assert judge_samples(judged, TASK, policy) == judged


def test_a_question_of_marks_alone_is_still_something() -> None:
    assert normalise("?!") == "?!"


def test_the_leaf_counts_each_sample_once(policy: Policy) -> None:
    questions = (None, TASK, "What is 6 / 2?", "What is 6 / 2?")
    samples = tuple(sample(i, question) for i, question in enumerate(questions))
    written = SamplesContent(prompt_tokens=(), batch_size=4, forced=False, samples=samples)
    _, summary = gate_samples(written, TASK, policy, "ab" * 32)
    counted = (summary.unparseable, summary.target_leakage, summary.near_duplicate, summary.kept, summary.generated)
    assert counted == (1, 1, 1, 1, 4)


# --- weights ---


def test_kept_samples_weigh_the_softmax_of_their_scores_and_dropped_ones_nothing(policy: Policy) -> None:
    scores = (1.0, 5.0, 2.0)
    samples = [sample(0, "What is 6 / 2?"), sample(1, None), sample(2, "What is 90 - 1?")]
    scored = [one.model_copy(update={"score": score}) for one, score in zip(samples, scores, strict=True)]
    judged = judge_samples(scored, TASK, policy)
    assert [each.weight for each in judged] == pytest.approx([1 / (1 + math.e), 0.0, math.e / (1 + math.e)], rel=1e-15)
    assert judge_samples(judged, TASK, policy) == judged


def test_without_a_score_for_every_kept_sample_all_weigh_alike() -> None:
    assert weigh([None, None, None]) == [1 / 3] * 3
    assert weigh([9.0, None]) == [0.5, 0.5]
    assert weigh([]) == []


def test_equal_scores_weigh_to_the_bit_what_no_scores_weigh() -> None:
    for count in range(1, 65):
        assert weigh([-3.7] * count) == weigh([None] * count)


@pytest.mark.parametrize("scores", [[1e30, -1e30], [0.0, 3e38], [-3e38, -3e38], [709.0, 710.0, 1e-300]])
def test_scores_of_any_size_give_weights_that_add_up(scores: list[float]) -> None:
    weights = weigh(scores)
    assert all(0.0 <= weight <= 1.0 for weight in weights)
    assert sum(weights) == pytest.approx(1.0, rel=1e-15)
    assert weights.index(max(weights)) == scores.index(max(scores))


def test_recorded_weights_are_those_that_a_scorer_is_trained_with() -> None:
    import torch

    from mass_gov.mass.scorer import weights

    scores = torch.randn(12, generator=torch.Generator().manual_seed(0)) * 4
    kept = torch.arange(12) % 3 > 0
    trained = weights(scores, kept)[kept].tolist()
    assert weigh(scores[kept].tolist()) == pytest.approx(trained, rel=1e-5)
