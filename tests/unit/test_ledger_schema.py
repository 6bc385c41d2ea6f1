"""The tables: append-only whatever the verb, and the same in the migrations, in the queries and in a real ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from mass_gov.config_data import data_folder
from mass_gov.errors import SettingsError
from mass_gov.ledger.migrate import copy_engine
from mass_gov.ledger.schema import LOG_TABLES, SCHEMA_HEAD, metadata
from tests.fakes.ledger_world import LedgerWorld

LOG = [table.name for table in LOG_TABLES]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger's file, opened as any other program would open it: without this project's pragmas."""
    world = LedgerWorld.make(tmp_path / "home")
    world.record("one")
    world.close()
    connection = sqlite3.connect(tmp_path / "home" / "ledger.db", isolation_level=None)
    yield connection
    connection.close()


@pytest.mark.parametrize("table", LOG)
@pytest.mark.parametrize("recursive", ["OFF", "ON"])
def test_no_verb_rewrites_the_log(database: sqlite3.Connection, table: str, recursive: str) -> None:
    database.execute(f"PRAGMA recursive_triggers = {recursive}")
    before = database.execute(f"SELECT * FROM {table}").fetchall()
    column = [row[1] for row in database.execute(f"PRAGMA table_info({table})")][-1]
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
        f"REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
        f"INSERT OR IGNORE INTO {table} SELECT * FROM {table} LIMIT 1",
        f"UPDATE OR REPLACE {table} SET {column} = {column}",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="mass-gov: "):
            database.execute(statement)
    assert database.execute(f"SELECT * FROM {table}").fetchall() == before


@pytest.mark.parametrize("recursive", ["OFF", "ON"])
def test_no_artifact_is_replaced_by_its_row_number(database: sqlite3.Connection, recursive: str) -> None:
    """The digest is new and the row number is not: REPLACE would take the old row away."""
    database.execute(f"PRAGMA recursive_triggers = {recursive}")
    before = database.execute("SELECT rowid, * FROM artifacts").fetchall()
    replace = "INSERT OR REPLACE INTO artifacts (rowid, digest, stored) VALUES (?, zeroblob(32), x'00')"
    for row in before[:2]:
        with pytest.raises(sqlite3.IntegrityError, match="mass-gov: artifacts is append-only"):
            database.execute(replace, row[:1])
    assert database.execute("SELECT rowid, * FROM artifacts").fetchall() == before


@pytest.mark.parametrize("index", ["7", "5", "-1", "NULL"])
def test_an_event_takes_the_next_index_only(database: sqlite3.Connection, index: str) -> None:
    insert = f'INSERT INTO log_events SELECT {index}, leaf, root, root FROM log_events WHERE "index" = 5'
    with pytest.raises(sqlite3.IntegrityError, match="mass-gov: "):
        database.execute(insert)


def test_an_event_continues_from_the_last_root_only(database: sqlite3.Connection) -> None:
    insert = 'INSERT INTO log_events SELECT 6, leaf, prev_root, root FROM log_events WHERE "index" = 5'
    with pytest.raises(sqlite3.IntegrityError, match="continues from the last root"):
        database.execute(insert)


def test_a_value_of_another_type_is_refused(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in BLOB column"):
        database.execute("INSERT INTO log_checkpoints (size, note) VALUES (99, 'text')")


def test_queries_and_migrations_mean_the_same_tables() -> None:
    engine = copy_engine()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    # Indexes and unique constraints stand in the migrations alone: queries do not name them.
    structural = [
        d for d in differences if not (isinstance(d, tuple) and d[0] in ("remove_index", "remove_constraint"))
    ]
    assert structural == []


def test_the_newest_migration_is_the_one_that_this_program_writes() -> None:
    scripts = ScriptDirectory(str(data_folder("migrations")))
    assert scripts.get_heads() == [SCHEMA_HEAD]


def test_a_broken_installation_is_named() -> None:
    with pytest.raises(SettingsError, match="Install the package again"):
        data_folder("no-such-folder")
