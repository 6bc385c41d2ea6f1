"""Pointers, for real: stale changes made again, tests after activation, another base model, blame. Denials first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mass_gov.errors import (
    DependentsError,
    FrozenError,
    InputError,
    NotFoundError,
    PermissionRefusedError,
    RefusedError,
    StaleChangeError,
)
from mass_gov.evidence.state import state_digest
from mass_gov.executors.inline import InlineExecutor
from mass_gov.flows.adapt import adapt
from mass_gov.flows.approve import approve, promote, reject
from mass_gov.flows.audit import verify
from mass_gov.flows.base_move import move_base
from mass_gov.flows.blame import blame, case_of, question_probe
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.freeze import freeze, unfreeze
from mass_gov.flows.rebase import rebase
from mass_gov.flows.recheck import recheck
from mass_gov.flows.replay import replay
from mass_gov.flows.respond import Responded, adapt_or_respond
from mass_gov.flows.rollback import rollback, rollback_to
from mass_gov.flows.suite_runs import SuiteRunners
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.learner import Learner
from mass_gov.records.events import Actor, ChangeRejected, ChangeRolledBack, RegressionPerformed
from mass_gov.stages.regression import RegressionRunner
from mass_gov.wiring import open_deployment_runner, open_workbench
from tests.fakes.breakable import ALICE, BOB, GENTLE, ROUGH, SUITE, Deployment, breakable, spec
from tests.fakes.fluent_base import make_fluent
from tests.fakes.tiny_models import make_model

pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("engine_settings")]
PLACE = ("local", "default")
ADA = Actor(principal="ada", role="requester")


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with breakable(tmp_path, monkeypatch) as made:
        yield made
        report = verify(made.bench.ledger)
        assert report.ok, report.first_wrong


def runner(bench: Workbench) -> RegressionRunner:
    return open_deployment_runner(bench)


def other_model(folder: Path, *, broken: bool = False) -> Learner:
    """Another base: one that answers 6 as well, or a random one, which answers nothing that parses."""
    made = folder / f"other-{broken}"
    made.mkdir()
    if broken:
        make_model(made, "llama", seed=1, width=16, layers=1)
        return InlineExecutor(1).learner(made)
    make_fluent(made)
    tensors = load_file(made / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * 1.01
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    return InlineExecutor(1).learner(made)


# Freezing


def test_while_frozen_a_task_is_answered_unadapted_and_nothing_is_learned(deployed: Deployment) -> None:
    bench = deployed.bench
    before = deployed.ask("before", scope="instance")
    freeze(bench.ledger, BOB, "It looks wrong.", *PLACE)
    with pytest.raises(FrozenError, match="learning is frozen"):
        adapt(Request("what is 1?", "one"), bench)
    responded = adapt_or_respond(Request("what is 1?", "one"), bench)
    assert isinstance(responded, Responded)
    assert (responded.response.served, responded.response.change_id) == ("unadapted", None)
    assert len(bench.ledger.changes()) == 1
    again = deployed.ask("before", scope="instance")  # what was learned before is served as before
    assert (again.change.change_id, again.served_from) == (before.change.change_id, "adapted")
    unfreeze(bench.ledger, BOB, "It was the data.", *PLACE)
    assert isinstance(adapt_or_respond(Request("what is 1?", "one"), bench), Answered)


# A stale change


def test_a_change_is_not_made_again_while_it_is_not_stale_or_waits_for_nothing(deployed: Deployment) -> None:
    bench = deployed.bench
    held = deployed.ask("held").change
    with pytest.raises(RefusedError, match="is not stale"):
        rebase(held.change_id, bench, BOB, "again")
    reject(bench.ledger, held.change_id, BOB, "no")
    with pytest.raises(RefusedError, match="is rejected: only what waits"):
        rebase(held.change_id, bench, BOB, "again")
    applied = deployed.ask("applied", scope="instance").change
    with pytest.raises(RefusedError, match="is applied: only what waits"):
        rebase(applied.change_id, bench, BOB, "again")


def test_a_stale_change_is_made_again_from_where_the_pointer_stands_and_gated_again(deployed: Deployment) -> None:
    bench = deployed.bench
    first, stale = deployed.ask("first").change, deployed.ask("stale").change
    approve(bench.ledger, first.change_id, ALICE, "good")
    with pytest.raises(StaleChangeError, match="changes rebase"):
        approve(bench.ledger, stale.change_id, BOB, "good")
    done = rebase(stale.change_id, bench, BOB, "the pointer moved")
    body = done.new.body
    assert (done.old.status, done.new.status) == ("rejected", "held")
    assert body.identity.rebased_from == stale.change_id
    assert body.parents.parent_state == first.body.update.state
    assert body.parents.seed == stale.body.parents.seed
    assert body.synthesis.forced
    assert body.identity.requester == "alice"  # bob made it again and did not ask for it
    assert replay(done.new.change_id, "scratch", bench).verdict == "equal"
    rejected = bench.ledger.entry(done.old.rejection_index or 0).predicate.body
    assert isinstance(rejected, ChangeRejected)
    assert rejected.cause == "rebased"
    assert deployed.ask("stale").change.change_id == done.new.change_id  # who asks the task again gets the new one
    approve(bench.ledger, done.new.change_id, BOB, "good now")
    assert bench.ledger.pointer(*PLACE).state == body.update.state


def test_what_a_change_was_made_again_for_cannot_be_had_twice_or_half(deployed: Deployment) -> None:
    bench = deployed.bench
    first, stale = deployed.ask("first").change, deployed.ask("stale").change
    approve(bench.ledger, first.change_id, ALICE, "good")
    done = rebase(stale.change_id, bench, BOB, "the pointer moved")
    with pytest.raises(RefusedError, match="only what waits"):
        rebase(stale.change_id, bench, BOB, "again")
    rollback(bench.ledger, first.change_id, BOB, "bad")
    again = rebase(done.new.change_id, bench, BOB, "it moved again")
    assert again.new.body.identity.rebased_from == done.new.change_id
    assert [bench.ledger.change(one).status for one in (stale.change_id, done.new.change_id)] == ["rejected"] * 2
    freeze(bench.ledger, BOB, "stop", *PLACE)
    with pytest.raises(FrozenError):
        rebase(again.new.change_id, bench, BOB, "again")


# After an activation


def test_a_pointer_on_its_base_has_nothing_to_be_tested(deployed: Deployment) -> None:
    size = deployed.bench.ledger.size
    assert recheck(deployed.bench, runner(deployed.bench), BOB).change is None
    assert deployed.bench.ledger.size == size


def test_what_passes_after_its_activation_stays(deployed: Deployment) -> None:
    change = deployed.active("fine")
    done = recheck(deployed.bench, runner(deployed.bench), BOB)
    assert done.passed and done.undone is None and done.regression is not None
    performed = deployed.bench.ledger.entry(done.index or 0).predicate.body
    assert isinstance(performed, RegressionPerformed)
    assert (performed.state, performed.passed) == (change.body.update.state, True)
    assert deployed.bench.ledger.change(change.change_id).status == "active"


def test_what_fails_after_its_activation_is_undone_by_the_system_and_learning_can_be_frozen(
    deployed: Deployment,
) -> None:
    bench = deployed.bench
    good, bad = deployed.active("good"), deployed.active("bad", ROUGH)
    assert bench.ledger.last_rollback(*PLACE, bench.ledger.size) is None
    done = recheck(bench, runner(bench), BOB, freeze=True)
    assert not done.passed and done.undone is not None and done.frozen
    assert [change.change_id for change in done.undone.changes] == [bad.change_id]
    assert done.undone.responses  # the answer that bad served is listed
    assert bench.ledger.pointer(*PLACE).state == good.body.update.state
    undone = bench.ledger.entry(bench.ledger.change(bad.change_id).rollback_index or 0)
    assert isinstance(undone.predicate.body, ChangeRolledBack)
    assert (undone.predicate.actor.role, undone.predicate.body.cause) == ("system", "regression")
    assert bench.ledger.last_rollback(*PLACE, bench.ledger.size) == undone.predicate.time
    frozen = bench.ledger.frozen(*PLACE)
    assert frozen is not None and frozen.cause == "regression"
    passed = recheck(bench, runner(bench), BOB)  # also while frozen: a test teaches nothing
    assert passed.passed and passed.change is not None and passed.change.change_id == good.change_id


def test_a_test_of_a_state_that_the_pointer_left_is_not_recorded(deployed: Deployment) -> None:
    bench = deployed.bench
    change = deployed.active("fine")

    class _Late(RegressionRunner):
        def answers(self, state: str, adapter: object) -> tuple[str | None, ...]:
            found = super().answers(state, adapter)  # type: ignore[arg-type]
            if bench.ledger.change(change.change_id).status == "active":
                rollback(bench.ledger, change.change_id, BOB, "meanwhile")
            return found

    honest = runner(bench)
    size = bench.ledger.size
    with pytest.raises(StaleChangeError, match="moved meanwhile"):
        recheck(bench, _Late(honest.learner, honest.suite, honest.spec), BOB)
    assert bench.ledger.size == size + 1  # the rollback


# Another base model


def test_a_worse_model_is_refused_and_nothing_moves(deployed: Deployment, tmp_path: Path) -> None:
    bench = deployed.bench
    change, suite = deployed.active("fine"), runner(bench)
    size = bench.ledger.size
    with pytest.raises(RefusedError, match=r"not shown to be as good .* regression.previous fail"):
        move_base(bench, suite, other_model(tmp_path, broken=True), BOB, "newer")
    assert bench.ledger.size == size
    assert bench.ledger.pointer(*PLACE).state == change.body.update.state


def test_who_may_not_move_a_pointer_to_another_model_and_when_not(deployed: Deployment, tmp_path: Path) -> None:
    bench, new = deployed.bench, other_model(tmp_path)
    deployed.active("fine")
    with pytest.raises(PermissionRefusedError, match="cannot move a pointer"):
        move_base(bench, runner(bench), new, ADA, "newer")
    with pytest.raises(RefusedError, match="already"):
        move_base(bench, runner(bench), bench.learner, BOB, "newer")
    freeze(bench.ledger, BOB, "stop", *PLACE)
    with pytest.raises(FrozenError):
        move_base(bench, runner(bench), new, BOB, "newer")


def test_no_delta_carries_over_to_another_model_and_the_way_back_is_another_move(
    deployed: Deployment, tmp_path: Path
) -> None:
    bench, new = deployed.bench, other_model(tmp_path)
    first, second = deployed.active("first"), deployed.active("second")
    waiting = deployed.ask("waiting").change
    old_base = bench.base_state
    moved = move_base(bench, runner(bench), new, BOB, "a newer base")
    assert moved.pointer.state == state_digest(new.base_digest, None)
    assert (moved.pointer.base_model, moved.pointer.change_id) == (new.base_digest, None)
    assert [change.change_id for change in moved.retired] == [second.change_id, first.change_id]
    assert {bench.ledger.change(c.change_id).status for c in (first, second)} == {"retired"}
    with pytest.raises(RefusedError, match="not made from this base model"):
        deployed.ask("late")
    with pytest.raises(StaleChangeError):
        approve(bench.ledger, waiting.change_id, BOB, "late")
    with pytest.raises(NotFoundError, match="stood on another base model"):
        rollback_to(bench.ledger, *PLACE, first.body.update.state[:12], BOB, "back")
    there = replace(bench, learner=new, runners=SuiteRunners(new, lambda name: SUITE))
    third = adapt(Request("what is third?", "third", scope="deployment"), there).change
    assert third.body.parents.base_model == new.base_digest
    # Undoing a retired change moves nothing: its answer is withdrawn.
    assert rollback(bench.ledger, first.change_id, BOB, "withdrawn").changes[0].status == "rolled_back"
    assert bench.ledger.pointer(*PLACE).head_index == moved.index
    back = move_base(there, runner(there), bench.learner, BOB, "back")
    assert back.pointer.state == old_base
    assert bench.ledger.change(second.change_id).status == "retired"
    again = deployed.active("again")
    assert again.body.parents.parent_state == old_base
    causes = [move.cause for move in bench.ledger.pointer_history(*PLACE)]
    assert causes == ["approval", "approval", "rebase", "rebase", "approval"]


def test_a_pointer_that_never_moved_is_bound_to_the_model_that_it_moves_to(
    deployed: Deployment, tmp_path: Path
) -> None:
    bench, new = deployed.bench, other_model(tmp_path)
    moved = move_base(bench, runner(bench), new, BOB, "a newer base")
    assert moved.retired == ()
    with pytest.raises(RefusedError, match="not made from this base model"):
        deployed.ask("late")


# Back to a named state


def test_a_rollback_to_a_state_names_what_it_would_undo_and_needs_cascade(deployed: Deployment) -> None:
    ledger = deployed.bench.ledger
    first, second, third = (deployed.active(name) for name in ("first", "second", "third"))
    with pytest.raises(InputError, match="names no state"):
        rollback_to(ledger, *PLACE, "first", BOB, "back")
    with pytest.raises(NotFoundError, match="it never had"):
        rollback_to(ledger, *PLACE, "0" * 12, BOB, "back")
    with pytest.raises(DependentsError, match=f"{third.change_id}, {second.change_id}"):
        rollback_to(ledger, *PLACE, first.body.update.state[:12], BOB, "back")
    done = rollback_to(ledger, *PLACE, first.body.update.state[:12], BOB, "back", cascade=True)
    assert [change.change_id for change in done.changes] == [third.change_id, second.change_id]
    assert done.responses and not done.already
    assert ledger.pointer(*PLACE).state == done.state == first.body.update.state
    size = ledger.size
    assert rollback_to(ledger, *PLACE, first.body.update.state[:12], BOB, "back").already
    assert ledger.size == size
    with pytest.raises(NotFoundError, match="was undone"):
        rollback_to(ledger, *PLACE, second.body.update.state[:12], BOB, "forward")
    rollback_to(ledger, *PLACE, "base", BOB, "all the way")
    assert ledger.pointer(*PLACE).state == deployed.bench.base_state
    assert rollback_to(ledger, *PLACE, "base", BOB, "again").already


def test_a_promoted_answer_is_undone_with_the_pointer(deployed: Deployment) -> None:
    ledger = deployed.bench.ledger
    change = deployed.ask("one", scope="instance").change
    promote(ledger, change.change_id, ALICE, "good")
    done = rollback_to(ledger, *PLACE, "base", BOB, "bad")
    assert [one.change_id for one in done.changes] == [change.change_id]
    assert deployed.ask("one", scope="instance").served_from == "base"


# Blame


def test_the_change_that_broke_a_case_is_found_in_few_looks(deployed: Deployment) -> None:
    changes = [deployed.active(f"c{i}", ROUGH if i == 4 else GENTLE) for i in range(7)]
    probe = case_of(runner(deployed.bench).suite, "own-17", 16)
    found = blame(deployed.bench, probe)
    assert found.verdict == "broken" and found.change is not None
    assert found.change.change_id == changes[4].change_id
    assert [given.approver for given in found.change.approvals] == ["alice"]
    assert found.states == 8
    assert len(found.looked) == 5  # both ends, and log2(8)
    by_position = {one.position: one.right for one in found.looked}
    assert (by_position[4], by_position[5]) == (True, False)
    every = blame(deployed.bench, probe, every=True)
    assert (every.change, every.others, len(every.looked)) == (found.change, (), 8)


def test_what_is_right_now_or_was_never_right_is_blamed_on_nobody(deployed: Deployment) -> None:
    bench = deployed.bench
    suite = runner(bench).suite
    assert blame(bench, case_of(suite, "own-00", 16)).verdict == "no history"
    deployed.active("fine")
    assert blame(bench, case_of(suite, "own-00", 16)).verdict == "right now"
    nine = question_probe("What is it?", "9", lambda answer: answer == "9")
    bisected, scanned = blame(bench, nine), blame(bench, nine, every=True)
    assert (bisected.verdict, bisected.change) == ("wrong on the base", None)
    assert (scanned.verdict, scanned.change) == ("never right", None)
    with pytest.raises(NotFoundError, match="no case"):
        case_of(suite, "other-1", 16)
    with pytest.raises(InputError, match="needs the answer"):
        question_probe("What is it?", " ", lambda answer: True)


def test_a_history_that_goes_back_and_forth_is_told_whole_with_every(deployed: Deployment) -> None:
    """The base answers 6 and the rough state does not; a second opinion of what is right makes the history wave."""
    bench = deployed.bench
    changes = [deployed.active(f"c{i}") for i in range(4)]
    turns = iter([True, False, True, False, False])  # of the base and the four states, as --every asks them in order
    wave = question_probe("What is it?", "6", lambda answer: next(turns))
    found = blame(bench, wave, every=True)
    assert found.change is not None and found.change.change_id == changes[2].change_id
    assert [change.change_id for change in found.others] == [changes[0].change_id]


def test_the_served_weights_are_those_of_the_pointer(deployed: Deployment) -> None:
    bench = deployed.bench
    for name, size in (("a", GENTLE), ("b", ROUGH)):
        deployed.active(name, size)
        responded = adapt_or_respond(Request(f"what is it, {name}?", f"r-{name}", scope="instance"), bench)
        assert isinstance(responded, Answered)
        assert responded.change.body.parents.parent_state == bench.ledger.pointer(*PLACE).state
    settings = deployed.settings
    with open_workbench(settings, spec(GENTLE)).ledger as ledger:  # another process, as it were
        assert ledger.pointer(*PLACE).state == bench.ledger.pointer(*PLACE).state


def test_nothing_but_a_failed_test_lets_the_system_roll_back(deployed: Deployment) -> None:
    from mass_gov.errors import IntegrityError
    from mass_gov.flows.freeze import SYSTEM
    from mass_gov.flows.rollback import rollback_drafts

    ledger = deployed.bench.ledger
    change = deployed.active("fine")
    for actor in (SYSTEM, BOB):
        with pytest.raises(IntegrityError, match="for a failed test"):
            ledger.append(rollback_drafts(ledger, [(change, None)], actor, "alone", cause="regression"))
