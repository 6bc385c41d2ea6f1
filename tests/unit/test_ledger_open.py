"""Opening: every database that must not be written to is refused with a way out, and nothing is written."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mass_gov.errors import (
    IntegrityError,
    KeyUnavailableError,
    LedgerUnavailableError,
    RefusedError,
    SettingsError,
)
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import verify
from mass_gov.ledger import Ledger, Replica
from mass_gov.ledger.engines import open_database
from mass_gov.records.drafts import EventDraft
from tests.fakes.engines import address_of, copy_home, copy_ledger, database_of, forget_ledger
from tests.fakes.ledger_world import ADA, LedgerWorld
from tests.fakes.tamper import editing, tampering

pytestmark = pytest.mark.both_engines


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A closed home with one change."""
    world = LedgerWorld.make(tmp_path / "made")
    world.record("one")
    world.close()
    return tmp_path / "made"


def owner_of(home: Path) -> str | None:
    """As whom a server's schema is made."""
    if not (home / "ledger.url").exists():
        return None
    from tests.fakes.postgres_server import server

    return server().owner_url(database_of(home))


def reopen(home: Path, **options: object) -> Ledger:
    keys = KeyStore.open(home / "keys")
    return Ledger.open(address_of(home), keys=keys, checkpoints=home / "checkpoints", **options)  # type: ignore[arg-type]


def test_a_missing_ledger_says_how_to_make_one(home: Path) -> None:
    forget_ledger(home)
    with pytest.raises(LedgerUnavailableError, match="mass-gov init"):
        reopen(home)
    assert not (home / "ledger.db").exists()


def test_a_deleted_ledger_is_not_quietly_begun_again(home: Path) -> None:
    forget_ledger(home)
    owner = owner_of(home)
    with pytest.raises(IntegrityError, match="older than the checkpoint"):
        reopen(home, create=True, owner=owner)
    assert _events(home) == 0


def test_a_newer_schema_is_left_alone(home: Path) -> None:
    with editing(home) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    before = _events(home)
    for create in (False, True):
        with pytest.raises(LedgerUnavailableError, match=r"newer .* Upgrade mass-gov"):
            reopen(home, create=create)
    assert _events(home) == before


@pytest.mark.sqlite_only("about a file")
def test_a_file_that_is_no_database_is_left_alone(home: Path) -> None:
    (home / "ledger.db").write_bytes(b"my diary, chapter one. " * 100)
    with pytest.raises(LedgerUnavailableError, match="no SQLite database"):
        reopen(home, create=True)
    assert (home / "ledger.db").read_bytes().startswith(b"my diary")


def test_another_programs_database_is_left_alone(home: Path, engine: str) -> None:
    forget_ledger(home)
    with editing(address_of(home)) as connection:
        if engine == "postgresql":
            connection.execute("CREATE SCHEMA mass_gov")
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(LedgerUnavailableError, match="another program's database"):
        reopen(home, create=True)


def test_another_key_store_is_refused(home: Path, tmp_path: Path) -> None:
    keys = KeyStore.open(tmp_path / "other", create=True)
    with pytest.raises(KeyUnavailableError, match="is not the ledger's"):
        Ledger.open(address_of(home), keys=keys, checkpoints=home / "checkpoints")


def test_a_ledger_is_not_made_without_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailableError, match="made with its keys"):
        Ledger.open(tmp_path / "new.db", keys=None, checkpoints=tmp_path / "checkpoints", create=True)
    assert not (tmp_path / "new.db").exists()


def test_an_address_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Ledger.open("mysql://me:secret@db/ledger", keys=None, checkpoints=tmp_path)
    assert "secret" not in str(caught.value)


def test_a_locked_ledger_says_so_after_the_time_out(home: Path, engine: str) -> None:
    ledger = reopen(home, timeout=0.2)
    with editing(home) as other:
        other.execute("BEGIN IMMEDIATE" if engine == "sqlite" else "BEGIN")
        if engine == "postgresql":
            other.execute("SELECT 1 FROM log_head FOR UPDATE")
        world = LedgerWorld.make(home)  # reading goes on beside the lock
        with pytest.raises(LedgerUnavailableError, match="locked by another process"):
            ledger.append(world.change_drafts("two"))
        other.execute("ROLLBACK")
    ledger.append(world.change_drafts("two"))


