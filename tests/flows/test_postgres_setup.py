"""Setting PostgreSQL up: two roles, one schema, and a password that nobody ever sees. Denial first."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command as alembic
from alembic.config import Config

from mass_gov.cli import examination
from mass_gov.cli.main import run
from mass_gov.config_data import data_folder
from mass_gov.errors import LedgerUnavailableError, MissingExtraError, SettingsError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger import Address, Ledger
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.postgres import check_server
from mass_gov.ledger.privileges import APPEND
from tests.fakes import engines
from tests.fakes.ledger_world import LedgerWorld
from tests.fakes.tamper import editing


@pytest.fixture(autouse=True)
def on_postgresql(engine: str) -> Iterator[None]:
    if why := engines.missing():
        pytest.skip(f"PostgreSQL is not tested: {why}")
    with engines.using("postgresql"):
        yield


@pytest.fixture
def server() -> Any:
    from tests.fakes.postgres_server import server

    return server()


@pytest.fixture
def database(server: Any) -> Iterator[str]:
    """A database with nothing in it."""
    name = server.new_database()
    yield name
    server.drop(name)


def opened(where: str, home: Path, **options: Any) -> Ledger:
    keys = KeyStore.open(home / "keys", create=True)
    return Ledger.open(where, keys=keys, checkpoints=home / "checkpoints", create=True, **options)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("postgresql://app:hush@db.example:5433/ledger?sslmode=require", "postgresql://app@db.example:5433/ledger"),
        ("postgres://app:hush@db/ledger", "postgresql://app@db/ledger"),
        ("postgresql://app:hu@sh:x@db/ledger", "postgresql://app@db/ledger"),
        ("postgresql:///ledger?host=/run/pg&user=app&password=hush", "postgresql://app@run%2Fpg/ledger"),
        ("postgresql://[::1", "postgresql://(unreadable)"),
    ],
)
def test_an_address_prints_without_its_password(address: str, name: str) -> None:
    for shown in (str(Address.of(address)), repr(Address.of(address)), f"{Address.of(address)}"):
        assert name in shown
        assert "hush" not in shown and "sh:x" not in shown


@pytest.mark.parametrize("address", ["mysql://me:hush@db/ledger", "sqlite:///", "", "http://me:hush@x"])
def test_what_is_no_address_is_refused_without_repeating_a_password(address: str) -> None:
    with pytest.raises(SettingsError, match="is no ledger address") as caught:
        Address.of(address)
    assert "hush" not in str(caught.value)


def test_an_address_that_the_driver_cannot_read_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read as a PostgreSQL address") as caught:
        Ledger.open("postgresql://app:hush@db/ledger?no_such_option=hush", keys=None, checkpoints=tmp_path)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mass-gov\[postgres\]'"):
        Ledger.open("postgresql://app@db/ledger", keys=None, checkpoints=tmp_path)


def test_an_old_server_is_refused() -> None:
    address = Address.of("postgresql://app@db/ledger")
    with pytest.raises(LedgerUnavailableError, match="runs PostgreSQL 14, and a ledger needs 15 or newer"):
        check_server(140011, address)
    check_server(150000, address)


def test_a_database_of_another_encoding_is_refused(server: Any, tmp_path: Path) -> None:
    server.execute("CREATE DATABASE mg_latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        with pytest.raises(LedgerUnavailableError, match="not encoded in UTF8"):
            Ledger.open(server.url("mg_latin"), keys=None, checkpoints=tmp_path)
    finally:
        server.drop("mg_latin")


def test_a_database_that_is_not_there_is_an_outage(server: Any, tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailableError, match="does not exist"):
        Ledger.open(server.url("mg_no_such"), keys=None, checkpoints=tmp_path)


def test_the_application_alone_cannot_make_a_schema_in_a_database_that_is_not_its_own(
    server: Any, database: str, tmp_path: Path
) -> None:
    with pytest.raises(LedgerUnavailableError, match="MASS_GOV_DATABASE_OWNER_URL"):
        opened(server.url(database), tmp_path)
    with opened(server.url(database), tmp_path, owner=server.owner_url(database)) as ledger:
        assert ledger.size == 1
    with opened(server.url(database), tmp_path) as ledger:  # from now on it needs no owner
        assert ledger.size == 1


def test_who_owns_the_database_makes_the_schema_without_a_second_address(
    server: Any, database: str, tmp_path: Path
) -> None:
    with opened(server.owner_url(database), tmp_path) as ledger:
        assert ledger.size == 1


def test_a_privilege_that_was_taken_away_is_named_and_given_back_by_init(
    server: Any, database: str, tmp_path: Path
) -> None:
    opened(server.url(database), tmp_path, owner=server.owner_url(database)).close()
    with editing(Address.of(server.url(database))) as superuser:
        superuser.execute(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mass_gov FROM {server.role}")
    world = LedgerWorld(tmp_path, opened(server.url(database), tmp_path), KeyStore.open(tmp_path / "keys"), None)  # type: ignore[arg-type]
    with pytest.raises(LedgerUnavailableError, match="permission denied for function lock_head"):
        world.ledger.append([world.ledger._opening()])
    world.close()
    with opened(server.url(database), tmp_path, owner=server.owner_url(database)) as ledger:
        assert ledger.rebuild() == 1


def test_a_file_has_no_owner(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a file and has no owner"):
        opened(str(tmp_path / "ledger.db"), tmp_path, owner="postgresql://owner@db/ledger")


@pytest.fixture
def command(
    server: Any, database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Any:
    """Run a command with the ledger on the server; returns (exit status, stdout and stderr)."""
    monkeypatch.setenv("MASS_GOV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MASS_GOV_DATABASE_URL", server.url(database))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(examination, "find_spec", lambda name: None)  # an auditor's install: doctor loads no torch

    def command(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        status = run(list(words))
        said = capfd.readouterr()
        return status, said.out + said.err

    return command


def test_every_command_finds_the_ledger_on_the_server_and_none_shows_the_password(
    server: Any, database: str, command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.fakes.postgres_server import PASSWORD

    said = []
    for words, wanted in (
        (("verify",), 2),  # there is no ledger yet
        (("doctor",), 0),
        (("init",), 6),  # not without the owner
    ):
        status, text = command(*words)
        assert status == wanted, text
        said.append(text)
    monkeypatch.setenv("MASS_GOV_DATABASE_OWNER_URL", server.owner_url(database))
    status, text = command("init")
    assert status == 0, text
    monkeypatch.delenv("MASS_GOV_DATABASE_OWNER_URL")
    for words in (
        ("verify",),
        ("verify", "--json"),
        ("log", "checkpoint"),
        ("log", "prove", "1"),
        ("log", "rebuild"),
        ("changes", "list"),
        ("pointers", "show"),
        ("init", "--json"),
    ):
        status, text = command(*words)
        assert status == 0, text
        said.append(text)
    assert not (tmp_path / "home" / "ledger.sqlite3").exists()
    assert PASSWORD not in "".join(said)


def test_doctor_says_where_a_power_cut_would_take_acknowledged_events(
    server: Any, database: str, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASS_GOV_DATABASE_OWNER_URL", server.owner_url(database))
    command("init")
    if not server.is_own:
        pytest.skip("turns fsync of the server on and off, which is not this run's own")
    status, text = command("doctor", "--json")
    (finding,) = [
        check for check in json.loads(text)["checks"] if check["name"] == "durability" and "fsync" in check["detail"]
    ]
    assert (status, finding["verdict"]) == (1, "problem")


def test_a_commit_is_never_asynchronous_whatever_the_role_is_set_to(server: Any, database: str, tmp_path: Path) -> None:
    server.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
    with opened(server.url(database), tmp_path, owner=server.owner_url(database)) as ledger:
        assert not any("synchronous_commit" in fault for fault in ledger.durability_faults())


def test_an_owner_who_brings_a_schema_up_leaves_the_application_its_right_to_append(
    server: Any, database: str, tmp_path: Path
) -> None:
    """Also without naming the application: any command that writes does it, where the owner runs it."""
    owner = open_database(server.owner_url(database))
    with owner.write() as connection:
        connection.exec_driver_sql("CREATE SCHEMA mass_gov")
        config = Config()
        config.set_main_option("script_location", str(data_folder("migrations")))
        config.attributes["connection"] = connection
        alembic.upgrade(config, "0007")
        older = f"append({', '.join(APPEND[0].removeprefix('append(').rstrip(')').split(', ')[:-1])})"
        connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION mass_gov.{older} TO {server.role}")
    owner.close()
    opened(server.owner_url(database), tmp_path / "home").close()
    with editing(Address.of(server.owner_url(database))) as thief:
        may = "SELECT has_function_privilege(?, ?, 'execute')"
        assert thief.execute(may, (server.role, f"mass_gov.{APPEND[0]}")).fetchone()[0]
        assert not thief.execute(may, ("public", f"mass_gov.{APPEND[0]}")).fetchone()[0]
