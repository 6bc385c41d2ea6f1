"""What an engine's own checks say of the stored pages, below everything that is proven from hashes and signatures.

SQLite checks pages, cells and indexes itself (`integrity_check`). PostgreSQL checks the sum of every page that it reads
where the cluster has data checksums, and counts what failed; whether indexes and tables agree is for its extension
amcheck, which only a superuser, or whom one allowed, may run. What could not be asked is said, not passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from mass_gov.ledger.schema import POSTGRES_SCHEMA

_CHECKSUMS = text("SELECT current_setting('data_checksums')")
_FAILURES = text("SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()")
_AMCHECK = text(
    "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck' "
    "AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege("
    "quote_ident(n.nspname) || '.bt_index_check(regclass, boolean)', 'EXECUTE')"
)
_INDEXES = text(
    "SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_am a ON a.oid = c.relam "
    "WHERE n.nspname = :schema AND c.relkind = 'i' AND a.amname = 'btree' ORDER BY c.relname"
)


@dataclass(frozen=True, slots=True)
class StorageCheck:
    """What an engine says of its pages.

    Attributes:
        ran: whether it looked at all.
        faults: what it found.
        unasked: what could not be asked, and why; empty when everything was.
    """

    ran: bool
    faults: tuple[str, ...]
    unasked: str = ""


def check_storage(connection: Connection) -> StorageCheck:
    """Ask the engine. An error of the driver is the caller's to translate: it is a fault too."""
    if connection.dialect.name == "postgresql":
        return _postgresql(connection)
    rows = connection.execute(text("PRAGMA integrity_check(20)"))
    return StorageCheck(True, tuple(str(row[0]) for row in rows if row[0] != "ok"))


def check_indexes(connection: Connection, tables: Sequence[str]) -> list[str]:
    """Where indexes of a file do not lead to exactly the rows of their tables.

    What a server's indexes hold nobody but its superuser decides, and to ask takes amcheck: `verify` does.
    """
    if connection.dialect.name == "postgresql":
        return []
    checks = [connection.execute(text(f'PRAGMA integrity_check("{name}")')).scalars().all() for name in tables]
    return [str(said) for check in checks for said in check if said != "ok"]


def _postgresql(connection: Connection) -> StorageCheck:
    sums = connection.execute(_CHECKSUMS).scalar() == "on"
    failed = int(connection.execute(_FAILURES).scalar() or 0)
    faults = [f"{failed} pages of this database did not have the sum that they were written with"] if failed else []
    amcheck = connection.execute(_AMCHECK).scalar()
    if amcheck is not None:
        faults += _indexes(connection, str(amcheck))
    unasked = [] if sums else ["page checksums are off in this cluster (pg_checksums --enable)"]
    if amcheck is None:
        unasked.append("indexes were not compared with tables (CREATE EXTENSION amcheck, and EXECUTE for this role)")
    return StorageCheck(sums or amcheck is not None, tuple(faults), "; ".join(unasked))


def _indexes(connection: Connection, where: str) -> list[str]:
    check = text(
        f"SELECT {connection.dialect.identifier_preparer.quote(where)}.bt_index_check(CAST(:index AS oid), true)"
    )
    faults = []
    for oid, name in connection.execute(_INDEXES, {"schema": POSTGRES_SCHEMA}).all():
        found = connection.begin_nested()
        try:
            connection.execute(check, {"index": oid})
        except DBAPIError as error:  # the finding itself comes as an error; whatever else went wrong is one too
            found.rollback()
            faults.append(f"index {name}: {str(error.orig).splitlines()[0]}")
        else:
            found.commit()
    return faults
