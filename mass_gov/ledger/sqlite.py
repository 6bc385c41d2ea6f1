"""One SQLite file: how it is opened, how a transaction begins, and what its errors mean to a person.

Rules: every connection has WAL, synchronous=FULL (a commit that returned survives a power cut), foreign keys, recursive
triggers and a busy time-out. A writing transaction begins IMMEDIATE, so that what it reads first cannot change before
it writes. Whatever the driver raises comes out as `LedgerUnavailableError` (the world failed) or `IntegrityError` (the
file is not what was written); an error inside a transaction rolls all of it back.

This module does not know the tables. PostgreSQL is a second class with the same methods (`postgres`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.pool import QueuePool

from mass_gov.errors import IntegrityError, LedgerUnavailableError, MassGovError
from mass_gov.ledger.address import Address
from mass_gov.ledger.database import DEFAULT_TIMEOUT, Database

ROOM = 16 * 1024 * 1024
"""Bytes that have to be free beside a ledger for it to count as writable: a few changes and their artifacts."""
_PRAGMAS = (
    "PRAGMA foreign_keys=ON",
    "PRAGMA recursive_triggers=ON",
    "PRAGMA synchronous=FULL",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
)


class SqliteDatabase(Database):
    """A SQLite file behind SQLAlchemy.

    Arguments:
        address: of the file; with `create` it is made (mode 0600) when it does not exist.
        writable: False opens it without ever writing, which also works on a read-only medium.
        timeout: seconds to wait for a lock.
    """

    def __init__(
        self, address: Address, *, create: bool = False, writable: bool = True, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self.path = path = address.file
        self._timeout = timeout
        self._lay: tuple[int, int, int] | None = None
        """How the file lay when it was first opened as one that nobody writes; None where SQLite keeps watch itself."""
        if create:
            _make_file(path)
        elif not path.is_file():
            raise LedgerUnavailableError(f"There is no ledger at {path}. Run `mass-gov init`, or set MASS_GOV_HOME.")
        if writable and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise _read_only(path)
        engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool, pool_size=4)
        event.listen(engine, "begin", _begin)
        super().__init__(address, engine, writable=writable)

    @property
    def has_room(self) -> bool:
        """As `Database.has_room`."""
        return shutil.disk_usage(self.path.parent).free >= ROOM

    @contextmanager
    def _begin_read(self) -> Iterator[Connection]:
        with self.translated(), self._engine.connect() as connection:
            try:
                yield connection
            finally:
                self._insist_it_lay_still()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The only writer, until the block ends: committed if it ends well, undone whole if it does not."""
        with self.translated(), self._writers.lend(self._writers.take() or self._engine.connect()) as connection:
            connection.execution_options(mass_gov_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Close every connection; the last one folds the write-ahead log into the file."""
        super().close()

    def _connect(self) -> sqlite3.Connection:
        mode = "rw" if self.writable else "ro"
        wal = self.path.with_name(self.path.name + "-wal")
        # Without a log to replay, an unwritable medium is read as it lies; SQLite would want to make files beside it.
        unwritable = not os.access(self.path.parent, os.W_OK) and not wal.exists()
        still = "&immutable=1" if not self.writable and unwritable else ""
        if still and self._lay is None:
            self._lay = self._state()
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}{still}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,  # the driver begins nothing by itself; `_begin` does
            check_same_thread=False,
        )
        connection.text_factory = _text
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if self.writable:
            self._use_wal(connection)
        return connection

    def _insist_it_lay_still(self) -> None:
        """Whoever may write the folder can fold a log into the file, and nothing then keeps a reader from half of it.

        Raises:
            LedgerUnavailableError: somebody did, so what was read is of two moments.
        """
        if self._lay is not None and self._lay != self._state():
            raise LedgerUnavailableError(
                f"The ledger {self.path} was written while it was read as it lies, because you may not write its "
                "folder. Try again, or read a copy that was made while nothing wrote."
            )

    def _state(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise LedgerUnavailableError(f"The ledger {self.path} cannot be read: {error.strerror}.") from error
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to WAL once. SQLite does not wait for other connections here, so this does."""
        deadline = time.monotonic() + self._timeout
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the driver raises inside the block into this project's errors."""
        try:
            with super().translated():
                yield
        except sqlite3.Error as error:
            raise self.translate(error) from error
        except UnicodeDecodeError as error:  # SQLite quotes the file in its message, and the driver cannot read that
            damaged = sqlite3.DatabaseError("its schema is not text")
            damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise self.translate(damaged) from error

    def translate(self, error: BaseException | None) -> MassGovError:
        """Say what a driver error means for the person who runs this."""
        return translate(error, self.path)

    def is_no_database(self, error: BaseException) -> bool:
        """Whether SQLite said that the file is no database."""
        cause = error.__cause__
        return primary_code(getattr(cause, "orig", cause)) == sqlite3.SQLITE_NOTADB


def primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code of a driver error (https://sqlite.org/rescode.html), 1 when it has none."""
    return int(getattr(error, "sqlite_errorcode", 1)) & 0xFF


def translate(error: BaseException | None, path: Path) -> MassGovError:
    """Say what a driver error means for the person who runs this."""
    outages = {
        sqlite3.SQLITE_BUSY: "is locked by another process. Wait for it to finish, or stop it, and try again.",
        sqlite3.SQLITE_LOCKED: "is locked by another process. Wait for it to finish, or stop it, and try again.",
        sqlite3.SQLITE_FULL: "cannot grow: the disk is full. Free some space and try again; nothing was written.",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that it and its folder exist and that you may write there.",
        sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error. Check the disk and try again.",
        sqlite3.SQLITE_PERM: "may not be opened by you. Check its permissions.",
        sqlite3.SQLITE_NOTADB: "is not a ledger: the file is no SQLite database. Restore it, or set MASS_GOV_HOME.",
    }
    code = primary_code(error)
    if code == sqlite3.SQLITE_READONLY:
        return _read_only(path)
    if code in outages:
        return LedgerUnavailableError(f"The ledger {path} {outages[code]}")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return IntegrityError(f"The ledger {path} refused a row: {error}. Nothing was written; run `mass-gov verify`.")
    if code == sqlite3.SQLITE_CORRUPT:
        return IntegrityError(f"The ledger {path} is damaged: {error}. Restore it from a back-up.")
    return IntegrityError(f"The ledger {path} cannot be read: {error}. Run `mass-gov verify`; restore a back-up.")


def _read_only(path: Path) -> LedgerUnavailableError:
    return LedgerUnavailableError(
        f"The ledger {path} cannot be written: it or its folder is read-only. Make it writable, or set MASS_GOV_HOME "
        "to a folder of yours."
    )


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise LedgerUnavailableError(
            f"The ledger {path} cannot be {'written' if path.exists() else 'made'}: {error.strerror}. "
            "Set MASS_GOV_HOME to a folder that you can write."
        ) from error


def _begin(connection: Connection) -> None:
    # Straight to the driver: every read and every append passes here, and the toolkit's way costs ten times as much.
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    driver.execute(connection.get_execution_options().get("mass_gov_begin", "BEGIN"))


def _text(data: bytes) -> str:
    # Damaged text must reach `verify` as a value that differs, not as a decoding error without a row's name.
    return data.decode("utf-8", "surrogateescape")
