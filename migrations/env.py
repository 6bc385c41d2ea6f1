"""Alembic's entry point: runs inside the connection and the transaction that `mass_gov.ledger` hands over.

There is no alembic.ini and no database address here: a ledger is opened by `Ledger.open`, which migrates it under an
exclusive lock, so that two processes never migrate at once and a crash leaves the old schema whole.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy.engine import Connection


def run() -> None:
    """Run the migrations up to the requested revision."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit("mass-gov migrates a ledger when it opens it. Run `mass-gov init` or `mass-gov doctor`.")
    # On PostgreSQL a ledger has a namespace of its own, and so has the table that names its revision.
    schema = "mass_gov" if connection.dialect.name == "postgresql" else None
    context.configure(connection=connection, target_metadata=None, version_table_schema=schema)
    with context.begin_transaction():
        context.run_migrations()


run()
