"""PostgreSQL goes away, fills up or says no: what was acknowledged stands, what was denied does not, nothing twice."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mass_gov.errors import LedgerUnavailableError, RefusedError
from mass_gov.flows.audit import verify
from mass_gov.ledger import Ledger
from tests.fakes import engines
from tests.fakes.ledger_world import LedgerWorld
from tests.fakes.tamper import editing

psycopg = pytest.importorskip("psycopg", reason="PostgreSQL is not tested: psycopg is not installed")
BACKENDS = "SELECT pid, state FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user"


@pytest.fixture(autouse=True)
def on_postgresql(engine: str) -> Iterator[None]:
    if why := engines.missing():
        pytest.skip(f"PostgreSQL is not tested: {why}")
    with engines.using("postgresql"):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A closed home with one change."""
    world = LedgerWorld.make(tmp_path / "home")
    world.record("one")
    world.close()
    return tmp_path / "home"


def check(home: Path) -> int:
    world = LedgerWorld.make(home)
    report = verify(world.ledger)
    world.close()
    assert report.ok, report.first_wrong
    return report.size


def at(wanted: str, act: Callable[[], None]) -> Callable[[str], None]:
    """A trip that acts once at a step, when it is armed."""
    left = [1]

    def trip(step: str) -> None:
        if step == wanted and armed[0] and left[0]:
            left[0] -= 1
            act()

    armed = [False]
    trip.arm = lambda: armed.__setitem__(0, True)  # type: ignore[attr-defined]
    return trip


