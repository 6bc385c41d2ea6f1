"""What is served when something happened in between: a rollback, an erasure of trust, another process. Denial first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config import Settings, load_settings
from mass_gov.errors import (
    InputError,
    IntegrityError,
    KeyUnavailableError,
    NotRetainedError,
    RefusedError,
    StaleChangeError,
)
from mass_gov.evidence.keystore import SYSTEM_SUBJECT
from mass_gov.flows import adapt as adapt_flow
from mass_gov.flows import drafting, initialise
from mass_gov.flows import respond as respond_flow
from mass_gov.flows.approve import approve, promote
from mass_gov.flows.audit import verify
from mass_gov.flows.exchange import Request
from mass_gov.flows.replay import replay
from mass_gov.flows.respond import respond
from mass_gov.flows.rollback import rollback
from mass_gov.flows.workbench import Workbench, delta_files, under_policy_in_force
from mass_gov.policy import Policy, load_policy
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import PolicyActivated
from mass_gov.records.settings import AdaptationSpec
from mass_gov.tasks.suites import parse_suite
from mass_gov.wiring import address, find_policy, open_keys, open_ledger, open_workbench
from mass_gov.wiring import initialise as make_ledger
from tests.fakes.policies import lean_source
from tests.flows.test_adapt import ALICE, BOB, SPEC, applied, practise

Open = Callable[..., Workbench]
pytestmark = [pytest.mark.both_engines, pytest.mark.usefixtures("engine_settings")]


@pytest.fixture
def settings(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Settings:
    return load_settings(home=tmp_path / "home", model=tiny_model("llama"), principal="alice")


@pytest.fixture
def open_bench(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    opened: list[Workbench] = []

    def make(spec: AdaptationSpec = SPEC, **changed: str) -> Workbench:
        source = lean_source().decode()
        for old, new in changed.items():
            assert f"{old}: " in source
            source = "\n".join(f"{old}: {new}" if line.startswith(f"{old}: ") else line for line in source.split("\n"))
        path = tmp_path / "policy.yaml"
        path.write_text(source)
        make_ledger(settings, str(path))[0].close()
        opened.append(open_workbench(settings, spec))
        return opened[-1]

    yield make
    for bench in opened:
        bench.ledger.close()
        report = verify(
            address(settings), keys=open_keys(settings), public_key=None, checkpoints=settings.checkpoint_folder
        )
        assert report.ok == ("foreign" not in request.node.name), report.first_wrong


def promoted(bench: Workbench, name: str) -> str:
    change_id = applied(bench, name).change.change_id
    promote(bench.ledger, change_id, ALICE, "good")
    return change_id


def in_between(
    monkeypatch: pytest.MonkeyPatch, flow: Any, name: str, act: Callable[[], object], times: int = 1
) -> None:
    """Let `act` happen, as if by another process, after the state was read and the answer computed."""
    honest, left = getattr(flow, name), [times]

    def late(*arguments: Any, **options: Any) -> Any:
        result = honest(*arguments, **options)
        if left[0]:
            left[0] -= 1
            act()
        return result

    monkeypatch.setattr(flow, name, late)


def last_served(bench: Workbench) -> tuple[str | None, str]:
    response = bench.ledger.responses()[-1]
    return response.change_id, response.served


# What was rolled back meanwhile


def test_weights_rolled_back_while_adapting_never_answer(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench()
    bad = promoted(bench, "7")
    in_between(monkeypatch, adapt_flow, "compute", lambda: rollback(bench.ledger, bad, BOB, "harmful"))
    answered = practise(bench, "8")
    assert answered.change.body.parents.parent_state == bench.base_state
    assert answered.change.body.parents.pointer_head == bench.ledger.pointer("local", "default").head_index
    assert answered.answer.parent.state == bench.base_state
    assert replay(answered.change.change_id, "scratch", bench).verdict == "equal"


def test_a_pointer_that_moves_again_while_computing_again_is_an_error_and_nothing_is_served(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench()
    promoted(bench, "7")
    later = practise(bench, "5")

    def move() -> None:
        if bench.ledger.change(later.change.change_id).status == "applied":
            promote(bench.ledger, later.change.change_id, ALICE, "better")
        else:
            rollback(bench.ledger, later.change.change_id, ALICE, "or not")

    in_between(monkeypatch, adapt_flow, "compute", move, times=2)
    served = len(bench.ledger.responses())
    with pytest.raises(StaleChangeError):
        practise(bench, "8")
    assert len(bench.ledger.responses()) == served


def test_a_deployment_change_whose_pointer_moved_is_refused_and_not_computed_from_elsewhere(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench()
    bad = promoted(bench, "7")
    in_between(monkeypatch, adapt_flow, "compute", lambda: rollback(bench.ledger, bad, BOB, "harmful"))
    with pytest.raises(StaleChangeError):
        practise(bench, "8", scope="deployment")
    assert len(bench.ledger.changes()) == 1


def test_weights_rolled_back_while_answering_never_answer(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench()
    bad = promoted(bench, "7")
    in_between(monkeypatch, respond_flow, "answer_from", lambda: rollback(bench.ledger, bad, BOB, "harmful"))
    responded = respond(Request("what is 8?", "8"), bench)
    assert responded.response.state == responded.answer.state == bench.base_state
    assert bench.ledger.responses_under(bench.ledger.change(bad).body.update.state)[-1].change_id == bad


# Asking again after a rollback


def test_asked_again_after_a_rollback_the_base_answers_and_the_log_says_so_once(open_bench: Open) -> None:
    bench = open_bench()
    first = applied(bench, "7")
    rollback(bench.ledger, first.change.change_id, ALICE, "wrong")
    size = bench.ledger.size
    again = practise(bench, "7")
    assert (again.served_from, again.served) == ("base", first.answer.base.text)
    assert last_served(bench) == (first.change.change_id, "base")
    assert bench.ledger.size == size + 1
    practise(bench, "7")
    assert bench.ledger.size == size + 1


def test_an_answer_made_from_weights_rolled_back_since_is_listed_and_not_served_again(open_bench: Open) -> None:
    bench = open_bench()
    bad = promoted(bench, "7")
    child = applied(bench, "8")
    undone = rollback(bench.ledger, bad, ALICE, "harmful")
    assert [change.change_id for change in undone.standing] == [child.change.change_id]
    again = practise(bench, "8")
    assert (again.change.status, again.served_from, again.served) == ("applied", "base", child.answer.base.text)
    assert last_served(bench) == (child.change.change_id, "base")


def test_neither_is_the_parents_answer_where_the_policy_serves_the_parent(open_bench: Open) -> None:
    bench = open_bench(name="parents", while_pending="parent")
    bad = promoted(bench, "7")
    child = applied(bench, "8")
    assert child.answer.parent.state == bench.ledger.change(bad).body.update.state
    rollback(bench.ledger, bad, ALICE, "harmful", cascade=True)
    assert practise(bench, "8").served_from == "base"


def test_nothing_is_served_again_where_the_policy_serves_nothing(open_bench: Open) -> None:
    bench = open_bench(name="nothing", while_pending="none")
    bad = promoted(bench, "7")
    applied(bench, "8")
    rollback(bench.ledger, bad, ALICE, "harmful")
    size = bench.ledger.size
    again = practise(bench, "8")
    assert (again.served_from, again.served, bench.ledger.size) == ("none", None, size)


@pytest.mark.parametrize("second_call", [False, True])
def test_cascade_withdraws_the_answers_made_from_the_undone_weights(open_bench: Open, second_call: bool) -> None:
    bench = open_bench()
    beside = applied(bench, "6")  # made from the base: stays
    bad = promoted(bench, "7")
    children = [applied(bench, name).change.change_id for name in ("8", "9")]
    if second_call:
        rollback(bench.ledger, bad, ALICE, "harmful")
    undone = rollback(bench.ledger, bad, ALICE, "harmful", cascade=True)
    assert [change.change_id for change in undone.changes] == [*reversed(children), *([] if second_call else [bad])]
    assert {bench.ledger.change(change_id).status for change_id in [*children, bad]} == {"rolled_back"}
    assert bench.ledger.change(beside.change.change_id).status == "applied"
    assert bench.ledger.pointer("local", "default").state == bench.base_state
    assert {response.change_id for response in undone.responses} >= set(children)
    assert not undone.standing
    assert rollback(bench.ledger, bad, ALICE, "harmful", cascade=True).already


def test_an_answer_that_waits_is_not_approved_after_its_weights_were_rolled_back(open_bench: Open) -> None:
    bench = open_bench(
        AdaptationSpec(**{**SPEC.model_dump(), "update": {**SPEC.update.model_dump(), "step_size": 0.6}})
    )
    bad = promoted(bench, "7")
    waiting = practise(bench, "8")
    assert waiting.change.status == "held"
    rollback(bench.ledger, bad, ALICE, "harmful")
    size = bench.ledger.size
    with pytest.raises(StaleChangeError, match=bad):
        approve(bench.ledger, waiting.change.change_id, ALICE, "fine")
    assert bench.ledger.size == size


# Weights that are not the recorded ones


def test_foreign_weights_under_a_genuine_leaf_answer_nothing_and_replay_says_where(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by the operator's own keys, sealed in its place, of the right form: only the delta's digest tells."""
    bench = open_bench()
    other = delta_files(bench.ledger, applied(bench, "6").change)
    honest = drafting._artifacts

    def lying(*arguments: Any) -> tuple[ArtifactDraft, ...]:
        return tuple(
            ArtifactDraft(draft.role, other["adapter_model.safetensors"], draft.subject)
            if draft.role == "delta.adapter_model"
            else draft
            for draft in honest(*arguments)
        )

    with monkeypatch.context() as patch:
        patch.setattr(drafting, "_artifacts", lying)
        bad = promoted(bench, "7")
    with pytest.raises(IntegrityError, match=r"delta\.adapter_model of change"):
        respond(Request("what is 8?", "8"), bench)
    with pytest.raises(IntegrityError, match="not the recorded ones"):
        practise(bench, "8")
    for start in ("scratch", "samples", "delta"):
        replayed = replay(bad, start, bench)
        assert (replayed.verdict, replayed.first_difference) == ("differs", "delta")
        assert "delta.adapter_model" in replayed.detail
    rollback(bench.ledger, bad, ALICE, "foreign weights")
    assert respond(Request("what is 8?", "8"), bench).answer.state == bench.base_state


