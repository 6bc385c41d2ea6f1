"""The schema: which revision a database has, and how it gets to the newest one.

Rules: migrations run under the write lock and in the transaction of whoever opens the ledger, so that two processes
never migrate at once and a crash leaves the old schema whole. A revision that this program does not know is newer, and
is not touched. Alembic is imported only when something is to be migrated.
"""

from __future__ import annotations

import sqlite3
import threading
from functools import cache

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import StaticPool

from mass_gov.config_data import data_folder
from mass_gov.errors import LedgerUnavailableError, SettingsError
from mass_gov.ledger.address import Address
from mass_gov.ledger.database import Database
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.notebook import scratch_database
from mass_gov.ledger.privileges import grant_application
from mass_gov.ledger.schema import OLDER_REVISIONS, POSTGRES_SCHEMA, SCHEMA_HEAD

_TEMPLATE_LOCK = threading.Lock()
_HAS_EVENT = text("SELECT EXISTS (SELECT 1 FROM log_events)")
_HAS_SCHEMA = text("SELECT to_regnamespace(:name) IS NOT NULL")


def revision_of(connection: Connection) -> str | None:
    """Return the schema revision, None for an empty database.

    Raises:
        LedgerUnavailableError: another program's database.
    """
    tables = inspect(connection).get_table_names(schema=_namespace(connection))
    if "alembic_version" not in tables:
        if tables:
            raise LedgerUnavailableError(
                "This is another program's database, not a ledger. Set MASS_GOV_HOME to a folder of its own, or "
                "MASS_GOV_DATABASE_URL to a database of its own."
            )
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def check_revision(revision: str | None, where: Address) -> None:
    """Refuse a schema that this program does not write.

    Raises:
        LedgerUnavailableError: of a newer schema, of an older one, or of none.
    """
    if revision is None:
        raise LedgerUnavailableError(f"{where} holds no ledger yet. Run `mass-gov init` to make one.")
    if revision in OLDER_REVISIONS:
        raise LedgerUnavailableError(
            f"The ledger {where} has the older schema {revision!r}. Run `mass-gov init` with its key store to bring it "
            f"up to {SCHEMA_HEAD!r}; no event is changed by that."
        )
    if revision != SCHEMA_HEAD:
        raise LedgerUnavailableError(
            f"The ledger {where} has schema {revision[:40]!r}, newer than this program's {SCHEMA_HEAD!r}. "
            "Upgrade mass-gov; nothing was written."
        )


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, inside the caller's transaction."""
    # Imported here: opening a ledger that is up to date takes a tenth of the time without Alembic.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    if _namespace(connection) and not connection.execute(_HAS_SCHEMA, {"name": POSTGRES_SCHEMA}).scalar():
        connection.execute(text(f"CREATE SCHEMA {POSTGRES_SCHEMA}"))
    config = Config()
    config.set_main_option("script_location", str(data_folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def make_schema(application: Database, owner: Address | str, timeout: float) -> bool:
    """Bring a server's schema up to date as its owner, and grant the application's role what it needs.

    Arguments:
        application: as whom the ledger is used.
        owner: the same database, as the role that owns the schema or may make it.
        timeout: seconds to wait for its lock.

    Returns:
        Whether an older schema was brought up, so that projections are to be derived again.

    Raises:
        LedgerUnavailableError: the owner cannot be reached, or the schema is newer than this program's.
        SettingsError: an embedded ledger has no owner.
    """
    role = application.role()
    if role is None:
        raise SettingsError(f"{application.address} is a file and has no owner. Unset MASS_GOV_DATABASE_OWNER_URL.")
    database = open_database(Address.of(owner), timeout=timeout)
    try:
        with database.write() as connection:
            revision = revision_of(connection)
            if revision is None or revision in OLDER_REVISIONS:
                upgrade(connection)
            check_revision(revision_of(connection), database.address)
            grant_application(connection, role)
    finally:
        database.close()
    return revision in OLDER_REVISIONS


def ledger_exists(where: Address, timeout: float) -> bool:
    """Whether there is a ledger to read: a file, or on a server a log with an event.

    Raises:
        LedgerUnavailableError: the server cannot be reached, or holds something else under the ledger's name.
    """
    if where.path is not None:
        return where.path.exists()
    database = open_database(where, writable=False, timeout=timeout)
    try:
        with database.read() as connection:
            return revision_of(connection) is not None and bool(connection.execute(_HAS_EVENT).scalar())
    finally:
        database.close()


def _namespace(connection: Connection) -> str | None:
    """Where the tables lie: PostgreSQL's schema of that name, SQLite's only one."""
    return POSTGRES_SCHEMA if connection.dialect.name == "postgresql" else None


def copy_engine() -> Engine:
    """A temporary database on disk with the newest schema, made by the same migrations: the auditor's own copy."""
    engine = create_engine("sqlite://", creator=_empty_copy, poolclass=StaticPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _empty_copy() -> sqlite3.Connection:
    connection = scratch_database()
    with _TEMPLATE_LOCK:
        _template().backup(connection)
    return connection


@cache
def _template() -> sqlite3.Connection:
    """An empty ledger in memory: the migrations run once in a process, and are copied from then on."""
    made = _in_memory()
    engine = create_engine("sqlite://", creator=lambda: made, poolclass=StaticPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        upgrade(connection)
    return made


def _in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
