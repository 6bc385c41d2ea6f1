"""Refusals: a flood of them becomes a handful of events, and none is lost at a clean close. On both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from mass_gov.errors import LedgerUnavailableError
from mass_gov.flows.audit import verify
from mass_gov.ledger import Ledger
from mass_gov.records.events import AccessDenied, Actor
from tests.fakes.clock import Clock
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import LedgerWorld

pytestmark = pytest.mark.both_engines

MALLORY = Actor(principal="mallory", role="requester")
PLACE = ("acme", "tutor")
CHANGE = "01890000-0000-7000-8000-000000000001"


def counts(ledger: Ledger) -> list[int]:
    bodies = [entry.predicate.body for entry in ledger.entries()]
    return [body.count for body in bodies if isinstance(body, AccessDenied)]


def test_ten_thousand_refusals_are_a_handful_of_events_that_add_up(tmp_path: Path) -> None:
    clock = Clock()
    world = LedgerWorld.make(tmp_path / "home", clock=clock)
    for _ in range(10_000):
        world.ledger.deny(MALLORY, "approve", PLACE)
        clock.add(0.02)  # 200 seconds of it
    assert len(counts(world.ledger)) == 4  # one at once, and one a minute
    world.close()
    clock.add(61)
    later = LedgerWorld.make(tmp_path / "home", clock=clock)
    later.close()  # whoever comes next writes the rest down
    last = LedgerWorld.make(tmp_path / "home", clock=clock)
    assert len(counts(last.ledger)) == 5
    assert sum(counts(last.ledger)) == 10_000
    report = verify(last.ledger)
    assert report.ok, report.first_wrong
    last.close()


def test_a_flood_of_processes_is_no_flood_of_events(tmp_path: Path) -> None:
    clock = Clock()
    LedgerWorld.make(tmp_path / "home", clock=clock).close()
    for _ in range(12):  # each opens, is refused, and closes, as commands do
        world = LedgerWorld.make(tmp_path / "home", clock=clock)
        world.ledger.deny(MALLORY, "authenticate", PLACE)
        world.close()
        clock.add(1)
    clock.add(60)
    world = LedgerWorld.make(tmp_path / "home", clock=clock)
    world.ledger.deny(MALLORY, "authenticate", PLACE)
    assert counts(world.ledger) == [1, 12]
    world.close()


def test_refusals_of_others_and_of_something_else_are_counted_apart(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home", clock=Clock())
    world.ledger.deny(MALLORY, "approve", PLACE, CHANGE)
    world.ledger.deny(MALLORY, "reject", PLACE, CHANGE)
    world.ledger.deny(Actor(principal="eve", role="auditor"), "approve", PLACE, CHANGE)
    assert counts(world.ledger) == [1, 1, 1]
    world.close()


def test_a_sum_names_a_change_only_where_it_is_about_one(tmp_path: Path) -> None:
    clock = Clock()
    world = LedgerWorld.make(tmp_path / "home", clock=clock)
    other = CHANGE[:-1] + "2"
    for change_id in (CHANGE, CHANGE, CHANGE):
        world.ledger.deny(MALLORY, "approve", PLACE, change_id)
    clock.add(61)
    world.ledger.deny(MALLORY, "approve", PLACE, CHANGE)
    for change_id in (other, CHANGE):
        world.ledger.deny(MALLORY, "approve", PLACE, change_id)
    clock.add(61)
    world.ledger.deny(MALLORY, "approve", PLACE, CHANGE)
    bodies = [e.predicate.body for e in world.ledger.entries() if e.predicate.body.type == "access.denied"]
    assert [(b.change_id, b.count) for b in bodies] == [(CHANGE, 1), (CHANGE, 3), (None, 3)]  # type: ignore[union-attr]
    world.close()


def test_what_could_not_be_logged_stays_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    world = LedgerWorld.make(tmp_path / "home", clock=clock)

    def fails(drafts: object) -> None:
        raise LedgerUnavailableError("The disk is full. Make room.")

    with monkeypatch.context() as patched:
        patched.setattr(world.ledger._denials, "append", fails)
        with pytest.raises(LedgerUnavailableError):
            world.ledger.deny(MALLORY, "approve", PLACE)
    clock.add(61)
    world.ledger.deny(MALLORY, "approve", PLACE)
    assert counts(world.ledger) == [2]
    world.close()


def test_an_auditors_ledger_writes_nothing(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    world.close()
    home = tmp_path / "home"
    auditor = Ledger.open(address_of(home), keys=None, checkpoints=home / "checkpoints")
    auditor.deny(MALLORY, "approve", PLACE)
    assert counts(auditor) == []
    auditor.close()
