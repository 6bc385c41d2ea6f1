"""Opening: the log is replayed where the rows do not add up to what was stored with the last event, and only there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import IntegrityError, RefusedError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.flows.log_export import export_log
from mass_gov.flows.principals import register
from mass_gov.flows.restore import bring_up_to_date
from mass_gov.ledger import Ledger, derived, marks, tally
from mass_gov.ledger.schema import PROJECTIONS
from mass_gov.records.events import Actor, ModelRegistered, SuiteRegistered
from tests.fakes.engines import address_of, copy_home, copy_ledger
from tests.fakes.every_table import fill_every_table
from tests.fakes.ledger_world import BOB, BOTH_SCOPES, SUITE, TEMPLATE, LedgerWorld, digest
from tests.fakes.tamper import editing, tampering

pytestmark = pytest.mark.both_engines

ROOT = Actor(principal="root", role="admin")
"""Whom a filled ledger knows."""
NEWEST = "SELECT tally FROM log_checkpoints ORDER BY size DESC LIMIT 1"


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few events have bits."""
    monkeypatch.setattr(marks, "STRETCH", 2)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One item for each replay of a log by whoever opens a ledger."""
    seen: list[str] = []
    replay = derived._replay

    def noted(*arguments: Any) -> None:
        seen.append("replayed")
        replay(*arguments)

    monkeypatch.setattr(derived, "_replay", noted)
    return seen


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A closed home with a row in every table."""
    world = LedgerWorld.make(tmp_path / "made", BOTH_SCOPES)
    fill_every_table(world)
    world.close()
    yield tmp_path / "made"


def reopen(home: Path, **options: Any) -> Ledger:
    keys = KeyStore.open(home / "keys")
    return Ledger.open(address_of(home), keys=keys, checkpoints=home / "checkpoints", **options)


@contextmanager
def world_in(home: Path, **options: Any) -> Iterator[LedgerWorld]:
    with reopen(home, **options) as ledger:
        yield LedgerWorld(home, ledger, KeyStore.open(home / "keys"), BOTH_SCOPES)


def model(world: LedgerWorld, name: str, actor: Actor = BOB) -> Any:
    return world.draft(ModelRegistered(model=digest(name), prompt_template=TEMPLATE, parameters="1"), actor)


def test_what_was_written_with_the_keys_is_not_replayed(home: Path, replays: list[str]) -> None:
    with editing(home) as connection:
        for table in PROJECTIONS:
            assert connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0] > 0, table.name
    reopen(home).close()
    assert replays == []


def test_a_row_that_somebody_edited_has_the_log_replayed_and_is_named(home: Path, replays: list[str]) -> None:
    for edit, named in (
        ("UPDATE changes SET status = 'applied' WHERE status = 'rejected'", "changes row"),
        ("UPDATE principals SET roles = 'admin' WHERE principal = 'zoe'", "principals row zoe"),
        ("DELETE FROM controls", "controls row"),
        ("INSERT INTO subjects VALUES ('s-ffffffffffffffffffffffffffffffff', NULL, NULL)", "subjects row"),
    ):
        copy = copy_home(home, home.parent / f"edited-{len(replays)}")
        with tampering(copy) as connection:
            connection.execute(edit)
        with pytest.raises(IntegrityError, match=named):
            reopen(copy)
        assert replays.pop() == "replayed"
        replays.append("counted")


@pytest.mark.parametrize("stored", [None, b"", bytes(60), bytes(1000)])
def test_a_sum_that_is_not_believed_costs_a_replay_and_is_stored_with_the_next_event(
    home: Path, replays: list[str], stored: bytes | None
) -> None:
    with tampering(home) as connection:
        connection.execute("UPDATE log_checkpoints SET tally = ?", (stored,))
    reopen(home).close()
    with world_in(home) as world:
        assert len(replays) == 2
        world.ledger.append([model(world, "one", ROOT)])
    reopen(home).close()
    assert len(replays) == 2


