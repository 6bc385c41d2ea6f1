"""Back-ups and after: an older database takes back what it lacks or goes no further, and a log can be succeeded."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.config import load_settings
from mass_gov.errors import (
    InputError,
    IntegrityError,
    LedgerUnavailableError,
    MassGovError,
    NotRetainedError,
    RefusedError,
    SettingsError,
)
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.flows.erase import erase
from mass_gov.flows.log_export import export_log
from mass_gov.flows.restore import back_up, bring_up_to_date
from mass_gov.flows.retention import discard
from mass_gov.flows.succession import STEPS, sealed_note, succeed
from mass_gov.ledger import Address, Ledger
from mass_gov.ledger.restoring import STEPS as TAKE_STEPS
from mass_gov.records.events import LogOpened
from tests.fakes.engines import address_of, copy_ledger, database_of, forget_ledger
from tests.fakes.ledger_world import BOB, BOTH_SCOPES, LedgerWorld
from tests.flows.test_ledger_crash import in_child, kill_at

PERSON = "s-" + "a" * 32
both_engines = pytest.mark.both_engines


def restored(tmp_path: Path, *, artifacts: bool = True) -> tuple[Path, Path]:
    """A home whose database is older than its checkpoints, and an export of what it was."""
    home = tmp_path / "home"
    world = LedgerWorld.make(home, BOTH_SCOPES)
    world.record("kept", scope="deployment")
    world.close()
    copy_ledger(home, tmp_path / "older")
    world = LedgerWorld.make(home, BOTH_SCOPES)
    world.record("lost", scope="deployment", subject=PERSON)
    world.record("lost too")
    export_log(world.ledger, tmp_path / "log.ndjson", artifacts=artifacts)
    world.close()
    copy_ledger(tmp_path / "older", home)
    return home, tmp_path / "log.ndjson"


def report(home: Path) -> VerificationReport:
    return verify(address_of(home), keys=KeyStore.open(home / "keys"), checkpoints=home / "checkpoints")


def take(home: Path, export: Path, *, without_artifacts: bool = False) -> tuple[int, int]:
    keys = KeyStore.open(home / "keys")
    done = bring_up_to_date(address_of(home), keys, home / "checkpoints", export, without_artifacts=without_artifacts)
    return done.before, done.after


@both_engines
def test_an_older_database_goes_no_further_until_the_missing_events_are_back(tmp_path: Path) -> None:
    home, export = restored(tmp_path)
    with pytest.raises(IntegrityError, match="older than the checkpoint"):
        LedgerWorld.make(home, BOTH_SCOPES)
    before, after = take(home, export)
    assert (before, after) == (7, 12)
    world = LedgerWorld.make(home, BOTH_SCOPES)
    export_log(world.ledger, tmp_path / "again.ndjson", artifacts=True)
    assert (tmp_path / "again.ndjson").read_bytes() == export.read_bytes(), "to the byte what it was"
    world.record("after")
    world.close()
    assert report(home).ok


@both_engines
def test_artifacts_that_did_not_come_along_are_refused_unless_they_are_given_up(tmp_path: Path) -> None:
    home, export = restored(tmp_path, artifacts=False)
    with pytest.raises(InputError, match="--without-artifacts"):
        take(home, export)
    with pytest.raises(IntegrityError, match="older than the checkpoint"):
        LedgerWorld.make(home, BOTH_SCOPES)
    assert take(home, export, without_artifacts=True) == (7, 12)
    found = report(home)
    assert not found.ok and found.first_wrong is not None
    assert (found.first_wrong.step, found.first_wrong.index) == (7, 7) and "missing" in found.first_wrong.what


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-3]


def without_its_end(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def other_leaf(lines: list[bytes]) -> list[bytes]:
    return [*lines[:8], lines[8].replace(b'"payload":"', b'"payload":"A', 1), *lines[9:]]


def other_artifact(lines: list[bytes]) -> list[bytes]:
    head, _, tail = lines[7].partition(b'":"')
    return [*lines[:7], head + b'":"AAAA' + tail[4:], *lines[8:]]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:8], lines[9], lines[8], *lines[10:]]


@both_engines
@pytest.mark.parametrize("spoil", [cut, without_its_end, other_leaf, other_artifact, swapped])
def test_a_spoiled_export_changes_nothing(tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]]) -> None:
    home, export = restored(tmp_path)
    export.write_bytes(b"".join(spoil(export.read_bytes().splitlines(keepends=True))))
    with pytest.raises(MassGovError):
        take(home, export)
    with pytest.raises(IntegrityError, match="it has 7 events"):
        LedgerWorld.make(home, BOTH_SCOPES)


@both_engines
def test_an_export_of_another_log_or_of_an_older_time_is_refused(tmp_path: Path) -> None:
    home, _ = restored(tmp_path)
    other = LedgerWorld.make(tmp_path / "other", BOTH_SCOPES)
    for number in range(4):
        other.record(f"other {number}", scope="deployment")
    export_log(other.ledger, tmp_path / "other.ndjson", artifacts=True)
    other.close()
    with pytest.raises(IntegrityError, match="not those of this database"):
        take(home, tmp_path / "other.ndjson")
    with Ledger.open(address_of(tmp_path / "older"), keys=None, checkpoints=tmp_path / "none") as older:
        export_log(older, tmp_path / "older.ndjson", artifacts=True)
    with pytest.raises(IntegrityError, match="export ends at 7 events, and a checkpoint of size 12"):
        take(home, tmp_path / "older.ndjson")


@both_engines
def test_an_erasure_comes_back_with_the_events_and_nobody_else_does(tmp_path: Path) -> None:
    home = tmp_path / "home"
    world = LedgerWorld.make(home, BOTH_SCOPES)
    own = world.record("own", scope="deployment", subject=PERSON)
    world.close()
    copy_ledger(home, tmp_path / "older")
    shutil.copytree(home / "keys", tmp_path / "older-keys")
    world = LedgerWorld.make(home, BOTH_SCOPES)
    done = erase(world.ledger, PERSON, BOB, "asked")
    export_log(world.ledger, tmp_path / "log.ndjson", artifacts=True)
    world.close()
    copy_ledger(tmp_path / "older", home)
    shutil.rmtree(home / "keys")
    shutil.copytree(tmp_path / "older-keys", home / "keys")  # the worst case: both restored from before the erasure
    take(home, tmp_path / "log.ndjson")
    world = LedgerWorld.make(home, BOTH_SCOPES)
    assert world.ledger.subject(PERSON).erased_index == done.index
    assert not world.keys.holds_key(PERSON)
    with pytest.raises(NotRetainedError):
        world.ledger.artifact(own.entry, "request")
    world.close()
    assert report(home).ok


def take_and_die(home: Path, export: Path, step: str) -> None:
    keys = KeyStore.open(home / "keys")
    bring_up_to_date(address_of(home), keys, home / "checkpoints", export, trip=kill_at(step))


@both_engines
@pytest.mark.parametrize("step", TAKE_STEPS)
def test_a_kill_while_events_come_back_leaves_all_of_them_or_none(tmp_path: Path, step: str) -> None:
    home, export = restored(tmp_path)
    child = in_child(take_and_die, home, export, step)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    if step != "committed":
        with pytest.raises(IntegrityError, match="it has 7 events"):
            LedgerWorld.make(home, BOTH_SCOPES)
    assert take(home, export) == ((12, 12) if step == "committed" else (7, 12))
    assert report(home).ok


def test_a_back_up_is_a_whole_ledger_and_overwrites_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    world = LedgerWorld.make(home, BOTH_SCOPES)
    world.record("one")
    back_up(home / "ledger.db", tmp_path / "copy.sqlite3")  # while it is open and being written
    world.record("two")
    world.close()
    with pytest.raises(InputError, match="overwrites nothing"):
        back_up(home / "ledger.db", tmp_path / "copy.sqlite3")
    with pytest.raises(LedgerUnavailableError, match="no ledger"):
        back_up(home / "none.db", tmp_path / "other.sqlite3")
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy.sqlite3"]
    assert verify(tmp_path / "copy.sqlite3", keys=KeyStore.open(home / "keys")).ok
    with sqlite3.connect(tmp_path / "copy.sqlite3") as copy:
        assert copy.execute("SELECT count(*) FROM log_events").fetchone() == (6,)


def test_a_log_that_cannot_be_continued_is_sealed_and_succeeded(tmp_path: Path) -> None:
    home, _ = restored(tmp_path)
    keys = KeyStore.open(home / "keys")
    done = succeed(home / "ledger.db", keys, home / "checkpoints")
    assert done.predecessor.size == 12 and done.origin != done.predecessor.origin
    world = LedgerWorld.make(home, BOTH_SCOPES)
    opened = world.ledger.entry(0).predicate.body
    assert isinstance(opened, LogOpened) and opened.predecessor == done.predecessor
    world.record("after")
    world.close()
    found = report(home)
    assert found.ok, found.first_wrong
    assert any(done.predecessor.origin in warning and "12" in warning for warning in found.warnings)
    assert sealed_note(home / "checkpoints", done.predecessor)
    assert done.sealed_file is not None and not done.sealed_file.stat().st_mode & 0o222
    assert verify(done.sealed_file, keys=keys).size == 7, "the old database is kept as it was"
    again = succeed(home / "ledger.db", keys, home / "checkpoints")
    assert again.predecessor.origin == done.origin, "a successor can be succeeded too"


def test_a_sealed_head_that_was_swapped_is_a_fault(tmp_path: Path) -> None:
    home, _ = restored(tmp_path)
    done = succeed(home / "ledger.db", KeyStore.open(home / "keys"), home / "checkpoints")
    (kept,) = [
        path for path in (home / "checkpoints").iterdir() if path.name.startswith(f"{done.predecessor.size:020d}")
    ]
    note = kept.read_bytes()
    kept.write_bytes(note.replace(b"\n12\n", b"\n13\n"))
    found = report(home)
    assert not found.ok and found.first_wrong is not None and found.first_wrong.step == 6
    kept.unlink()
    found = report(home)
    assert found.ok and any(done.predecessor.origin in what for what in found.not_checked)


def succeed_and_die(home: Path, step: str) -> None:
    succeed(home / "ledger.db", KeyStore.open(home / "keys"), home / "checkpoints", trip=kill_at(step))


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_while_a_log_is_succeeded_leaves_what_the_same_command_finishes(tmp_path: Path, step: str) -> None:
    home, _ = restored(tmp_path)
    child = in_child(succeed_and_die, home, step)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    if step != "heads sealed":
        with pytest.raises(IntegrityError):  # neither the old nor the new one goes on, and `init` makes no third
            LedgerWorld.make(home, BOTH_SCOPES)
    done = succeed(home / "ledger.db", KeyStore.open(home / "keys"), home / "checkpoints")
    assert done.predecessor.size == 12
    world = LedgerWorld.make(home, BOTH_SCOPES)
    world.record("after")
    world.close()
    assert report(home).ok
    assert sorted(path.name for path in home.iterdir() if "successor" in path.name) == []


def owner_of(home: Path) -> Address | None:
    """On a server, the owner's address of a home's database."""
    if not (home / "ledger.url").exists():
        return None
    from tests.fakes.postgres_server import server

    return Address.of(server().owner_url(database_of(home)))


@both_engines
def test_a_database_that_is_gone_can_be_succeeded_by_its_checkpoints_alone(tmp_path: Path) -> None:
    home, _ = restored(tmp_path)
    forget_ledger(home)
    keys = KeyStore.open(home / "keys")
    done = succeed(address_of(home), keys, home / "checkpoints", owner=owner_of(home))
    assert (done.predecessor.size, done.sealed_file) == (12, None)
    assert succeed(address_of(home), keys, home / "checkpoints") == done, "it holds nothing that could be sealed"
    LedgerWorld.make(home, BOTH_SCOPES).close()
    found = report(home)
    assert found.ok and any(done.predecessor.origin in warning for warning in found.warnings)


@both_engines
def test_a_server_that_holds_a_log_is_not_begun_anew(tmp_path: Path, engine: str) -> None:
    home, _ = restored(tmp_path)
    if engine == "postgresql":
        with pytest.raises(InputError, match="holds a log already"):
            succeed(address_of(home), KeyStore.open(home / "keys"), home / "checkpoints")
    with pytest.raises(IntegrityError, match="it has 7 events"):
        LedgerWorld.make(home, BOTH_SCOPES)


def names(home: Path) -> list[str]:
    """Files of a home, without SQLite's own beside its database."""
    return sorted(path.name for path in home.iterdir() if not path.name.endswith(("-wal", "-shm")))


