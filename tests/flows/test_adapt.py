"""The sentence, for real, on tiny random models of three architectures: recorded, replayed, promoted, rolled back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mass_gov.config import load_settings
from mass_gov.errors import DependentsError, PermissionRefusedError, RefusedError, StaleChangeError, TaskError
from mass_gov.flows.adapt import adapt
from mass_gov.flows.approve import Proof, approve, promote, reject
from mass_gov.flows.behaviour import read_behaviour
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.replay import replay
from mass_gov.flows.replay_report import STAGES, Start
from mass_gov.flows.respond import respond
from mass_gov.flows.rollback import rollback
from mass_gov.flows.workbench import Workbench
from mass_gov.records.events import Actor
from mass_gov.records.settings import AdaptationSpec, AnswerSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.synthesis import ForcedSample
from mass_gov.wiring import initialise, open_workbench
from tests.conftest import ARCHITECTURES
from tests.fakes.policies import lean_policy

SPEC = AdaptationSpec(
    sampling=SamplingSpec(max_new_tokens=12),
    update=UpdateSpec(step_size=0.02),
    answer=AnswerSpec(max_new_tokens=8),
)
ALICE, BOB = Actor(principal="alice", role="operator"), Actor(principal="bob", role="operator")
Open = Callable[..., Workbench]
pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("engine_settings")]


@pytest.fixture
def open_bench(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Iterator[Open]:
    opened: list[Workbench] = []

    def make(architecture: str = "llama", policy: str = "solo", spec: AdaptationSpec = SPEC) -> Workbench:
        settings = load_settings(home=tmp_path / "home", model=tiny_model(architecture), principal="alice")
        initialise(settings, lean_policy(tmp_path, policy))[0].close()
        opened.append(open_workbench(settings, spec))
        return opened[-1]

    yield make
    for bench in opened:
        bench.ledger.close()


def forced(bench: Workbench, *pairs: tuple[str, str]) -> tuple[ForcedSample, ...]:
    """Samples as a caller supplies them: random weights write none that parse."""
    marker = bench.learner.template.marker
    return tuple(ForcedSample(question, f"so {marker} {answer}") for question, answer in pairs)


def practise(bench: Workbench, name: str, **more: object) -> Answered:
    samples = forced(bench, (f"{name}+1", "3"), ("20-5", "15"))
    return adapt(Request(f"what is {name}?", name, seed=7, forced=samples, **more), bench)  # type: ignore[arg-type]


def applied(bench: Workbench, name: str, **more: object) -> Answered:
    answered = practise(bench, name, **more)
    if answered.change.status == "held":
        approve(bench.ledger, answered.change.change_id, ALICE, "looked at it")
    return answered


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("start", ["scratch", "samples", "delta"])
def test_any_hugging_face_model_adapts_is_recorded_and_replays(
    architecture: str, start: Start, open_bench: Open
) -> None:
    bench = open_bench(architecture)
    answered = practise(bench, "7")
    body = answered.change.body
    assert body.update.outcome == "stepped"
    assert body.update.delta is not None
    assert body.update.step_norm is not None
    assert body.update.step_norm > 0
    assert body.synthesis.forced
    replayed = replay(answered.change.change_id, start, bench)
    assert replayed.verdict == "equal", replayed
    assert {stage.stage for stage in replayed.stages if stage.verdict == "given"} >= {"samples"}
    assert [stage.stage for stage in replayed.stages] == list(STAGES)


def test_samples_that_the_model_wrote_replay_from_the_seed(open_bench: Open) -> None:
    bench = open_bench()
    answered = adapt(Request("what is 1+1?", "t", seed=3), bench)
    replayed = replay(answered.change.change_id, "scratch", bench)
    assert replayed.verdict == "equal"
    assert {stage.verdict for stage in replayed.stages} == {"equal"}


def test_no_valid_sample_is_an_outcome_with_a_name_and_the_base_answers(open_bench: Open) -> None:
    bench = open_bench()
    answered = adapt(Request("what is 1+1?", "t", seed=3), bench)  # random weights write nothing that parses
    assert answered.change.body.update.outcome == "no_valid_samples"
    assert (answered.change.status, answered.served_from) == ("rejected", "base")
    assert answered.change.body.decision.reason == "no_valid_samples"


def test_practising_on_the_task_itself_is_dropped_as_leakage(open_bench: Open) -> None:
    bench = open_bench()
    samples = forced(bench, ("WHAT is 1 + 1?", "2"), ("3+3", "6"))
    answered = adapt(Request("what is 1+1?", "t", forced=samples), bench)
    synthesis = answered.change.body.synthesis
    assert (synthesis.target_leakage, synthesis.kept) == (1, 1)


def test_a_sample_written_twice_counts_once(open_bench: Open) -> None:
    bench = open_bench()
    answered = adapt(Request("what is 1+1?", "t", forced=forced(bench, ("3+3", "6"), ("3 + 3", "6"))), bench)
    assert answered.change.body.synthesis.near_duplicate == 1


def test_a_repeated_task_is_recalled_and_not_adapted_again(open_bench: Open) -> None:
    bench = open_bench()
    first = practise(bench, "7")
    size = bench.ledger.size
    again = practise(bench, "7")
    assert again.repeated
    assert again.change.change_id == first.change.change_id
    assert again.answer == first.answer
    assert bench.ledger.size == size


def test_a_task_id_for_another_question_is_refused(open_bench: Open) -> None:
    bench = open_bench()
    practise(bench, "7")
    with pytest.raises(TaskError, match="used before for another question"):
        adapt(Request("what else?", "7"), bench)


def test_a_task_that_cannot_be_posed_leaves_nothing_behind(open_bench: Open) -> None:
    bench = open_bench()
    size = bench.ledger.size
    with pytest.raises(TaskError):
        adapt(Request("1" * 5000, "long"), bench)
    assert bench.ledger.size == size


def test_the_requester_cannot_approve_under_the_default_policy_and_the_try_is_recorded(open_bench: Open) -> None:
    bench = open_bench(policy="default")
    answered = practise(bench, "7", scope="deployment")
    assert answered.change.status == "held"
    with pytest.raises(PermissionRefusedError, match="alice"):
        approve(bench.ledger, answered.change.change_id, ALICE, "mine")
    last = bench.ledger.entry(bench.ledger.size - 1).predicate
    assert last.body.type == "access.denied"
    assert last.actor == ALICE
    assert bench.ledger.change(answered.change.change_id).status == "held"
    assert bench.ledger.pointer("local", "default").head_index is None


def test_a_second_person_moves_the_pointer_under_the_default_policy(open_bench: Open) -> None:
    bench = open_bench(policy="default")
    answered = practise(bench, "7", scope="deployment")
    seen = Proof(read_behaviour(bench.ledger, answered.change).digest)
    decided = approve(bench.ledger, answered.change.change_id, BOB, "looked at it", seen)
    assert decided.change.status == "active"
    assert not decided.self_approved
    assert bench.ledger.pointer("local", "default").state == answered.change.body.update.state


def test_solo_marks_self_approval(open_bench: Open) -> None:
    bench = open_bench(policy="solo")
    decided = approve(bench.ledger, practise(bench, "7", scope="deployment").change.change_id, ALICE, "mine")
    assert decided.self_approved
    assert decided.change.status == "active"


def test_the_next_task_starts_from_the_promoted_state_and_replays_from_it(open_bench: Open) -> None:
    bench = open_bench()
    first = applied(bench, "7")
    promote(bench.ledger, first.change.change_id, ALICE, "good")
    second = practise(bench, "8")
    assert second.change.body.parents.parent_state == first.change.body.update.state
    assert second.answer.parent.state == first.change.body.update.state
    for start in ("scratch", "samples", "delta"):
        assert replay(second.change.change_id, start, bench).verdict == "equal"  # type: ignore[arg-type]


def test_of_two_promotions_from_one_state_the_second_is_stale(open_bench: Open) -> None:
    bench = open_bench()
    first, second = applied(bench, "7"), applied(bench, "8")
    promote(bench.ledger, first.change.change_id, ALICE, "good")
    size = bench.ledger.size
    with pytest.raises(StaleChangeError):
        promote(bench.ledger, second.change.change_id, ALICE, "also good")
    assert bench.ledger.size == size
    assert bench.ledger.change(second.change.change_id).status == "applied"


def test_rollback_moves_the_pointer_back_and_lists_what_was_served(open_bench: Open) -> None:
    bench = open_bench()
    first = applied(bench, "7")
    promote(bench.ledger, first.change.change_id, ALICE, "good")
    second = applied(bench, "8")
    undone = rollback(bench.ledger, first.change.change_id, ALICE, "regressed")
    assert bench.ledger.pointer("local", "default").state == bench.base_state
    assert {response.change_id for response in undone.responses} >= {first.change.change_id}
    assert second.change.change_id in {response.change_id for response in undone.responses}
    assert rollback(bench.ledger, first.change.change_id, ALICE, "again").already


def test_rollback_does_not_strand_later_changes(open_bench: Open) -> None:
    bench = open_bench()
    first = applied(bench, "7")
    promote(bench.ledger, first.change.change_id, ALICE, "good")
    second = applied(bench, "8")
    promote(bench.ledger, second.change.change_id, ALICE, "good")
    with pytest.raises(DependentsError, match=second.change.change_id):
        rollback(bench.ledger, first.change.change_id, ALICE, "regressed")
    undone = rollback(bench.ledger, first.change.change_id, ALICE, "regressed", cascade=True)
    assert [change.change_id for change in undone.changes] == [second.change.change_id, first.change.change_id]
    assert {change.status for change in undone.changes} == {"rolled_back"}
    assert bench.ledger.pointer("local", "default").state == bench.base_state


def test_a_withdrawn_answer_is_not_served_again(open_bench: Open) -> None:
    bench = open_bench()
    first = applied(bench, "7")
    rollback(bench.ledger, first.change.change_id, ALICE, "wrong")
    assert practise(bench, "7").served_from == "base"


def test_a_rejected_change_cannot_be_approved(open_bench: Open) -> None:
    bench = open_bench(policy="default")
    answered = practise(bench, "7", scope="deployment")
    reject(bench.ledger, answered.change.change_id, BOB, "no")
    with pytest.raises(RefusedError, match="rejected"):
        approve(bench.ledger, answered.change.change_id, BOB, "yes after all")


def test_replay_says_so_when_the_model_is_another(open_bench: Open) -> None:
    change_id = practise(open_bench("llama"), "7").change.change_id
    replayed = replay(change_id, "scratch", open_bench("qwen2"))
    assert (replayed.verdict, replayed.first_difference) == ("not replayable", None)
    assert "base model" in replayed.detail


def test_deltas_never_carry_over_to_another_base_model(open_bench: Open) -> None:
    bench = open_bench("llama")
    promote(bench.ledger, applied(bench, "7").change.change_id, ALICE, "good")
    with pytest.raises(RefusedError, match="not made from this base model"):
        practise(open_bench("qwen2"), "8")


def test_a_forged_answer_is_found_by_replay(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed and consistent, but not what the weights say: only computing again can tell."""
    from mass_gov.flows import answering as flow

    bench = open_bench()
    honest = flow.answer_from

    def lying(question: str, state: str, adapter: object, where: Workbench) -> object:
        return honest(question, state, adapter, where).model_copy(update={"text": "42"})  # type: ignore[arg-type]

    monkeypatch.setattr(flow, "answer_from", lying)
    change_id = practise(bench, "7").change.change_id
    monkeypatch.undo()
    replayed = replay(change_id, "scratch", bench)
    assert (replayed.verdict, replayed.first_difference) == ("differs", "answer")


