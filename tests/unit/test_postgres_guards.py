"""PostgreSQL: what the application's role may not do, and what not even a superuser does by accident."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config_data import data_folder
from mass_gov.flows.audit import verify
from mass_gov.ledger import catalogue
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.schema import COUNTERS, LOG_TABLES, PROJECTIONS
from tests.fakes import engines
from tests.fakes.ledger_world import LedgerWorld
from tests.fakes.tamper import editing

psycopg = pytest.importorskip("psycopg", reason="PostgreSQL is not tested: psycopg is not installed")

LOG = [table.name for table in LOG_TABLES]
COLUMN = {"log_events": "leaf", "log_nodes": "hash", "log_checkpoints": "note", "artifacts": "stored"}
EVENT = 'INSERT INTO log_events SELECT {index}, leaf, {prev}, root FROM log_events WHERE "index" = 5'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerWorld]:
    """One ledger on PostgreSQL. Every test here is refused, so that none of them changes it."""
    if why := engines.missing():
        pytest.skip(f"PostgreSQL is not tested: {why}")
    with engines.using("postgresql"):
        made = LedgerWorld.make(tmp_path_factory.mktemp("guarded") / "home")
        made.record("one")
        yield made
        made.close()


@pytest.fixture
def application(world: LedgerWorld) -> Iterator[Any]:
    """The application's role, as a program of somebody else's would connect with it."""
    with psycopg.connect(world.ledger.address.url, options="-c search_path=mass_gov") as connection:
        yield connection


def rows(world: LedgerWorld, table: str) -> Any:
    with editing(world.ledger.address) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()


@pytest.mark.parametrize("table", LOG)
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {table} SELECT * FROM {table} LIMIT 0",
        "INSERT INTO {table} SELECT * FROM {table} ON CONFLICT DO NOTHING",
        "UPDATE {table} SET {column} = {column}",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
        "COPY {table} FROM STDIN",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "ALTER TABLE {table} ADD COLUMN note text",
        "DROP TABLE {table}",
        "CREATE TRIGGER mine BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
        "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    ],
)
def test_the_application_may_not_touch_the_log(application: Any, table: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute(statement.format(table=table, column=COLUMN[table]))


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "UPDATE alembic_version SET version_num = '0001'",
        "UPDATE log_head SET one = one",
        "DELETE FROM log_head",
        "SELECT * FROM log_head",
        "SELECT 1 FROM log_head FOR UPDATE",
        "CREATE TABLE mine (a int)",
        "CREATE OR REPLACE FUNCTION lock_head() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "ALTER FUNCTION lock_head() SECURITY INVOKER",
        "DROP FUNCTION lock_head()",
        "TRUNCATE changes",
    ],
)
def test_the_application_may_not_touch_what_guards_the_log(application: Any, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute(statement)


def test_a_function_of_the_applications_own_does_not_run_with_the_owners_rights(application: Any) -> None:
    """`append` looks names up where its owner said, whatever the caller's search path and temporary tables are."""
    application.execute("CREATE TEMPORARY TABLE log_head (one boolean)")
    application.execute("CREATE TEMPORARY TABLE artifacts (digest bytea, stored bytea)")
    application.execute("SET search_path = pg_temp, mass_gov")
    with pytest.raises(psycopg.errors.CheckViolation):  # of the real table: a digest has 32 bytes
        application.execute(
            "SELECT mass_gov.append('{aa}', '{bb}', NULL, '{}', '{}', '{}', '{}', '{}', '{}', NULL, NULL)"
        )


@pytest.mark.parametrize("table", [*LOG, "log_head"])
@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize(
    "verb", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "DELETE FROM {0} WHERE false", "TRUNCATE {0}"]
)
def test_not_even_a_superuser_rewrites_the_log_by_accident(
    world: LedgerWorld, table: str, role: str, verb: str
) -> None:
    before = rows(world, table) if table != "log_head" else None
    with editing(world.ledger.address) as connection:
        connection.execute(f"SET session_replication_role = {role}")
        with pytest.raises(psycopg.errors.RestrictViolation, match=f"mass-gov: {table} is append-only"):
            connection.execute(verb.format(table, COLUMN.get(table, "one")))
    assert before is None or rows(world, table) == before


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize(("index", "prev"), [("7", "root"), ("5", "root"), ("-1", "root"), ("6", "prev_root")])
def test_an_event_takes_the_next_index_and_continues_from_the_last_root(
    world: LedgerWorld, role: str, index: str, prev: str
) -> None:
    with editing(world.ledger.address) as connection:
        connection.execute(f"SET session_replication_role = {role}")
        with pytest.raises(psycopg.errors.RestrictViolation, match="takes the next index"):
            connection.execute(EVENT.format(index=index, prev=prev))