# The policy in force


def _activate(bench: Workbench, policy: Policy, replaces: str | None) -> None:
    document = policy.document
    body = PolicyActivated(
        policy=policy.digest,
        name=document.name,
        version=document.version,
        replaces=replaces,
        approvers=("alice",),
        self_approved=True,
    )
    artifact = ArtifactDraft("policy", policy.source, SYSTEM_SUBJECT)
    bench.ledger.append([EventDraft(ALICE, bench.tenant, bench.deployment, body, (artifact,))])


def test_an_answer_names_the_policy_in_force_and_not_the_one_that_the_bench_was_laid_with(open_bench: Open) -> None:
    bench = open_bench()
    newer = load_policy(bench.policy.source.replace(b"\nversion: 1\n", b"\nversion: 2\n"))
    _activate(bench, newer, replaces=bench.policy.digest)
    assert respond(Request("what is 7?", "7"), bench).origin.policy == newer.digest
    assert practise(bench, "8").change.body.parents.policy == newer.digest
    assert under_policy_in_force(bench).policy.digest == newer.digest


def test_a_policy_with_a_suite_that_nobody_has_is_not_judged_on_another(open_bench: Open) -> None:
    bench = open_bench()
    source = bench.policy.source.replace(b"\nversion: 1\n", b"\nversion: 2\n")
    _activate(bench, load_policy(source.replace(b": core-v1", b": core-v99")), replaces=bench.policy.digest)
    before = bench.ledger.size
    with pytest.raises(InputError, match=r"core-v99.*instance-v1"):
        practise(bench, "8")
    assert bench.ledger.size == before


