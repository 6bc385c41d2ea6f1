"""A batch is several changes, each with its own decision, and each what it is alone. Denial first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config import load_settings
from mass_gov.errors import MassGovError, PermissionRefusedError, TaskError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows.adapt import adapt
from mass_gov.flows.adapt_many import Reply, adapt_many
from mass_gov.flows.approve import promote
from mass_gov.flows.audit import verify
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.freeze import freeze
from mass_gov.flows.replay import replay
from mass_gov.flows.replay_report import Start
from mass_gov.flows.respond import Responded
from mass_gov.flows.workbench import Workbench
from mass_gov.mass.learner import Learner
from mass_gov.records.artifacts import BatchContent, SamplesContent
from mass_gov.records.settings import AnswerSpec
from mass_gov.wiring import address, initialise, open_keys, open_workbench, recommended_spec
from tests.fakes.policies import lean_source
from tests.fakes.small_core import make_talkative
from tests.flows.test_adapt import ALICE
from tests.flows.test_core import cored

QUESTIONS = ("what is 7?", "what is 7+11?", "what is it?", "8?", "what is 123-45?")
Open = Callable[..., Workbench]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that writes samples that parse, with a core."""
    folder = tmp_path_factory.mktemp("talkative")
    return cored(make_talkative(folder / "plain", "llama"), folder / "cored", samples=48)


@pytest.fixture
def open_bench(tmp_path: Path, model: Path) -> Iterator[Open]:
    opened: list[Workbench] = []

    def make(gates: dict[str, Any] | None = None, home: str = "home", **parts: Any) -> Workbench:
        settings = load_settings(home=tmp_path / home, model=model, principal="alice")
        path = tmp_path / "policy.yaml"
        path.write_bytes(lean_source(gates, **parts))
        initialise(settings, str(path))[0].close()
        spec = recommended_spec(settings).model_copy(update={"answer": AnswerSpec(max_new_tokens=8)})
        opened.append(open_workbench(settings, spec))
        return opened[-1]

    yield make
    for bench in opened:
        bench.ledger.close()


def requests(questions: Sequence[str] = QUESTIONS, **more: Any) -> list[Request]:
    return [Request(question, f"t{place}", seed=3 + place, **more) for place, question in enumerate(questions)]


def batch_of(answered: Reply, bench: Workbench) -> BatchContent | None:
    assert isinstance(answered, Answered)
    content = parse_canonical(bench.ledger.artifact(answered.change.entry, "samples"))
    return SamplesContent.model_validate(content).batch


def run(bench: Workbench, asked: Sequence[Request], size: int = 8) -> list[Reply]:
    return [reply for _, reply in adapt_many(asked, bench, size=size)]


