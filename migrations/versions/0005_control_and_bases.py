"""Freezes, the base model under every pointer, and changes that take another one's place.

- `controls`: each freeze of learning and what ended it
- `pointers` and `pointer_moves` say which base model a state stands on; a move to another one has no change behind it
- a task may have several changes, where the later ones were made again from the pointer's present state: who asks it
  again gets the newest, and `projector` sees to it that there is no other reason for a second one

All of it is derived from the log, so whoever migrates derives the projections again afterwards (`Ledger.open` does).

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ONE_CHANGE_A_TASK = "UNIQUE (tenant, deployment, request_commitment)"
_ASKED = ["tenant", "deployment", "request_commitment", "index"]


def upgrade() -> None:
    """Make the table and the columns, and take the constraint away."""
    schema = None if op.get_bind().dialect.name == "sqlite" else "mass_gov"
    texts = {} if schema is None else {"collation": "C"}
    op.create_table(
        "controls",
        sa.Column("index", _INT, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text(**texts), nullable=False) for name in ("tenant", "deployment", "extent", "cause")),
        sa.Column("monitor", sa.Text(**texts)),
        sa.Column("frozen_by", sa.Text(**texts), nullable=False),
        sa.Column("ended_index", _INT),
        sqlite_strict=True,
    )
    for table in ("pointers", "pointer_moves"):
        op.add_column(table, sa.Column("base_model", sa.Text(**texts), nullable=False, server_default=""))
    if schema is None:
        _remade("changes", f", \n\t{_ONE_CHANGE_A_TASK}", "")
        _remade("pointer_moves", "moved_by TEXT NOT NULL", "moved_by TEXT")
    else:
        op.drop_constraint("changes_tenant_deployment_request_commitment_key", "changes", type_="unique")
        op.alter_column("pointer_moves", "moved_by", nullable=True)
    op.create_index("changes_by_task", "changes", _ASKED)


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")


def _remade(table: str, old: str, new: str) -> None:
    """Make a table of SQLite again with `new` in place of `old`: it knows no other way to drop a constraint."""
    connection = op.get_bind()
    query = "SELECT type, sql FROM sqlite_master WHERE tbl_name = :table AND sql IS NOT NULL"
    made = connection.execute(sa.text(query), {"table": table}).all()
    (before,) = (sql for kind, sql in made if kind == "table")
    if before.count(old) != 1:
        raise NotImplementedError(f"The table {table} is not as earlier migrations left it. Restore a back-up.")
    op.execute(f"CREATE TEMPORARY TABLE kept AS SELECT * FROM {table}")  # noqa: S608 - names from above
    op.execute(f"DROP TABLE {table}")
    for sql in (before.replace(old, new), *(sql for kind, sql in made if kind == "index")):
        connection.exec_driver_sql(sql)
    op.execute(f"INSERT INTO {table} SELECT * FROM kept")  # noqa: S608 - names from above
    op.execute("DROP TABLE kept")
