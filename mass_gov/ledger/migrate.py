"""The schema: which revision a database has, and how it gets to the newest one.

Rules: migrations run under the write lock and in the transaction of whoever opens the ledger, so that two processes
never migrate at once and a crash leaves the old schema whole. A revision that this program does not know is newer, and
is not touched. Alembic is imported only when something is to be migrated.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import StaticPool

from mass_gov.config_data import data_folder
from mass_gov.errors import LedgerUnavailableError
from mass_gov.ledger.schema import OLDER_REVISIONS, SCHEMA_HEAD


def revision_of(connection: Connection) -> str | None:
    """Return the schema revision, None for an empty database.

    Raises:
        LedgerUnavailableError: another program's database.
    """
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        if tables:
            raise LedgerUnavailableError(
                "This is another program's database, not a ledger. Set MASS_GOV_HOME to a folder of its own."
            )
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def check_revision(revision: str | None, path: Path) -> None:
    """Refuse a schema that this program does not write.

    Raises:
        LedgerUnavailableError: of a newer schema, of an older one, or of none.
    """
    if revision is None:
        raise LedgerUnavailableError(f"{path} holds no ledger yet. Run `mass-gov init` to make one.")
    if revision in OLDER_REVISIONS:
        raise LedgerUnavailableError(
            f"The ledger {path} has the older schema {revision!r}. Run `mass-gov init` with its key store to bring it "
            f"up to {SCHEMA_HEAD!r}; no event is changed by that."
        )
    if revision != SCHEMA_HEAD:
        raise LedgerUnavailableError(
            f"The ledger {path} has schema {revision[:40]!r}, newer than this program's {SCHEMA_HEAD!r}. "
            "Upgrade mass-gov; nothing was written."
        )


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, inside the caller's transaction."""
    # Imported here: opening a ledger that is up to date takes a tenth of the time without Alembic.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(data_folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def memory_engine() -> Engine:
    """A database in memory with the newest schema, made by the same migrations: the auditor's own copy."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"isolation_level": None})
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        upgrade(connection)
    return engine
