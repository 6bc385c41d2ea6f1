"""Tally: what the rows of all projections add up to, so that opening a ledger need not replay its log.

One row, of a size that no log has until somebody who holds the keys has found the projections to follow from the log
(`mass_gov.ledger.tally`). Neither log nor projection, and safe to lose.

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table and its row."""
    table = op.create_table(
        "tally",
        sa.Column("one", _INT, primary_key=True, autoincrement=False),
        sa.Column("size", _INT, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.bulk_insert(table, [{"one": 1, "size": 0, "sealed": b""}])


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")
