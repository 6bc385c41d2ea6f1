"""Freezing: what may not happen while learning is frozen, who may freeze and who may end it, and what goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import FrozenError, IntegrityError, MassGovError, PermissionRefusedError, RefusedError
from mass_gov.flows.audit import verify
from mass_gov.flows.freeze import SYSTEM, freeze, freeze_draft, unfreeze
from mass_gov.flows.rollback import rollback, rollback_drafts
from mass_gov.ledger import Ledger
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ModelRegistered, RegressionPerformed
from tests.fakes.ledger_world import ADA, BOB, BOTH_SCOPES, EVE, SUITE, TEMPLATE, LedgerWorld, digest, regression_run

pytestmark = pytest.mark.both_engines

RESPONSE = "01890000-0000-7000-8000-000000000001"
AUDITOR = Actor(principal="audra", role="auditor")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield made
    made.close()


def refused(world: LedgerWorld, drafts: list[EventDraft], kind: type[Exception], match: str) -> None:
    before = world.ledger.size
    with pytest.raises(kind, match=match):
        world.ledger.append(drafts)
    assert world.ledger.size == before


def test_nothing_is_learned_approved_or_activated_while_frozen(world: LedgerWorld) -> None:
    held, applied = world.record("held", step_norm=0.7), world.record("applied")
    moving = world.record("moving", scope="deployment", step_norm=0.7)
    ready = world.change_drafts("ready", scope="deployment", consequences=False)
    world.ledger.append(ready)
    pending = world.ledger.changes(status="pending")[0]
    world.ledger.append([world.freeze()])
    for step_norm in (0.05, 0.7, 0.9):
        refused(
            world, world.change_drafts("new", step_norm=step_norm), FrozenError, "learning is frozen for acme/tutor"
        )
    refused(world, [world.approval(held)], FrozenError, "The approval")
    refused(world, [world.approval(moving), world.activation(moving, "approval")], FrozenError, "The approval")
    refused(world, [world.activation(pending, "envelope")], FrozenError, "The activation")
    promotion = [world.approval(applied, BOB, "promote"), world.activation(applied, "promotion")]
    refused(world, promotion, FrozenError, "The approval")


def test_rejecting_rolling_back_and_serving_go_on_while_frozen(world: LedgerWorld) -> None:
    held, applied = world.record("held", step_norm=0.7), world.record("applied")
    moved = world.record("moved", scope="deployment")
    world.ledger.append([world.freeze()])
    world.ledger.append([world.unadapted(RESPONSE)])
    world.ledger.append([world.rejection(held)])
    world.ledger.append([world.rollback(applied)])
    world.ledger.append([world.rollback(moved)])
    statuses = [world.ledger.change(change.change_id).status for change in (held, applied, moved)]
    assert statuses == ["rejected", "rolled_back", "rolled_back"]
    assert verify(world.ledger).ok


def test_a_monitor_freezes_nothing_without_an_alarm_and_no_change_comes_behind_a_freeze(world: LedgerWorld) -> None:
    place = (world.tenant, world.deployment)
    alarm = freeze_draft(world.ledger, SYSTEM, "Tails were lost.", *place, cause="monitor", monitor="window.tail")
    refused(world, [alarm, *world.change_drafts("late")], FrozenError, "learning is frozen")
    # What a real alarm looks like is tests/flows/test_monitors.py; here is a change that raised none.
    refused(world, [*world.change_drafts("first", step_norm=0.7), alarm], RefusedError, "the event before raised none")
    world.ledger.append([*world.change_drafts("first", step_norm=0.7), world.freeze()])
    frozen = world.ledger.frozen(*place)
    assert frozen is not None and (frozen.cause, frozen.monitor) == ("operator", None)


def failed_test(world: LedgerWorld, state: str, head: int | None) -> EventDraft:
    """A test of a pointer that failed."""
    content, regression = regression_run()
    body = RegressionPerformed(
        state=state,
        pointer_head=head,
        policy=world.policy.digest,
        suite=SUITE,
        regression=regression,
        passed=False,
    )
    return world.draft(body, BOB, ("regression", content))


def test_a_state_that_failed_its_test_does_not_go_on_serving(world: LedgerWorld) -> None:
    change = world.record("moves", scope="deployment")
    pointer = world.ledger.pointer(world.tenant, world.deployment)
    test = failed_test(world, change.body.update.state, pointer.head_index)
    refused(world, [test], RefusedError, "is not undone")
    refused(world, [test, world.rollback(change)], RefusedError, "is not undone")  # by a person, for another reason
    undone = rollback_drafts(world.ledger, [(change, None)], SYSTEM, "It failed.", cause="regression", first=1)
    refused(world, undone, IntegrityError, "no test of its state failed")
    world.ledger.append([test, *undone])
    assert world.ledger.change(change.change_id).status == "rolled_back"


def test_where_nothing_was_ever_activated_there_is_nothing_to_test(world: LedgerWorld) -> None:
    refused(world, [failed_test(world, digest("any state"), None)], RefusedError, "nothing to test")


@pytest.mark.parametrize("extent", ["deployment", "everywhere"])
def test_only_what_the_freeze_extends_to_stops(world: LedgerWorld, extent: str) -> None:
    world.ledger.append([world.freeze(extent=extent)])
    world.deployment = "other"
    if extent == "everywhere":
        refused(world, world.change_drafts("one"), FrozenError, "frozen everywhere")
    else:
        assert world.record("one").status == "applied"


def test_a_deployment_learns_again_only_when_both_freezes_have_ended(world: LedgerWorld) -> None:
    own, every = world.ledger.append([world.freeze(), world.freeze(extent="everywhere")])
    world.ledger.append([world.unfreeze(every.index, extent="everywhere")])
    refused(world, world.change_drafts("one"), FrozenError, "frozen for acme/tutor")
    world.ledger.append([world.unfreeze(own.index)])
    assert world.record("one").status == "applied"
    assert [(one.index, one.ended_index is not None) for one in world.ledger.freezes()] == [
        (own.index, True),
        (every.index, True),
    ]


@pytest.mark.parametrize(
    ("actor", "overrides"),
    [
        (ADA, {}),
        (AUDITOR, {}),
        (SYSTEM, {}),
        (BOB, {"cause": "monitor", "monitor": "window.tail"}),
        (BOB, {"cause": "regression"}),
        (ADA, {"extent": "everywhere"}),
    ],
)
def test_who_may_not_freeze(world: LedgerWorld, actor: Actor, overrides: dict[str, Any]) -> None:
    refused(world, [world.freeze(actor, **overrides)], PermissionRefusedError, "cannot cause|can replay")


@pytest.mark.parametrize("actor", [ADA, AUDITOR, SYSTEM])
def test_who_may_not_end_a_freeze(world: LedgerWorld, actor: Actor) -> None:
    (entry,) = world.ledger.append([world.freeze()])
    refused(world, [world.unfreeze(entry.index, actor)], PermissionRefusedError, "cannot cause|can replay")
    assert world.ledger.frozen(world.tenant, world.deployment) is not None


def test_a_freeze_that_contradicts_itself_is_refused(world: LedgerWorld) -> None:
    refused(world, [world.freeze(monitor="window.tail")], IntegrityError, "names a monitor if and only if")
    refused(world, [world.freeze(SYSTEM, cause="monitor")], IntegrityError, "names a monitor if and only if")
    refused(world, [world.freeze(policy=digest("other"))], RefusedError, "not in force")


def test_a_freeze_is_ended_by_name_and_only_while_it_is_in_force(world: LedgerWorld) -> None:
    refused(world, [world.unfreeze(3)], RefusedError, "none is in force there")
    (first,) = world.ledger.append([world.freeze()])
    refused(world, [world.freeze()], RefusedError, "already, since event")
    refused(world, [world.unfreeze(first.index + 7)], RefusedError, f"the one in force is event {first.index}")
    refused(world, [world.unfreeze(first.index, extent="everywhere")], RefusedError, "none is in force there")
    world.deployment = "other"
    refused(world, [world.unfreeze(first.index)], RefusedError, "none is in force there")
    world.deployment = "tutor"
    world.ledger.append([world.unfreeze(first.index)])
    refused(world, [world.unfreeze(first.index)], RefusedError, "none is in force there")


def test_freezing_twice_and_ending_what_is_not_there_change_nothing(world: LedgerWorld) -> None:
    place = (world.tenant, world.deployment)
    assert unfreeze(world.ledger, BOB, "Nothing to end.", *place).already
    first, second = (freeze(world.ledger, BOB, "It looks wrong.", *place) for _ in range(2))
    assert (first.already, second.already) == (False, True)
    assert first.freeze == second.freeze
    size = world.ledger.size
    assert freeze(world.ledger, EVE, "It does.", *place).already
    assert world.ledger.size == size
    every = freeze(world.ledger, EVE, "Everything does.", *place, everywhere=True)
    ended = unfreeze(world.ledger, BOB, "It was the data.", *place)
    assert ended.still == every.freeze and not ended.already
    assert unfreeze(world.ledger, BOB, "That too.", *place, everywhere=True).still is None
    assert verify(world.ledger).ok


def test_of_two_operators_who_freeze_at_once_one_freezes_and_the_other_is_told(world: LedgerWorld) -> None:
    ledgers = [world.ledger, _second(world)]
    start, done = threading.Barrier(2), list[bool]()

    def one(ledger: Ledger, who: Actor) -> None:
        start.wait()
        done.append(freeze(ledger, who, "It looks wrong.", world.tenant, world.deployment).already)

    threads = [threading.Thread(target=one, args=pair) for pair in zip(ledgers, (BOB, EVE), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledgers[1].close()
    assert sorted(done) == [False, True]
    assert len(world.ledger.freezes()) == 1


def test_verify_finds_a_row_that_says_that_learning_goes_on(world: LedgerWorld) -> None:
    (entry,) = world.ledger.append([world.freeze()])
    with world.ledger._database.write() as connection:
        connection.exec_driver_sql(f'UPDATE controls SET ended_index = 1 WHERE "index" = {entry.index}')
    report = verify(world.ledger)
    assert not report.ok and report.first_wrong is not None
    assert "controls row" in str(report.first_wrong)
    with pytest.raises(MassGovError, match="does not follow from it"):
        _second(world)


def _second(world: LedgerWorld) -> Ledger:
    return Ledger.open(world.ledger.address, keys=world.keys, checkpoints=world.folder / "checkpoints")


def test_an_event_of_somebody_else_does_not_stop_a_rollback(
    world: LedgerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an emergency there is traffic: any event moves the indices that a cascade names, any answer its count."""
    first, second = (world.record(name, scope="deployment") for name in ("a", "b"))
    append, crowd = world.ledger.append, iter(range(3))

    def crowded(drafts: Any) -> Any:
        if next(crowd, None) is not None:
            append(
                [
                    world.draft(
                        ModelRegistered(model=digest(str(len(seen))), prompt_template=TEMPLATE, parameters="1"), BOB
                    )
                ]
            )
            seen.append("event")
        return append(drafts)

    seen: list[str] = []
    monkeypatch.setattr(world.ledger, "append", crowded)
    done = rollback(world.ledger, first.change_id, BOB, "harmful", cascade=True)
    assert [change.change_id for change in done.changes] == [second.change_id, first.change_id]
    assert len(seen) == 3
    assert world.ledger.pointer("acme", "tutor").state == first.body.parents.parent_state
