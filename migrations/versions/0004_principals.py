"""Who may act: principals with their roles, bearer tokens by their hash, and refusals that wait to be logged.

`principals` and `tokens` are derived from the log, so whoever migrates derives the projections again afterwards
(`Ledger.open` does). `denials` is neither log nor projection: it counts refusals until the next event sums them up.

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the three tables."""
    _table(
        "principals",
        _text("principal", key=True),
        _int("index"),
        _text("roles"),
        _text("scopes"),
        _text("public_key", nullable=True),
    )
    op.create_index("principals_by_key", "principals", ["public_key"])
    _table(
        "tokens",
        _text("token_id", key=True),
        _int("index"),
        _text("principal"),
        _text("token_hash"),
        _text("issued_at"),
        _text("expires_at", nullable=True),
        _int("revoked_index", nullable=True),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("tokens_by_principal", "tokens", ["principal"])
    _table(
        "denials",
        _text("principal", key=True),
        _text("action", key=True),
        _text("role"),
        _text("tenant"),
        _text("deployment"),
        _text("change_id", nullable=True),
        _int("count"),
        _text("logged_at"),
    )


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")


def _table(name: str, *columns: sa.schema.SchemaItem) -> None:
    op.create_table(name, *columns, sqlite_strict=True, sqlite_with_rowid=False)


def _text(name: str, *, key: bool = False, nullable: bool = False) -> sa.Column[str]:
    # By bytes on both engines, as in 0003: the same order on every machine.
    kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return sa.Column(name, kind, primary_key=key, nullable=nullable)


def _int(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, _INT, nullable=nullable)
