"""What lists are filtered by, whom a principal is let in to, and answers that are given again.

- `events`: of each event when it was, of what type, whose and by whom. `reached` is the latest time that the log had
  said up to it, which never runs backwards, so that a time is a place in the log
- `marks`: which events a word is true of, 4096 to a row, one bit each (`mass_gov.ledger.marks`). Rows of both are
  written for 64 events at once; what the events after that say is read from their leaves
- `principals` say which tenants somebody is let into; NULL is all of them
- `replies`: what was answered to a request with an Idempotency-Key; neither log nor projection, and safe to lose

All but the last is derived from the log, so whoever migrates derives the projections again afterwards (`Ledger.open`
does).

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables and the column."""
    _table(
        "events",
        sa.Column("index", _INT, primary_key=True, autoincrement=False),
        *(_text(name) for name in ("time", "reached", "type", "tenant", "deployment", "actor", "role")),
        _text("change_id", nullable=True),
        _text("terms"),
        rowid=True,  # an integer key is the row's number
    )
    op.create_index("events_by_time", "events", ["reached", "index"])
    _table(
        "marks",
        _text("term", key=True),
        sa.Column("block", _INT, primary_key=True, autoincrement=False),
        sa.Column("bits", sa.LargeBinary, nullable=False),
    )
    _table(
        "replies",
        _text("principal", key=True),
        _text("key", key=True),
        _text("request"),
        _text("asked_at"),
        sa.Column("status", _INT),
        _text("etag", nullable=True),
        _text("body", nullable=True),
    )
    op.create_index("replies_by_time", "replies", ["asked_at"])
    op.add_column("principals", _text("tenants", nullable=True))


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")


def _table(name: str, *columns: sa.schema.SchemaItem, rowid: bool = False) -> None:
    op.create_table(name, *columns, sqlite_strict=True, sqlite_with_rowid=rowid)


def _text(name: str, *, key: bool = False, nullable: bool = False) -> sa.Column[str]:
    # By bytes on both engines, as in 0003: the same order on every machine.
    return sa.Column(name, _TEXT, primary_key=key, nullable=nullable)
