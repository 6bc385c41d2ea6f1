"""Which engine a ledger's address names. Knows no rule of either."""

from __future__ import annotations

from pathlib import Path

from mass_gov.ledger.address import Address
from mass_gov.ledger.database import DEFAULT_TIMEOUT, Database


def open_database(
    where: Address | Path | str, *, create: bool = False, writable: bool = True, timeout: float = DEFAULT_TIMEOUT
) -> Database:
    """Open a ledger's database with the engine that its address names.

    Arguments:
        where: a file, or an address of either engine.
        create: make the file (mode 0600) when it does not exist; a server's database is made by its owner.
        writable: False opens it without ever writing, which also works on a read-only medium or a standby.
        timeout: seconds to wait for a lock, or for a server to answer.

    Raises:
        LedgerUnavailableError: it is missing, cannot be reached, or may not be opened.
        MissingExtraError: a server is asked for, and its driver is not installed.
        SettingsError: the address cannot be used.
    """
    address = Address.of(where)
    if address.engine == "sqlite":
        from mass_gov.ledger.sqlite import SqliteDatabase  # noqa: PLC0415 - no engine is loaded that is not used

        return SqliteDatabase(address, create=create, writable=writable, timeout=timeout)
    from mass_gov.ledger.postgres import PostgresDatabase  # noqa: PLC0415

    return PostgresDatabase(address, writable=writable, timeout=timeout)
