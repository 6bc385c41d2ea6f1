"""The append-only log, its artifacts, and the projections.

The triggers are a guard rail against accidents and careless hands; the proofs are the security. On SQLite each of the
four log tables refuses UPDATE and DELETE, and refuses an INSERT whose key exists. The last one matters because
`INSERT OR REPLACE` deletes without firing DELETE triggers unless the connection asked for `recursive_triggers`.
`log_events` also insists on the next index and on the last root, so that a gap or a fork cannot be written.

Never edit this file: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_KEYS = {
    "log_events": ("index",),
    "log_nodes": ("level", "position"),
    "log_checkpoints": ("size",),
    "artifacts": ("digest",),
}


def upgrade() -> None:
    """Make every table, then the triggers."""
    _log_tables()
    _registrations_and_changes()
    _pointers_and_responses()
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")


def _table(name: str, *columns: sa.schema.SchemaItem, rowid: bool = False) -> None:
    op.create_table(name, *columns, sqlite_strict=True, sqlite_with_rowid=rowid)


def _hash(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, sa.CheckConstraint(f"length({name}) = 32"), nullable=False)


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, _INT, primary_key=True, autoincrement=False)


def _text(name: str, **options: bool) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=options.get("nullable", False), primary_key=options.get("key", False))


def _int(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, _INT, nullable=nullable)


def _log_tables() -> None:
    leaf = sa.Column("leaf", sa.LargeBinary, nullable=False)
    # An INTEGER PRIMARY KEY is the rowid itself, so these two cluster on it without WITHOUT ROWID.
    _table("log_events", _key("index"), leaf, _hash("prev_root"), _hash("root"), rowid=True)
    _table("log_nodes", _key("level"), _key("position"), _hash("hash"))
    _table("log_checkpoints", _key("size"), sa.Column("note", sa.LargeBinary, nullable=False), rowid=True)
    digest = sa.Column("digest", sa.LargeBinary, sa.CheckConstraint("length(digest) = 32"), primary_key=True)
    # Megabytes in one row fit a rowid table better.
    _table("artifacts", digest, sa.Column("stored", sa.LargeBinary, nullable=False), rowid=True)


def _registrations_and_changes() -> None:
    _table("registrations", _key("index"), _text("kind"), _text("digest"), _text("name", nullable=True), rowid=True)
    _table(
        "changes",
        _text("change_id", key=True),
        _int("index"),
        _text("leaf_hash"),
        _text("tenant"),
        _text("deployment"),
        _text("scope"),
        _text("requester"),
        _text("request_commitment"),
        _text("base_model"),
        _text("parent_state"),
        _int("pointer_head", nullable=True),
        _text("policy"),
        _text("suite"),
        _text("state"),
        _text("delta", nullable=True),
        _text("status"),
        _int("activation_index", nullable=True),
        _int("rejection_index", nullable=True),
        _int("rollback_index", nullable=True),
        sa.UniqueConstraint("index"),
        sa.UniqueConstraint("tenant", "deployment", "request_commitment"),
    )
    op.create_index("changes_by_state", "changes", ["state"])
    op.create_index("changes_by_status", "changes", ["status", "index"])
    _table(
        "approvals",
        _key("index"),
        _text("change_id"),
        _text("meaning"),
        _text("approver"),
        _int("required"),
        _int("self_approved"),
        sa.UniqueConstraint("change_id", "meaning", "approver"),
        rowid=True,
    )


def _pointers_and_responses() -> None:
    _table(
        "pointers",
        _text("tenant", key=True),
        _text("deployment", key=True),
        _text("state"),
        _text("change_id", nullable=True),
        _int("head_index"),
    )
    _table(
        "pointer_moves",
        _key("index"),
        _text("tenant"),
        _text("deployment"),
        _text("cause"),
        _text("moved_by"),
        _int("from_head", nullable=True),
        _text("from_state"),
        _text("from_change", nullable=True),
        _text("to_state"),
        _text("to_change", nullable=True),
        rowid=True,
    )
    op.create_index("pointer_moves_by_pointer", "pointer_moves", ["tenant", "deployment", "index"])
    _table(
        "responses",
        _text("response_id", key=True),
        _int("index"),
        _text("change_id", nullable=True),
        _text("tenant"),
        _text("deployment"),
        _text("state"),
        _text("served"),
        sa.UniqueConstraint("index"),
    )
    op.create_index("responses_by_change", "responses", ["change_id"])
    op.create_index("responses_by_state", "responses", ["state"])


def _sqlite_triggers() -> None:
    for table, keys in _KEYS.items():
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'mass-gov: {table} is append-only'); END"
            )
        same = " AND ".join(f'"{key}" = NEW."{key}"' for key in keys)
        known = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - names from the constant above
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {known} "
            f"BEGIN SELECT RAISE(ABORT, 'mass-gov: {table} is append-only'); END"
        )
    op.execute(
        "CREATE TRIGGER log_events_next BEFORE INSERT ON log_events "
        'WHEN NEW."index" IS NOT (SELECT COALESCE(MAX("index"), -1) + 1 FROM log_events) '
        'OR NEW.prev_root IS NOT COALESCE((SELECT root FROM log_events ORDER BY "index" DESC LIMIT 1), '
        "x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855') "  # SHA-256 of nothing, RFC 6962
        "BEGIN SELECT RAISE(ABORT, 'mass-gov: an event takes the next index and continues from the last root'); END"
    )
