"""A running process signs above nothing but the log that it saw, that its processes signed, and that stands outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import IntegrityError
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.flows.audit import verify
from mass_gov.ledger import outside
from mass_gov.ledger.outside import OutsideCheckpoints
from mass_gov.ledger.schema import metadata
from mass_gov.records.events import ControlFrozen, ModelRegistered
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import BOB, REASON, TEMPLATE, LedgerWorld, digest
from tests.fakes.tamper import editing, tampering

pytestmark = pytest.mark.both_engines

Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A closed home with a change."""
    world = LedgerWorld.make(tmp_path / "home")
    world.record("one")
    world.close()
    return tmp_path / "home"


@contextmanager
def worlds(home: Path, count: int) -> Iterator[list[LedgerWorld]]:
    """As many processes would have the ledger of a home open."""
    with ExitStack() as stack:
        opened = [LedgerWorld.make(home) for _ in range(count)]
        for world in opened:
            stack.callback(world.close)
        yield opened


def freeze(world: LedgerWorld) -> None:
    body = ControlFrozen(extent="deployment", cause="operator", monitor=None, policy=world.policy.digest)
    world.ledger.append([world.draft(body, BOB, REASON)])


def register(world: LedgerWorld, name: str) -> None:
    world.ledger.append(
        [world.draft(ModelRegistered(model=digest(name), prompt_template=TEMPLATE, parameters="1"), BOB)]
    )


def rows_of(home: Path) -> Rows:
    with editing(home) as connection:
        return {t.name: connection.execute(f"SELECT * FROM {t.name}").fetchall() for t in metadata.sorted_tables}


def put_back(home: Path, rows: Rows) -> None:
    with tampering(home) as connection:
        for table in metadata.sorted_tables:
            connection.execute(f"DELETE FROM {table.name}")
            for row in rows[table.name]:
                connection.execute(f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(row))})", row)


@pytest.mark.parametrize("events_after", [1, 3])
def test_what_another_process_wrote_cannot_be_taken_back_under_a_running_one(home: Path, events_after: int) -> None:
    with worlds(home, 1) as (running,):
        register(running, "seen")
        before, size = rows_of(home), running.ledger.size
        with worlds(home, 1) as (other,):
            freeze(other)
        put_back(home, before)
        kept = {path: path.read_bytes() for path in running.ledger.checkpoints.iterdir()}
        for number in range(events_after):
            with pytest.raises(IntegrityError, match=f"older than the checkpoint of size {size + 1}"):
                register(running, f"after {number}")
        assert running.ledger.size == size
        assert {path: path.read_bytes() for path in running.ledger.checkpoints.iterdir()} == kept


def test_a_log_that_goes_on_from_an_older_state_is_not_that_of_whoever_saw_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "SECONDS_BETWEEN", 1e9)  # so that nothing of it stands outside yet
    with worlds(home, 2) as (first, second):
        register(first, "before")
        register(second, "before as well")
        before = rows_of(home)
        register(first, "taken back")
        size = first.ledger.size
        put_back(home, before)
        register(second, "in its place")
        register(second, "and another")
        with pytest.raises(IntegrityError, match=f"another than the one that this process saw at size {size}"):
            register(first, "above a fork")
        assert second.ledger.size == size + 1


def test_nothing_is_signed_above_events_that_nobody_signed(home: Path) -> None:
    """Nor by a process that has just opened: it saw where the log ended."""
    with worlds(home, 1) as (running,):
        frontier = Frontier()
        for entry in running.ledger.entries():
            frontier.append(leaf_hash(entry.leaf))
        before, size = frontier.root(), frontier.size
        nodes = frontier.append(leaf_hash(b"junk"))
        with editing(home) as connection:  # its triggers stand
            row = (size, b"junk", before, frontier.root())
            connection.execute('INSERT INTO log_events ("index", leaf, prev_root, root) VALUES (?, ?, ?, ?)', row)
            connection.executemany("INSERT INTO log_nodes (level, position, hash) VALUES (?, ?, ?)", nodes)
        for _ in range(2):
            with pytest.raises(IntegrityError, match=f"newest signed head is one of {size}"):
                register(running, "above junk")
        assert running.ledger.latest_checkpoint().size == size
        assert running.ledger.outside.newest()[0] == size


def test_writers_that_take_turns_refuse_each_other_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "SECONDS_BETWEEN", 0.0)
    with worlds(home, 2) as both:
        for number in range(12):
            register(both[number % 2], f"model {number}")
    world = LedgerWorld.make(home)
    report = verify(address_of(home), keys=world.keys, checkpoints=world.ledger.checkpoints)
    assert report.ok
    assert world.ledger.outside.newest()[0] == report.size == world.ledger.size
    world.close()


def test_what_others_append_while_a_ledger_is_opened_makes_it_no_older_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their checkpoint outside is of a longer log than the snapshot that was taken before it."""
    monkeypatch.setattr(outside, "SECONDS_BETWEEN", 0.0)
    newest, waiting = OutsideCheckpoints.newest, ["another event"]
    with worlds(home, 1) as (running,):

        def crowded(self: OutsideCheckpoints) -> tuple[int, tuple[bytes, ...]]:
            if waiting:
                register(running, waiting.pop())
            return newest(self)

        monkeypatch.setattr(OutsideCheckpoints, "newest", crowded)
        with worlds(home, 1) as (opened,):
            assert opened.ledger.size == running.ledger.size
        assert not waiting


def test_a_checkpoint_is_not_replaced_by_another_of_its_size(tmp_path: Path) -> None:
    folder = OutsideCheckpoints(tmp_path, lambda step: None)
    folder.offer(7, b"one")
    other = OutsideCheckpoints(tmp_path, lambda step: None)
    with pytest.raises(IntegrityError, match="another head of size 7"):
        other.offer(7, b"two")
    with pytest.raises(IntegrityError, match="two logs of one name"):
        other.retry()
    assert folder.newest() == (7, (b"one",))
    OutsideCheckpoints(tmp_path, lambda step: None).offer(7, b"one")  # the same head is written by whoever comes last


def test_a_change_of_the_folder_is_seen_however_fast_it_follows(tmp_path: Path) -> None:
    folder = OutsideCheckpoints(tmp_path, lambda step: None)
    assert folder.changed()
    for size in range(1, 40):
        OutsideCheckpoints(tmp_path, lambda step: None).offer(size, b"note")
        assert folder.changed()
        assert folder.newest() == (size, (b"note",))