def test_whoever_may_not_ask_gets_nothing_computed(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench()
    monkeypatch.setattr(Learner, "write_samples_together", pytest.fail)
    stranger = bench.actor.model_copy(update={"role": "auditor"})
    object.__setattr__(bench, "actor", stranger)
    with pytest.raises(PermissionRefusedError):
        run(bench, requests())
    assert bench.ledger.changes() == []


def test_one_bad_task_is_reported_and_stops_no_other(open_bench: Open) -> None:
    bench = open_bench()
    adapt(Request("what is 1?", "used", seed=1), bench)
    asked = [
        Request("what is 7?", "first", seed=1),
        Request("\x07", "unreadable", seed=1),
        Request("7" * 5000, "too long", seed=1),
        Request("what else is it?", "used", seed=1),
        Request("what is 8?", "seed", seed=-1),
        Request("what is 7?", "first", seed=1),
        Request("what is 9?", "last", seed=1),
    ]
    replies = run(bench, asked)
    assert [isinstance(reply, TaskError) for reply in replies] == [False, True, True, True, True, False, False]
    assert [str(reply).split(":")[0] for reply in replies if isinstance(reply, MassGovError)][1].endswith("too long")
    again, last = replies[5], replies[6]
    assert isinstance(again, Answered) and again.repeated
    assert batch_of(last, bench) == batch_of(replies[0], bench).model_copy(update={"place": 1})  # type: ignore[union-attr]
    assert verify(bench.ledger).ok


def test_a_budget_is_spent_as_by_one_after_the_other(open_bench: Open) -> None:
    bench = open_bench({"update.budget": {"changes_per_hour": 3, "flops_per_hour": 1e15, "on_fail": "hold"}})
    replies = run(bench, requests())
    assert [type(reply) for reply in replies] == [Answered] * 3 + [Responded] * 2
    spent = [
        next(measure.value for measure in reply.change.body.measures or () if measure.name == "update.budget.changes")
        for reply in replies
        if isinstance(reply, Answered)
    ]
    assert spent == [1.0, 2.0, 3.0]
    assert verify(bench.ledger).ok


def test_frozen_learning_computes_no_practice_and_answers_un_adapted(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench()
    freeze(bench.ledger, ALICE, "stop", bench.tenant, bench.deployment)
    monkeypatch.setattr(Learner, "write_samples_together", pytest.fail)
    assert {type(reply) for reply in run(bench, requests())} == {Responded}


def test_a_freeze_in_the_middle_lets_nothing_more_be_learned(open_bench: Open) -> None:
    bench, found = open_bench(), []
    for _, reply in adapt_many(requests(), bench):
        found.append(type(reply))
        if len(found) == 2:
            freeze(bench.ledger, ALICE, "stop", bench.tenant, bench.deployment)
    assert found == [Answered] * 2 + [Responded] * 3
    assert verify(bench.ledger).ok


def test_after_the_pointer_moved_the_rest_is_computed_from_where_it_stands(open_bench: Open) -> None:
    bench, found = open_bench(), list[Answered]()
    for _, reply in adapt_many(requests(), bench):
        assert isinstance(reply, Answered)
        found.append(reply)
        if len(found) == 2:
            promote(bench.ledger, reply.change.change_id, ALICE, "as the next state")
    moved = found[1].change.body.update.state
    parents = [answered.change.body.parents.parent_state for answered in found]
    assert parents == [bench.base_state] * 2 + [moved] * 3
    assert [batch_of(answered, bench) is None for answered in found] == [False] * 2 + [True] * 3
    assert verify(bench.ledger).ok


def test_where_company_changes_bits_every_task_is_computed_by_itself(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench()
    monkeypatch.setattr(Learner, "keeps_bits_together", property(lambda self: False))
    assert {batch_of(reply, bench) for reply in run(bench, requests()[:2])} == {None}


def test_what_is_learned_spent_and_answered_is_what_a_task_alone_gets(open_bench: Open) -> None:
    bench, other = open_bench(), open_bench(home="other")
    for together, asked in zip(run(bench, requests()), requests(), strict=True):
        alone = adapt(asked, other)
        assert isinstance(together, Answered)
        one, two = together.change.body, alone.change.body
        assert one.update.outcome == "stepped"
        assert one.update.model_copy(update={"delta_key": None}) == two.update.model_copy(update={"delta_key": None})
        assert (one.synthesis, one.regression, one.decision) == (two.synthesis, two.regression, two.decision)
        assert together.answer == alone.answer
        # The first one of a process also pays for what is remembered of the base.
        assert (one.cost.flops, one.cost.generated_tokens) == (two.cost.flops, two.cost.generated_tokens)


def test_each_replays_alone_in_a_fresh_learner_also_on_a_promoted_state(open_bench: Open) -> None:
    bench = open_bench()
    first = adapt(Request("what is 5?", "parent", seed=2), bench)
    promote(bench.ledger, first.change.change_id, ALICE, "as the next state")
    replies = run(bench, requests(scope="deployment"))
    sizes = [batch_of(reply, bench) for reply in replies]
    assert [(one.size, one.place) for one in sizes if one is not None] == [(5, place) for place in range(5)]
    fresh = open_bench()
    starts: tuple[Start, ...] = ("scratch", "samples", "delta", "scratch", "scratch")
    for reply, start in zip(replies, starts, strict=True):
        assert isinstance(reply, Answered)
        assert reply.change.body.parents.parent_state == first.change.body.update.state
        replayed = replay(reply.change.change_id, start, fresh)
        assert replayed.verdict == "equal", (start, replayed)


def test_killed_in_the_middle_the_log_verifies_and_has_whoever_had_their_turn(open_bench: Open, tmp_path: Path) -> None:
    bench = open_bench()
    settings = load_settings(home=tmp_path / "home", model="unused", principal="alice")
    child = os.fork()
    if not child:
        try:
            for done, _ in enumerate(adapt_many(requests(), bench)):
                if done == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    report = verify(
        address(settings), keys=open_keys(settings), public_key=None, checkpoints=settings.checkpoint_folder
    )
    assert report.ok, report.first_wrong
    later = open_bench()
    replies = run(later, requests())
    assert [reply.repeated for reply in replies if isinstance(reply, Answered)] == [True] * 2 + [False] * 3