@pytest.mark.sqlite_only("limits the pages of a file; test_postgres fills a server's disk")
def test_a_full_disk_loses_nothing(home: Path) -> None:
    world = LedgerWorld.make(home)
    before = world.ledger.size
    with (
        world.ledger._database.engine.connect() as connection
    ):  # the limit is the connection's, as a full disk would be
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerUnavailableError, match="disk is full"):
        for number in range(20):
            world.record(f"filling {number}")
    world.close()
    again = LedgerWorld.make(home)
    assert again.ledger.size >= before
    assert again.record("after").status == "applied"


def test_a_database_older_than_its_checkpoint_is_refused(home: Path, tmp_path: Path) -> None:
    copy_ledger(home, tmp_path / "backup")
    world = LedgerWorld.make(home)
    world.record("two")
    world.close()
    copy_ledger(tmp_path / "backup", home)
    notes = {path.name for path in (home / "checkpoints").iterdir()}
    with pytest.raises(IntegrityError, match=r"older than the checkpoint of size 8 .* it has 6 events"):
        reopen(home)
    assert {path.name for path in (home / "checkpoints").iterdir()} == notes


def test_another_history_of_the_same_length_is_refused(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    copy_home(home, other)
    for folder, name in ((home, "this"), (other, "that")):
        world = LedgerWorld.make(folder)
        world.record(name)
        world.close()
    copy_ledger(other, home)
    with pytest.raises(IntegrityError, match="is another than the one"):
        reopen(home)


def test_a_forged_checkpoint_outside_is_refused(home: Path) -> None:
    newest = max((home / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes().replace(b"\n6\n", b"\n5\n"))
    with pytest.raises(IntegrityError, match="does not verify"):
        reopen(home)


def test_a_shorter_log_than_this_process_has_seen_is_refused(home: Path) -> None:
    world = LedgerWorld.make(home)
    world.record("two")
    with tampering(home) as connection:
        for table, column in (("log_events", '"index"'), ("log_checkpoints", "size - 1")):
            connection.execute(f"DELETE FROM {table} WHERE {column} >= 6")
        connection.execute("DELETE FROM log_nodes WHERE (position + 1) << level > 6")
    with pytest.raises(IntegrityError, match="it has 6 events"):
        world.ledger.append(world.furniture())


def test_a_held_change_that_somebody_marked_as_applied_stops_the_opening(home: Path) -> None:
    world = LedgerWorld.make(home)
    held = world.record("held", step_norm=0.7)
    world.close()
    with editing(home) as connection:
        connection.execute("UPDATE changes SET status = 'applied' WHERE change_id = ?", (held.change_id,))
    with pytest.raises(IntegrityError, match=rf"changes row {held.change_id} does not follow .* log rebuild"):
        reopen(home)
    assert reopen(home, rebuild_first=True).change(held.change_id).status == "held"
    reopen(home).close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("INSERT INTO pointers VALUES ('acme', 'tutor', 'x', NULL, 3, 'm')", "pointers row acme, tutor"),
        ("DELETE FROM responses", "responses row"),
        ("UPDATE registrations SET digest = 'x' WHERE kind = 'policy'", "registrations row 1"),
    ],
)
def test_nothing_is_signed_above_rows_that_do_not_follow_from_the_log(home: Path, statement: str, named: str) -> None:
    with editing(home) as connection:
        connection.execute(statement)
    before = _events(home)
    with pytest.raises(IntegrityError, match=named):
        reopen(home)
    assert _events(home) == before
    reopen(home, rebuild_first=True).close()
    reopen(home).close()


@pytest.mark.sqlite_only("SQLite's own names")
def test_a_trigger_under_a_name_of_sqlites_own_stops_the_opening_and_is_named(home: Path) -> None:
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("PRAGMA writable_schema = ON")
        sql = (
            "CREATE TRIGGER sqlite_stat9_evil AFTER INSERT ON changes BEGIN UPDATE changes SET status = 'applied'; END"
        )
        connection.execute(
            "INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_stat9_evil', 'changes', 0, ?)",
            (sql,),
        )
    for rebuild_first in (False, True):
        with pytest.raises(IntegrityError, match="trigger sqlite_stat9_evil"):
            reopen(home, rebuild_first=rebuild_first)
    report = verify(home / "ledger.db", keys=KeyStore.open(home / "keys"), checkpoints=home / "checkpoints")
    assert report.first_wrong is not None
    assert report.first_wrong.where == "trigger sqlite_stat9_evil"


