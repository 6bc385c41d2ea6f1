"""What a ledger tells budgets and windows: every change once, in order, as far as the log of a given size goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.ledger import Ledger, standing
from mass_gov.records.change import SCOPES
from tests.fakes.ledger_world import BOTH_SCOPES, LedgerWorld

pytestmark = pytest.mark.both_engines


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield made
    made.close()


@pytest.mark.parametrize("page", [1, 2, 64])
def test_spending_goes_through_every_page(world: LedgerWorld, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "_PAGE", page)
    changes = [world.record(f"task {number}") for number in range(7)]
    expected = [change.body.identity.recorded_at for change in reversed(changes)]
    ledger = world.ledger
    assert [spent.recorded_at for spent in ledger.spending("acme", ledger.size)] == expected
    assert [spent.recorded_at for spent in ledger.spending("acme", changes[4].index)] == expected[3:]
    assert list(ledger.spending("other", ledger.size)) == []


def test_the_past_is_the_newest_changes_of_the_asked_scopes(world: LedgerWorld) -> None:
    own = [world.record(f"own {number}") for number in range(3)]
    shared = [world.record(f"shared {number}", scope="deployment", step_norm=0.7) for number in range(2)]
    own.append(world.record("last"))

    def past(limit: int, upto: int | None = None, scopes: tuple[str, ...] = SCOPES) -> list[int]:
        found = world.ledger.past("acme", "tutor", limit=limit, upto=upto, scopes=scopes)  # type: ignore[arg-type]
        return [one.index for one in found]

    assert past(50) == [change.index for change in (*own[:3], *shared, own[3])]
    assert past(2) == [shared[1].index, own[3].index]
    assert past(50, upto=shared[0].index) == [change.index for change in (*own[:3], shared[0])]
    assert past(50, scopes=("deployment",)) == [change.index for change in shared]
    assert past(50, scopes=()) == past(0) == []


def test_what_this_process_recorded_is_what_another_reads(world: LedgerWorld) -> None:
    change = world.record("own")
    own = world.ledger
    with Ledger.open(own.address, keys=world.keys, checkpoints=world.folder / "checkpoints") as other:  # reads it
        for ledger in (own, other):
            assert [spent.recorded_at for spent in ledger.spending("acme", ledger.size)] == [
                change.body.identity.recorded_at
            ]
        past = [ledger.past("acme", "tutor", limit=5, upto=None, scopes=SCOPES) for ledger in (own, other)]
        assert past[0] == past[1] and [one.index for one in past[0]] == [change.index]