@pytest.mark.parametrize("step", ["begin", "artifacts", "projections", "events", "checkpoint"])
def test_a_connection_lost_before_the_commit_wrote_nothing_and_the_next_append_works(home: Path, step: str) -> None:
    def cut() -> None:
        with editing(home) as superuser:
            superuser.execute(f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS others")

    trip = at(step, cut)
    world = LedgerWorld.make(home, trip=trip)
    before = world.ledger.size
    trip.arm()  # type: ignore[attr-defined]
    with pytest.raises(LedgerUnavailableError, match="nothing was written"):
        world.record("two")
    assert world.ledger.size == before
    world.record("two")
    world.close()
    assert check(home) == before + 2


def test_a_connection_lost_between_two_appends_is_replaced_and_nobody_is_refused(home: Path) -> None:
    world = LedgerWorld.make(home)
    before = world.ledger.size
    world.record("two")
    drafts = world.change_drafts("three")
    with editing(home) as superuser:
        superuser.execute(f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS others")
    world.ledger.append(drafts)  # the first that this process does on the connection that its writer kept
    world.close()
    assert check(home) == before + 4


def test_a_connection_lost_between_two_reads_is_replaced_and_each_read_sees_what_is_there_by_then(home: Path) -> None:
    world = LedgerWorld.make(home)
    before = world.ledger.size
    with world.ledger.snapshot():
        pass  # nothing was read, and the next one is to see more all the same
    world.record("two")
    assert world.ledger.size == before + 2
    with editing(home) as superuser:
        idle = superuser.execute(f"SELECT state FROM ({BACKENDS}) AS others").fetchall()
        assert {row[0] for row in idle} == {"idle"}, "a snapshot that is left open keeps the server from cleaning up"
        superuser.execute(f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS others")
    assert world.ledger.size == before + 2
    world.close()


@pytest.fixture
def line(home: Path) -> Iterator[tuple[LedgerWorld, object]]:
    """A world whose connection goes through a line that can break."""
    from tests.fakes.lossy_line import LossyLine

    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        url = engines.address_of(home).url
        broken = LossyLine(url, Path(folder))
        (home / "ledger.url").write_text(broken.url)
        world = LedgerWorld.make(home, timeout=3.0)
        yield world, broken
        world.close()
        (home / "ledger.url").write_text(url)
        broken.close()


def test_a_commit_whose_answer_was_lost_is_acknowledged_once_it_is_found_in_the_log(home: Path, line: tuple) -> None:  # type: ignore[type-arg]
    world, broken = line
    drafts, before = world.change_drafts("two"), world.ledger.size
    broken.break_next("after")
    entries = world.ledger.append(drafts)
    assert broken.losses == 1
    assert [entry.index for entry in entries] == [before, before + 1]
    with pytest.raises(RefusedError, match="recorded change already"):
        world.record("two")
    assert world.ledger.size == before + 2
    world.close()
    assert check(home) == before + 2


def test_a_commit_that_never_arrived_is_denied_and_can_be_asked_again(home: Path, line: tuple) -> None:  # type: ignore[type-arg]
    world, broken = line
    before = world.ledger.size
    broken.break_next("before")
    with pytest.raises(LedgerUnavailableError, match="nothing was written"):
        world.record("two")
    assert broken.losses == 1
    assert world.ledger.size == before
    world.record("two")
    world.close()
    assert check(home) == before + 2


def test_a_commit_that_nobody_can_be_asked_about_is_neither_acknowledged_nor_denied(home: Path, line: tuple) -> None:  # type: ignore[type-arg]
    world, broken = line
    before = world.ledger.size
    broken.break_next("after", stay_down=True)
    with pytest.raises(LedgerUnavailableError, match="not known"):
        world.record("two")
    broken.mend()
    assert world.ledger.size == before + 2  # here it had come through: asking again is refused, not doubled
    with pytest.raises(RefusedError, match="recorded change already"):
        world.record("two")
    world.close()
    assert check(home) == before + 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_commit_without_an_event_is_not_said_to_have_come_through(line: tuple, moment: str) -> None:  # type: ignore[type-arg]
    """The event that stood there before says nothing about it."""
    world, broken = line
    now = world.ledger.now()
    broken.break_next(moment)
    with pytest.raises(LedgerUnavailableError, match="not known"):
        world.ledger.replies.claim("bob", "k", "digest", now)
    again = world.ledger.replies.claim("bob", "k", "digest", now)
    assert again == ("claimed" if moment == "before" else "under way")


def test_a_server_that_crashes_in_the_middle_of_an_append_recovers_without_it(home: Path) -> None:
    from tests.fakes.postgres_server import server

    if not server().is_own:
        pytest.skip("kills a process of the server, which is not this run's own")

    def crash() -> None:
        with editing(home) as superuser:
            pids = [pid for pid, state in superuser.execute(BACKENDS).fetchall() if state == "idle in transaction"]
        os.kill(pids[0], signal.SIGKILL)  # the server ends all others and recovers from its write-ahead log

    trip = at("checkpoint", crash)
    world = LedgerWorld.make(home, trip=trip)
    before = world.ledger.size
    trip.arm()  # type: ignore[attr-defined]
    with pytest.raises(LedgerUnavailableError):
        world.record("two")
    deadline = time.monotonic() + 60
    while True:
        try:
            assert world.ledger.size == before
            break
        except LedgerUnavailableError:  # "the database system is in recovery mode"
            assert time.monotonic() < deadline
            time.sleep(0.1)
    world.record("two")
    world.close()
    assert check(home) == before + 2


def test_a_full_disk_loses_nothing(home: Path) -> None:
    world = LedgerWorld.make(home)
    before = world.ledger.size
    with editing(home) as superuser:  # the server's own words and SQLSTATE where a file cannot be extended
        superuser.execute(
            "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        superuser.execute("CREATE TRIGGER no_space BEFORE INSERT ON responses EXECUTE FUNCTION public.full()")
    with pytest.raises(LedgerUnavailableError, match=r"disk is full\. Free some space"):
        world.record("two")
    assert world.ledger.size == before
    with editing(home) as superuser:
        superuser.execute("DROP TRIGGER no_space ON responses")
    assert world.record("two").status == "applied"
    world.close()
    assert check(home) == before + 2


def test_a_read_only_database_can_be_read_and_not_written(home: Path) -> None:
    with editing(home) as superuser:
        superuser.execute(f"ALTER DATABASE {engines.database_of(home)} SET default_transaction_read_only = on")
    with Ledger.open(engines.address_of(home), keys=None, checkpoints=home / "checkpoints") as reader:
        assert reader.size == 6
    world = LedgerWorld.make(home)
    with pytest.raises(LedgerUnavailableError, match="read-only"):
        world.record("two")
    assert world.ledger.size == 6
    world.close()


def test_an_auditors_connection_cannot_write_even_if_it_tries(home: Path) -> None:
    with (
        Ledger.open(engines.address_of(home), keys=None, checkpoints=home / "checkpoints") as reader,
        reader._database.engine.connect() as connection,
        pytest.raises(Exception, match="read-only transaction"),
    ):
        connection.exec_driver_sql("DELETE FROM responses")


def test_a_server_that_is_not_there_is_an_outage_without_the_password(home: Path, tmp_path: Path) -> None:
    from tests.fakes.postgres_server import PASSWORD

    address = f"postgresql://app:{PASSWORD}@localhost:1/ledger"
    with pytest.raises(
        LedgerUnavailableError, match=r"postgresql://app@localhost:1/ledger cannot be reached"
    ) as caught:
        Ledger.open(address, keys=None, checkpoints=tmp_path)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert PASSWORD not in f"{seen} {seen!r}"
        seen = seen.__cause__


def test_a_table_that_is_gone_ends_its_own_reading_and_not_that_of_the_others(home: Path) -> None:
    with editing(home) as superuser:
        superuser.execute("ALTER TABLE responses RENAME TO elsewhere")
    report = verify(engines.address_of(home), checkpoints=home / "checkpoints")
    wrong = {step.number for step in report.steps if step.verdict == "wrong"}
    assert wrong == {1, 8}, [fault for step in report.steps for fault in step.faults]
    assert report.steps[2].checked == report.steps[3].checked == 6
