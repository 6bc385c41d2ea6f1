"""Guards: what PostgreSQL needs to refuse rewriting as SQLite does, by trigger and by privilege, and a gap of SQLite's.

On PostgreSQL:

- the four log tables refuse UPDATE, DELETE and TRUNCATE, and an event that does not take the next index or does not
  continue from the last root. Statement triggers refuse even what would touch no row; row triggers refuse what
  replication applies. All are ENABLE ALWAYS, so that `session_replication_role = replica` does not switch them off
- `log_head` is one row that says nothing: whoever writes the log holds its lock, and so there is one writer at a time
- `append` is the one way by which another role than the owner writes the log: SECURITY DEFINER, its search path pinned.
  It takes a batch: any number of artifacts, events, tree nodes, and at most one checkpoint. What a call has nothing of
  is an empty array or NULL
- texts compare by bytes (COLLATE "C") as SQLite's do: the same order on every machine, whatever its locale becomes

Who may call `append` is granted by `mass_gov.ledger.privileges`, which knows the name of the application's role.

On SQLite: `INSERT OR REPLACE` with the rowid of an artifact that exists and another digest went past the trigger that
asks for the digest, and took the row away where `recursive_triggers` was off. Every other gap was closed in 0001.

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_LOG = ("log_events", "log_nodes", "log_checkpoints", "artifacts")
_SCHEMA = "mass_gov"
_PATH = f"SET search_path = pg_catalog, {_SCHEMA}, pg_temp"
_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of nothing, RFC 6962


def upgrade() -> None:
    """Put up the guards of the engine at hand."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER artifacts_no_replace_by_rowid BEFORE INSERT ON artifacts "
            "WHEN EXISTS (SELECT 1 FROM artifacts WHERE rowid = NEW.rowid) "
            "BEGIN SELECT RAISE(ABORT, 'mass-gov: artifacts is append-only'); END"
        )
        return
    _texts_by_bytes()
    _functions()
    _triggers()
    op.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mass_gov FROM PUBLIC")


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")


def _texts_by_bytes() -> None:
    inspector = sa.inspect(op.get_bind())
    for table in inspector.get_table_names(schema=_SCHEMA):
        texts = [c["name"] for c in inspector.get_columns(table, schema=_SCHEMA) if isinstance(c["type"], sa.Text)]
        if texts:
            changed = ", ".join(f'ALTER COLUMN "{name}" TYPE text COLLATE "C"' for name in texts)
            op.execute(f"ALTER TABLE {_SCHEMA}.{table} {changed}")


def _functions() -> None:
    op.execute(f"CREATE TABLE {_SCHEMA}.log_head (one boolean PRIMARY KEY DEFAULT true CHECK (one))")
    op.execute(f"INSERT INTO {_SCHEMA}.log_head DEFAULT VALUES")
    op.execute(
        f"""CREATE FUNCTION {_SCHEMA}.lock_head() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER {_PATH} AS $$
BEGIN
    PERFORM 1 FROM mass_gov.log_head FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'mass-gov: log_head has lost its row' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN true;
END $$"""
    )
    op.execute(
        f"""CREATE FUNCTION {_SCHEMA}.append(
    new_digests bytea[], new_stored bytea[],
    new_first bigint, new_leaves bytea[], new_prev_roots bytea[], new_roots bytea[],
    new_levels bigint[], new_positions bigint[], new_hashes bytea[],
    new_size bigint, new_note bytea
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER {_PATH} AS $$
BEGIN
    PERFORM mass_gov.lock_head();
    INSERT INTO mass_gov.artifacts (digest, stored) SELECT * FROM unnest(new_digests, new_stored);
    INSERT INTO mass_gov.log_events ("index", leaf, prev_root, root)
        SELECT new_first + e.n - 1, e.leaf, e.prev_root, e.root
        FROM unnest(new_leaves, new_prev_roots, new_roots) WITH ORDINALITY AS e (leaf, prev_root, root, n) ORDER BY e.n;
    INSERT INTO mass_gov.log_nodes (level, "position", hash)
        SELECT * FROM unnest(new_levels, new_positions, new_hashes);
    IF new_size IS NOT NULL OR new_note IS NOT NULL THEN
        INSERT INTO mass_gov.log_checkpoints (size, note) VALUES (new_size, new_note);
    END IF;
END $$"""  # noqa: S608 - names from the constants above
    )
    op.execute(
        f"""CREATE FUNCTION {_SCHEMA}.refuse_change() RETURNS trigger LANGUAGE plpgsql {_PATH} AS $$
BEGIN
    RAISE EXCEPTION 'mass-gov: % is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$"""
    )
    op.execute(
        f"""CREATE FUNCTION {_SCHEMA}.check_next() RETURNS trigger LANGUAGE plpgsql {_PATH} AS $$
DECLARE
    next_index bigint;
    last_root bytea;
BEGIN
    SELECT e."index" + 1, e.root INTO next_index, last_root
        FROM (SELECT "index", root FROM mass_gov.log_events ORDER BY "index" DESC LIMIT 1) AS e;
    IF NOT FOUND THEN
        next_index := 0;
        last_root := '\\x{_EMPTY}';
    END IF;
    IF NEW."index" IS DISTINCT FROM next_index OR NEW.prev_root IS DISTINCT FROM last_root THEN
        RAISE EXCEPTION 'mass-gov: an event takes the next index and continues from the last root'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$"""  # noqa: S608 - names from the constants above
    )


def _triggers() -> None:
    refuse = f"EXECUTE FUNCTION {_SCHEMA}.refuse_change()"
    for table in (*_LOG, "log_head"):
        _always(table, "no_change", f"BEFORE UPDATE OR DELETE ON {_SCHEMA}.{table} FOR EACH ROW {refuse}")
        _always(table, "no_verb", f"BEFORE UPDATE OR DELETE OR TRUNCATE ON {_SCHEMA}.{table} {refuse}")
    check = f"BEFORE INSERT ON {_SCHEMA}.log_events FOR EACH ROW EXECUTE FUNCTION {_SCHEMA}.check_next()"
    _always("log_events", "next", check)


def _always(table: str, name: str, body: str) -> None:
    op.execute(f"CREATE TRIGGER {table}_{name} {body}")
    op.execute(f"ALTER TABLE {_SCHEMA}.{table} ENABLE ALWAYS TRIGGER {table}_{name}")
