"""Incidents: what was opened, by when it is to be reported, and what became of it.

Both tables are derived from the log, so whoever migrates derives the projections again afterwards (`Ledger.open` does).

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the two tables, and the index by which a tenant's incidents are listed."""
    # Texts by bytes on both engines, as in 0003: the same order on every machine.
    texts = {} if op.get_bind().dialect.name == "sqlite" else {"collation": "C"}

    def text(name: str, *, key: bool = False, nullable: bool = False) -> sa.Column[str]:
        return sa.Column(name, sa.Text(**texts), primary_key=key, nullable=nullable)

    op.create_table(
        "incidents",
        text("incident_id", key=True),
        sa.Column("index", _INT, nullable=False),
        *(text(name) for name in ("opened", "tenant", "deployment", "opened_by", "opened_at", "aware_at", "severity")),
        text("due_at", nullable=True),
        sa.Column("acknowledged_index", _INT),
        sa.Column("reported_index", _INT),
        text("reported_at", nullable=True),
        sa.Column("closed_index", _INT),
        text("outcome", nullable=True),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("incidents_by_place", "incidents", ["tenant", "deployment", "index"])
    op.create_table(
        "incident_updates",
        sa.Column("index", _INT, primary_key=True, autoincrement=False),
        *(text(name) for name in ("incident_id", "step", "author")),
        sqlite_strict=True,
    )
    op.create_index("incident_updates_by_incident", "incident_updates", ["incident_id", "index"])


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")