def test_a_sum_is_of_one_log_at_one_end(home: Path, replays: list[str]) -> None:
    """The sum of an older end does not vouch for rows that were put back to what they were then."""
    with editing(home) as connection:
        older = connection.execute(NEWEST).fetchone()[0]
    with world_in(home) as world:
        world.ledger.append([model(world, "one", ROOT)])
        size = world.ledger.size
    with tampering(home) as connection:
        connection.execute("DELETE FROM registrations WHERE digest = ?", (digest("one"),))
        connection.execute("UPDATE log_checkpoints SET tally = ? WHERE size = ?", (older, size))
    with pytest.raises(IntegrityError, match=r"registrations row|marks row|events row"):
        reopen(home)
    assert replays == ["replayed"]


def test_writers_that_take_turns_keep_the_sum(tmp_path: Path, replays: list[str]) -> None:
    first = LedgerWorld.make(tmp_path / "home")
    with reopen(tmp_path / "home") as other:
        second = LedgerWorld(first.folder, other, first.keys, first.policy)
        for number in range(4):
            (first if number % 2 else second).record(f"task {number}")
    first.close()
    reopen(tmp_path / "home").close()
    assert replays == []


def test_what_is_refused_within_a_group_is_not_counted(tmp_path: Path, replays: list[str]) -> None:
    reached, go = threading.Event(), threading.Event()

    def trip(step: str) -> None:
        if step == "begin" and armed:
            armed.clear()
            reached.set()
            assert go.wait(30)

    armed: list[int] = []
    lies = SuiteRegistered(suite=SUITE, name="another", cases=1)
    world = LedgerWorld.make(tmp_path / "home", trip=trip)
    armed.append(1)
    with ThreadPoolExecutor(9) as pool:
        leader = pool.submit(world.ledger.append, [model(world, "leader")])
        assert reached.wait(30)
        # Of each pair the second is refused, after its first event was projected.
        pairs = [[model(world, f"m{n}")] for n in range(4)]
        pairs += [[model(world, f"x{n}"), world.draft(lies, BOB, ("suite", b"x"))] for n in range(4)]
        jobs = [pool.submit(world.ledger.append, drafts) for drafts in pairs]
        pause = threading.Event()
        while len(world.ledger._sequencer._waiting) < len(pairs):
            pause.wait(0.01)
        go.set()
        leader.result()
        outcomes = [job.exception() for job in jobs]
    assert outcomes[:4] == [None] * 4
    assert all(outcomes[4:]), outcomes
    world.close()
    reopen(tmp_path / "home").close()
    assert replays == []


def test_a_failed_append_is_not_counted(tmp_path: Path, replays: list[str]) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    change = world.record("held", step_norm=0.7)
    world.ledger.append([world.rejection(change)])
    with pytest.raises(RefusedError):
        world.ledger.append([model(world, "alone"), world.rejection(change)])
    world.record("after")
    world.close()
    reopen(tmp_path / "home").close()
    assert replays == []


def test_rows_that_were_derived_again_add_up(home: Path, replays: list[str]) -> None:
    with tampering(home) as connection:
        connection.execute("DELETE FROM controls")
    with world_in(home, rebuild_first=True) as world:
        world.ledger.append([model(world, "after", ROOT)])
    reopen(home).close()
    assert replays == []


def test_a_restored_ledger_is_replayed_until_its_next_event(tmp_path: Path, replays: list[str]) -> None:
    home = tmp_path / "home"
    world = LedgerWorld.make(home)
    world.record("before")
    world.close()
    copy_ledger(home, tmp_path / "older")
    world = LedgerWorld.make(home)
    world.record("missing")
    export_log(world.ledger, tmp_path / "log.ndjson", artifacts=True)
    world.close()
    copy_ledger(tmp_path / "older", home)
    keys = KeyStore.open(home / "keys")
    bring_up_to_date(address_of(home), keys, home / "checkpoints", tmp_path / "log.ndjson")
    assert replays == ["replayed"]  # by what looks at the whole of it when all is back
    world = LedgerWorld.make(home)
    world.record("next")
    world.close()
    assert len(replays) == 2
    reopen(home).close()
    assert len(replays) == 2