@pytest.mark.parametrize("first", [5, 7, 0])
def test_append_takes_no_gap_and_no_fork(application: Any, first: int) -> None:
    with pytest.raises(psycopg.errors.RestrictViolation, match="takes the next index"):
        application.execute(
            "SELECT append('{}', '{}', NULLIF(%s, 0), ARRAY[root], ARRAY[root], ARRAY[root], '{}', '{}', '{}', NULL, "
            'NULL) FROM log_events WHERE "index" = 5',
            (first,),
        )


def test_a_batch_whose_parts_do_not_match_is_refused_whole(application: Any) -> None:
    with pytest.raises(psycopg.IntegrityError):
        application.execute(
            "SELECT append('{}', '{}', 6, ARRAY[root, root], ARRAY[root], ARRAY[root], '{}', '{}', '{}', NULL, NULL) "
            'FROM log_events WHERE "index" = 5'
        )


def test_what_the_server_says_of_a_fresh_schema_is_what_is_recorded(world: LedgerWorld) -> None:
    """After a migration, write the record again: python -m tests.contract.postgres_record"""
    database = open_database(world.ledger.address)
    with database.read() as connection:
        found = catalogue.describe(connection)
    database.close()
    assert found == json.loads((data_folder("migrations") / catalogue.RECORD).read_text("utf-8"))
    tables = {name.removeprefix("table ") for name in found if name.startswith("table ")}
    assert tables == {table.name for table in (*LOG_TABLES, *PROJECTIONS, *COUNTERS)} | {"alembic_version", "log_head"}
    texts = [what for name, what in found.items() if name.startswith("table ") and "alembic" not in name]
    assert all(" text " not in what.replace(" text collate C", "") for what in texts), "texts compare by bytes"


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("ALTER TABLE log_events DISABLE TRIGGER log_events_next", "trigger log_events_next on log_events"),
        ("ALTER TABLE artifacts ENABLE TRIGGER artifacts_no_verb", "trigger artifacts_no_verb on artifacts"),
        ("GRANT DELETE ON artifacts TO {role}", "privilege DELETE on table artifacts of {role}"),
        ("GRANT UPDATE (leaf) ON log_events TO {role}", "privilege UPDATE on column log_events.leaf of {role}"),
        ("GRANT TRUNCATE ON changes TO PUBLIC", "privilege TRUNCATE on table changes of PUBLIC"),
        ("GRANT CREATE ON SCHEMA mass_gov TO {role}", "privilege CREATE on schema mass_gov of {role}"),
        (
            "GRANT EXECUTE ON FUNCTION refuse_change() TO PUBLIC",
            "privilege EXECUTE on function refuse_change of PUBLIC",
        ),
        ("ALTER TABLE log_nodes OWNER TO {role}", "table log_nodes, its owner"),
        ("ALTER FUNCTION lock_head() RESET search_path", "function lock_head()"),
        ("CREATE RULE mine AS ON INSERT TO changes DO ALSO NOTHING", "rule mine on changes"),
        ("ALTER TABLE changes ENABLE ROW LEVEL SECURITY", "table changes"),
        ("ALTER TABLE changes DROP CONSTRAINT changes_index_key", "constraint changes.changes_index_key"),
        ("ALTER TABLE subjects ALTER held_index SET DEFAULT 1", "table subjects"),
        ("CREATE VIEW mine AS SELECT * FROM changes", "table mine"),
    ],
)
def test_whatever_was_done_to_the_schema_is_named(tmp_path: Path, statement: str, named: str) -> None:
    if why := engines.missing():
        pytest.skip(f"PostgreSQL is not tested: {why}")
    from tests.fakes.postgres_server import server

    with engines.using("postgresql"):
        address, role = engines.address_of(tmp_path), server().role
        with editing(address) as connection:
            connection.execute(statement.format(role=role))
        report = verify(address, checkpoints=tmp_path)
    assert named.format(role=role) in [fault.where for fault in report.steps[0].faults]
