"""Which key was valid when, which subject is held or erased, and whose data changes and answers were made from.

All of it is derived from the log, so whoever migrates derives the projections again afterwards (`Ledger.open` does).

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the two tables and the two columns."""
    op.add_column("changes", sa.Column("subject", sa.Text, nullable=False, server_default=""))
    op.add_column("responses", sa.Column("subject", sa.Text))
    op.create_index("changes_by_subject", "changes", ["subject"])
    op.create_index("responses_by_subject", "responses", ["subject"])
    op.create_index("changes_by_parent", "changes", ["parent_state"])
    op.create_table(
        "log_keys",
        sa.Column("key", sa.Text, primary_key=True, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("from_index", _INT, nullable=False),
        *(sa.Column(name, _INT) for name in ("to_index", "revoked_index", "compromised", "trusted_size")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subjects",
        sa.Column("subject", sa.Text, primary_key=True, nullable=False),
        sa.Column("held_index", _INT),
        sa.Column("erased_index", _INT),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")