def test_a_policy_that_comes_into_force_brings_its_suite_along(open_bench: Open) -> None:
    bench = open_bench()
    source = bench.policy.source.replace(b"\nversion: 1\n", b"\nversion: 2\n")
    newer = load_policy(source.replace(b"instance: core-v1", b"instance: instance-v1"))
    _activate(bench, newer, replaces=bench.policy.digest)
    change = practise(bench, "8").change
    suite = parse_suite(bench.ledger.suite_bytes(change.body.parents.suite))
    assert suite.header is not None and suite.header.label == "instance-v1"
    assert change.body.regression is not None and change.body.regression.n == suite.header.cases


@pytest.mark.parametrize("same", [True, False])
def test_of_two_first_policies_at_once_one_is_in_force(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    solo, default = find_policy("solo"), find_policy("default")
    with open_ledger(settings, create=True) as ledger, open_ledger(settings) as other:
        honest, first = initialise.policy_in_force, [True]

        def late(asked: Any) -> Policy | None:
            found = honest(asked)
            if first.pop() if first else False:
                initialise.activate_first_policy(other, solo, BOB, "local", "default")
            return found

        monkeypatch.setattr(initialise, "policy_in_force", late)
        if same:
            initialise.activate_first_policy(ledger, solo, ALICE, "local", "default")
        else:
            with pytest.raises(RefusedError, match=r"policy solo/v1 is in force"):
                initialise.activate_first_policy(ledger, default, ALICE, "local", "default")
        assert (ledger.active_policy(), ledger.size) == (solo.digest, 2)


# Keys


@pytest.mark.parametrize("name", ["request.key", "master.key", "log-ed25519.pem", "delta-p256.pem"])
def test_a_key_lost_from_under_a_ledger_is_named_and_not_replaced(settings: Settings, name: str) -> None:
    """With a new request.key every task would be adapted again, and answered a second time."""
    make_ledger(settings, None)[0].close()
    (settings.key_folder / name).unlink()
    with pytest.raises(KeyUnavailableError, match=name):
        make_ledger(settings, None)
    assert not (settings.key_folder / name).exists()


def test_no_key_store_is_made_beside_a_ledger_that_lost_its_own(settings: Settings) -> None:
    make_ledger(settings, None)[0].close()
    settings.key_folder.rename(settings.key_folder.with_name("gone"))
    with pytest.raises(KeyUnavailableError, match="back-up"):
        make_ledger(settings, None)
    assert not settings.key_folder.exists()


def test_an_erased_request_is_not_answered_from_memory(open_bench: Open) -> None:
    bench = open_bench()
    first = applied(bench, "7")
    bench.keys.destroy_subject(first.change.body.identity.subject)
    with pytest.raises(NotRetainedError):
        practise(bench, "7")