def test_what_analyze_leaves_is_no_alteration(home: Path) -> None:
    with editing(home) as connection:
        connection.execute("ANALYZE")
    reopen(home).close()


def test_an_event_id_that_was_used_twice_is_named(home: Path) -> None:
    with reopen(home) as ledger:
        entries = list(ledger.entries())
        again = replace(
            entries[5], predicate=entries[5].predicate.model_copy(update={"event_id": entries[3].predicate.event_id})
        )
        replica = Replica()
        for entry in entries[:5]:
            replica.apply(entry)
        with pytest.raises(RefusedError, match="id of an earlier event"):
            replica.apply(again)
        replica.apply(entries[5])
        replica.close()


def test_a_checkpoint_folder_that_a_crash_left_behind_is_brought_up_to_date_by_the_next_opening(home: Path) -> None:
    world = LedgerWorld.make(home)
    for number in range(3):
        world.record(f"fast {number}")
    size = world.ledger.size
    note = world.ledger.latest_checkpoint().note
    newest = max((home / "checkpoints").iterdir())
    assert newest.name < f"{size:020d}"  # more than one append within the second, and then nobody closed it
    reopen(home).close()
    assert (home / "checkpoints" / f"{size:020d}.checkpoint").read_bytes() == note


def test_a_head_that_was_taken_away_is_not_signed_over(home: Path) -> None:
    with tampering(home) as connection:
        connection.execute("DELETE FROM log_checkpoints WHERE size = 6")
    with pytest.raises(IntegrityError, match=r"signed head"):
        reopen(home)


def test_an_auditor_reads_and_proves_without_keys(home: Path) -> None:
    with Ledger.open(address_of(home), keys=None, checkpoints=home / "checkpoints") as ledger:
        (change,) = ledger.changes()
        assert ledger.pointer("acme", "tutor").state is None
        with pytest.raises(KeyUnavailableError, match="sealed"):
            ledger.artifact(change.entry, "request")
        with pytest.raises(KeyUnavailableError, match="opened for reading"):
            ledger.append([EventDraft(ADA, "acme", "tutor", change.entry.predicate.body)])


@pytest.mark.sqlite_only("about a folder's permissions")
@pytest.mark.skipif(os.geteuid() != 0, reason="gives its privileges up to meet a folder that it may not write")
def test_a_read_only_folder_can_be_read_and_not_written(home: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "home"
        shutil.copytree(home, folder, ignore=shutil.ignore_patterns("keys", "*-wal", "*-shm"))
        for path in (Path(name), folder, folder / "checkpoints"):
            path.chmod(0o555)
        (folder / "ledger.db").chmod(0o444)
        before = sorted(folder.iterdir())
        assert _as_nobody(_read, folder) == "6"
        assert "read-only" in _as_nobody(_write, folder)
        assert sorted(folder.iterdir()) == before
        Path(name).chmod(0o755)


def _read(folder: Path) -> str:
    with Ledger.open(folder / "ledger.db", keys=None, checkpoints=folder / "checkpoints") as ledger:
        return str(ledger.size)


def _write(folder: Path) -> str:
    with pytest.raises(LedgerUnavailableError) as caught:
        open_database(folder / "ledger.db")
    return str(caught.value)


def _as_nobody(work: Callable[[Path], str], folder: Path) -> str:
    """Run `work` in a child that gave root's privileges up; root may write anywhere."""

    def child(answer: Connection) -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        answer.send(work(folder))

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    process.start()
    there.close()
    answer = here.recv()
    process.join()
    return str(answer)


def _events(home: Path) -> int:
    """How many events stand there; 0 where there is not even a table."""
    with editing(home) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM log_events").fetchone()[0])
        except Exception as error:
            assert "log_events" in str(error)
            return 0
