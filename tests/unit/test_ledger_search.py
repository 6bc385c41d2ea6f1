"""Whatever is asked for, `find` answers what reading the whole log would: on both engines, and nothing of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.flows.audit import verify
from mass_gov.ledger import Ledger, marks, schema
from mass_gov.ledger.raw import in_order
from mass_gov.records.events import ChangeRecorded
from tests.fakes.clock import Clock
from tests.fakes.ledger_world import BOTH_SCOPES, LedgerWorld

pytestmark = pytest.mark.both_engines


@pytest.fixture
def world(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedgerWorld]:
    monkeypatch.setattr(marks, "BLOCK", 4)  # so that a few events fill several rows
    monkeypatch.setattr(marks, "STRETCH", 2)
    monkeypatch.setattr("mass_gov.ledger.search.BLOCK", 4)
    monkeypatch.setattr("mass_gov.ledger.search._WINDOW", 1)
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES, clock=clock)
    for number, norm in enumerate((0.05, 0.7, 0.9, 0.05, 0.7)):
        clock.add(60)
        made.record(f"t{number}", step_norm=norm)
    held = made.ledger.changes(status="held", newest_first=False)[0]
    made.ledger.append([made.rejection(held)])
    made.promote(made.ledger.changes(status="applied", newest_first=False)[0])
    yield made
    made.close()


def expected(ledger: Ledger, *terms: str) -> list[int]:
    """What a reader of the whole log would find, with the status that each change has now."""
    now = {change.index: change.status for change in ledger.changes(limit=1000)}
    found = []
    for entry in ledger.entries():
        said = marks.terms_of(entry.predicate)
        if isinstance(entry.predicate.body, ChangeRecorded):
            said.add(f"status={now[entry.index]}")
        if said >= set(terms):
            found.append(entry.index)
    return found


@pytest.mark.parametrize(
    "terms",
    [
        (),
        ("tenant=acme",),
        ("type=change.recorded", "status=held"),
        ("type=change.recorded", "status=rejected", "verdict=hold"),
        ("status=active",),
        ("verdict=apply", "status=rejected"),
        ("type=response.served", "served=adapted"),
        ("tenant=nobody",),
    ],
)
def test_what_is_found_is_what_reading_the_log_gives(world: LedgerWorld, terms: tuple[str, ...]) -> None:
    ledger, wanted = world.ledger, expected(world.ledger, *terms)
    asked = [[term] for term in terms]
    assert ledger.find(asked, newest_first=False, limit=1000) == wanted
    assert ledger.find(asked, limit=1000) == wanted[::-1]
    assert ledger.find(asked, start=6, stop=11, newest_first=False, limit=1000) == [i for i in wanted if 6 <= i < 11]
    assert ledger.find(asked, newest_first=False, limit=2) == wanted[:2]


def test_any_of_several_words(world: LedgerWorld) -> None:
    ledger = world.ledger
    either = sorted(expected(ledger, "status=held") + expected(ledger, "status=active"))
    assert ledger.find([["status=held", "status=active"]], newest_first=False) == either


def test_a_time_is_a_place_in_the_log_also_where_the_clock_ran_backwards(world: LedgerWorld, clock: Clock) -> None:
    before = world.ledger.size
    clock.add(-3600)
    world.record("late")
    last = world.ledger.entry(before - 1).predicate.time
    assert world.ledger.between(last, None)[0] <= before
    assert world.ledger.between(None, last)[1] is None, "what was said to be earlier came later, and is not before"
    assert world.ledger.between("2999-01-01T00:00:00.000000Z", None)[0] == world.ledger.size


def derived(world: LedgerWorld) -> list[tuple[object, ...]]:
    """What lists are answered from, in order."""
    with world.ledger._database.read() as connection:
        return [tuple(row) for table in (schema.events, schema.marks) for row in connection.execute(in_order(table))]


def test_rows_do_not_depend_on_how_events_were_grouped_into_appends(world: LedgerWorld) -> None:
    assert verify(world.ledger).ok
    before = derived(world)
    world.ledger.rebuild()
    assert derived(world) == before
    assert {row[0] for row in before if str(row[0]).startswith("status=")} >= {"status=active", "status=rejected"}


def test_a_stretch_that_several_processes_wrote_says_what_each_of_them_wrote(world: LedgerWorld) -> None:
    with Ledger.open(world.ledger.address, keys=world.keys, checkpoints=world.ledger.checkpoints) as other:
        for number in range(3):
            other.append([world.unadapted(f"01890000-0000-7000-8000-00000000000{number}")])
            world.record(f"beside {number}")
    assert verify(world.ledger).ok
    assert world.ledger.find([["served=unadapted"]], limit=9) == expected(world.ledger, "served=unadapted")[::-1]


def test_words_stand_in_one_order_in_every_process(world: LedgerWorld) -> None:
    entry = next(entry for entry in world.ledger.entries() if isinstance(entry.predicate.body, ChangeRecorded))
    body = entry.predicate.body
    assert isinstance(body, ChangeRecorded)
    gate = body.change.gates[0]
    failing = tuple(gate.model_copy(update={"name": name, "verdict": "fail"}) for name in "hgfedcbah")
    change = body.change.model_copy(update={"gates": failing})
    predicate = entry.predicate.model_copy(update={"body": body.model_copy(update={"change": change})})
    (row,) = marks.rows_of([(entry.index, predicate)], "")
    words = row["terms"].split("\n")
    assert words[-8:] == [f"failed={name}" for name in "abcdefgh"]


@pytest.mark.both_engines
def test_what_is_read_in_one_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    try:
        size = world.ledger.size
        with world.ledger.snapshot():
            assert world.ledger.size == size
            world.ledger.append([world.freeze()])
            assert (world.ledger.size, world.ledger.freezes(standing=True)) == (size, [])
        assert world.ledger.size == size + 1 and len(world.ledger.freezes(standing=True)) == 1
    finally:
        world.close()