def test_other_settings_are_part_of_the_record_and_not_of_the_reader(open_bench: Open) -> None:
    change_id = practise(open_bench(), "7").change.change_id
    other = AdaptationSpec(update=UpdateSpec(step_size=0.9, steps=3), answer=AnswerSpec(max_new_tokens=4))
    assert replay(change_id, "scratch", open_bench(spec=other)).verdict == "equal"


def test_an_answer_without_adaptation_is_recorded_and_replays(open_bench: Open) -> None:
    bench = open_bench()
    plain = respond(Request("what is 7?", "7"), bench)
    assert plain.response.change_id is None
    assert replay(plain.response.response_id, "scratch", bench).verdict == "equal"
    first = applied(bench, "8")
    promote(bench.ledger, first.change.change_id, ALICE, "good")
    promoted = respond(Request("what is 7?", "7"), bench)
    assert promoted.response.state == first.change.body.update.state
    assert replay(promoted.response.response_id, "scratch", bench).verdict == "equal"
    undone = rollback(bench.ledger, first.change.change_id, ALICE, "regressed")
    assert promoted.response.response_id in {response.response_id for response in undone.responses}


def test_a_response_replays_as_the_change_behind_it(open_bench: Open) -> None:
    bench = open_bench()
    answered = practise(bench, "7")
    (response,) = bench.ledger.responses(change_id=answered.change.change_id)
    replayed = replay(response.response_id, "delta", bench)
    assert (replayed.verdict, replayed.change_id) == ("equal", answered.change.change_id)
