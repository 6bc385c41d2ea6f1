"""Tally: what the rows of all projections add up to, beside each signed head, so that opening need not replay the log.

A column that proves nothing to anybody without the keys (`mass_gov.ledger.tally`), NULL under older heads. On
PostgreSQL `append` takes it with the head; everything else about the function is as in 0003.

Never edit this file once it was released: what is recorded here has been run.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SCHEMA = "mass_gov"
_CALLERS = f"""SELECT DISTINCT a.grantee::regrole::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
CROSS JOIN LATERAL aclexplode(p.proacl) a
WHERE n.nspname = '{_SCHEMA}' AND p.proname = 'append' AND a.grantee NOT IN (0, p.proowner)"""  # noqa: S608 - a constant
"""Roles that may call `append` go on to."""
_OLD = "bytea[], bytea[], bigint, bytea[], bytea[], bytea[], bigint[], bigint[], bytea[], bigint, bytea"


def upgrade() -> None:
    """Add the column, and let the application write it."""
    op.add_column("log_checkpoints", sa.Column("tally", sa.LargeBinary))
    if op.get_bind().dialect.name == "sqlite":
        return
    callers = op.get_bind().exec_driver_sql(_CALLERS).scalars().all()
    op.execute(f"DROP FUNCTION {_SCHEMA}.append({_OLD})")
    op.execute(
        f"""CREATE FUNCTION {_SCHEMA}.append(
    new_digests bytea[], new_stored bytea[],
    new_first bigint, new_leaves bytea[], new_prev_roots bytea[], new_roots bytea[],
    new_levels bigint[], new_positions bigint[], new_hashes bytea[],
    new_size bigint, new_note bytea, new_tally bytea DEFAULT NULL
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {_SCHEMA}, pg_temp AS $$
BEGIN
    PERFORM mass_gov.lock_head();
    INSERT INTO mass_gov.artifacts (digest, stored) SELECT * FROM unnest(new_digests, new_stored);
    INSERT INTO mass_gov.log_events ("index", leaf, prev_root, root)
        SELECT new_first + e.n - 1, e.leaf, e.prev_root, e.root
        FROM unnest(new_leaves, new_prev_roots, new_roots) WITH ORDINALITY AS e (leaf, prev_root, root, n) ORDER BY e.n;
    INSERT INTO mass_gov.log_nodes (level, "position", hash)
        SELECT * FROM unnest(new_levels, new_positions, new_hashes);
    IF new_size IS NOT NULL OR new_note IS NOT NULL THEN
        INSERT INTO mass_gov.log_checkpoints (size, note, tally) VALUES (new_size, new_note, new_tally);
    END IF;
END $$"""  # noqa: S608 - names from the constants above
    )
    op.execute(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {_SCHEMA} FROM PUBLIC")
    for role in callers:  # quoted by the server
        op.execute(f"GRANT EXECUTE ON FUNCTION {_SCHEMA}.append({_OLD}, bytea) TO {role}")


def downgrade() -> None:
    """Refuse: a log has no way back."""
    raise NotImplementedError("An append-only ledger has no older schema to go back to. Restore a back-up instead.")
