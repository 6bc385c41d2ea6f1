"""PostgreSQL: what the application's role may do, granted by the owner of the tables and by nobody else.

Rules: the log is written through `append` alone, under `lock_head`; read it may be freely. Projections are ordinary
tables: `verify` compares them with the log, and they can be derived again. Nothing else is granted, and what was
granted beyond this (by hand, say) is what `verify` reports in step (1).
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.engine import Connection

from mass_gov.ledger.schema import COUNTERS, LOG_TABLES, POSTGRES_SCHEMA, PROJECTIONS

APPEND = (
    "append(bytea[], bytea[], bigint, bytea[], bytea[], bytea[], bigint[], bigint[], bytea[], bigint, bytea, bytea)",
    "lock_head()",
)
"""The functions that the application may call."""
READ_ONLY = frozenset({"alembic_version", *(table.name for table in LOG_TABLES)})
"""Tables that nobody but the owner writes."""
ORDINARY = frozenset(table.name for table in (*PROJECTIONS, *COUNTERS))
"""Tables with ordinary privileges."""
ORDINARY_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")


def grant_application(connection: Connection, role: str) -> None:
    """Give a role what the application needs; nothing to do where it is the owner.

    Arguments:
        connection: of the tables' owner, in a transaction.
        role: as PostgreSQL knows it.
    """
    if connection.execute(text("SELECT current_user")).scalar_one() == role:
        return
    who = connection.dialect.identifier_preparer.quote_identifier(role)
    schema = POSTGRES_SCHEMA
    for statement in (
        f"GRANT USAGE ON SCHEMA {schema} TO {who}",
        f"GRANT SELECT ON {_tables(READ_ONLY)} TO {who}",
        f"GRANT {', '.join(ORDINARY_PRIVILEGES)} ON {_tables(ORDINARY)} TO {who}",
        *(f"GRANT EXECUTE ON FUNCTION {schema}.{function} TO {who}" for function in APPEND),
    ):
        connection.exec_driver_sql(statement.replace("%", "%%"))


def _tables(names: frozenset[str]) -> str:
    return ", ".join(f"{POSTGRES_SCHEMA}.{name}" for name in sorted(names))