def test_without_a_head_that_these_keys_signed_there_is_nothing_to_succeed(tmp_path: Path) -> None:
    home, _ = restored(tmp_path)
    strangers = KeyStore.open(tmp_path / "strangers", create=True)
    before = names(home)
    with pytest.raises(IntegrityError, match="verifies under this key store"):
        succeed(home / "ledger.db", strangers, home / "checkpoints")
    assert names(home) == before


def test_nothing_is_dropped_before_its_time_and_of_a_log_that_goes_on_nothing_ever(tmp_path: Path) -> None:
    home, _ = restored(tmp_path)
    now = dt.datetime.now(dt.UTC)
    with pytest.raises(InputError, match="never dropped"):
        discard(home / "ledger.db", 184, now + dt.timedelta(days=10_000))
    done = succeed(home / "ledger.db", KeyStore.open(home / "keys"), home / "checkpoints")
    assert done.sealed_file is not None
    with pytest.raises(RefusedError, match="MASS_GOV_RETENTION_DAYS"):
        discard(done.sealed_file, 184, now + dt.timedelta(days=183))
    assert done.sealed_file.is_file()
    assert discard(done.sealed_file, 184, now + dt.timedelta(days=185)) < now + dt.timedelta(days=185)
    assert not done.sealed_file.exists()
    with pytest.raises(SettingsError, match="RETENTION"):
        load_settings(retention_days=30)
    with sqlite3.connect(home / "ledger.db") as connection, pytest.raises(sqlite3.DatabaseError, match="append-only"):
        connection.execute("DELETE FROM log_events")