def test_a_false_sum_is_mended_by_the_next_event(tmp_path: Path, replays: list[str]) -> None:
    """A row that was edited while a process ran, and that an event then wrote anew: right again, and counted wrong."""
    home = tmp_path / "home"
    world = LedgerWorld.make(home)
    register(world.ledger, "root", ROOT, roles=["admin"], scopes=[])
    register(world.ledger, "zoe", ROOT, roles=["operator"], scopes=[])
    with tampering(home) as connection:
        connection.execute("UPDATE principals SET scopes = 'instance' WHERE principal = 'zoe'")
    register(world.ledger, "zoe", ROOT, roles=["auditor"], scopes=[])
    world.close()
    with reopen(home) as ledger:
        register(ledger, "mia", ROOT, roles=["auditor"], scopes=[])
    assert replays == ["replayed"]
    reopen(home).close()
    assert replays == ["replayed"]


@pytest.mark.parametrize(("keys", "in_order"), [([1, 2], True), ([2, 1], False), ([1, 1], False), ([1, "2"], False)])
def test_keys_have_to_ascend_and_to_be_of_one_type(keys: list[Any], in_order: bool) -> None:
    assert tally._ascending(keys) is in_order


@pytest.mark.sqlite_only("it writes into a page of the file")
def test_a_row_that_no_look_up_finds_is_no_row(tmp_path: Path, replays: list[str]) -> None:
    home = tmp_path / "home"
    world = LedgerWorld.make(home, BOTH_SCOPES)
    for deployment in ("alpha", "tutor"):
        world.deployment = deployment
        world.record(deployment, scope="deployment")
    world.close()
    with editing(home) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'pointers'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    raw = bytearray((home / "ledger.db").read_bytes())
    at = (page - 1) * size + 8  # the cell pointers of a leaf page: both rows are there, in the wrong order
    assert raw[at - 8] == 0x0A
    raw[at : at + 4] = raw[at + 2 : at + 4] + raw[at : at + 2]
    (home / "ledger.db").write_bytes(raw)
    with pytest.raises(IntegrityError, match="not in PRIMARY KEY order for pointers"):
        reopen(home)
    assert replays == []


def test_an_edit_that_a_process_believed_is_found_by_verify_even_when_it_was_undone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    world = LedgerWorld.make(home)
    register(world.ledger, "root", ROOT, roles=["admin"], scopes=[])
    added = "SELECT 'mallory', \"index\", roles, scopes FROM principals"
    with tampering(home) as connection:
        connection.execute(f'INSERT INTO principals (principal, "index", roles, scopes) {added}')
    register(world.ledger, "mole", Actor(principal="mallory", role="admin"), roles=["admin"], scopes=[])
    with tampering(home) as connection:
        connection.execute("DELETE FROM principals WHERE principal = 'mallory'")
    world.close()
    report = verify(address_of(home), keys=world.keys, checkpoints=home / "checkpoints")
    assert not report.ok and "mallory is not registered as admin" in str(report.first_wrong)


@pytest.mark.sqlite_only("a server's catalogue is its superuser's")
def test_an_index_that_leads_to_no_row_is_found_though_all_rows_add_up(home: Path, replays: list[str]) -> None:
    """It was made for no row, and says that it was made for all."""
    with editing(home) as connection:
        (made,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'changes_by_task'").fetchone()
        connection.execute("DROP INDEX changes_by_task")
        connection.execute(f"{made} WHERE 0")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'changes_by_task'", (made,))
    with pytest.raises(IntegrityError, match="missing from index changes_by_task"):
        reopen(home)
    with pytest.raises(IntegrityError, match="Look-ups would miss some"):
        reopen(home, rebuild_first=True)
    assert replays == []
