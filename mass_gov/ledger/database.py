"""What the ledger asks of a database, whichever engine it is: one snapshot to read in, one writer at a time, closing.

Rules: what is read in one `read()` was committed before it and does not change while it is read. Whoever is inside
`write()` is the only writer of this ledger, in this process or in any other, and what it reads cannot change before it
writes; it commits when the block ends well and undoes all of it when it does not. When `write()` returns, what was
written survives a power cut. Whatever a driver raises comes out as `LedgerUnavailableError` (the world failed) or
`IntegrityError` (the rows are not what was written), with what to do about it.

This module does not know the tables, nor which engine it is: `sqlite` and `postgres` do.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mass_gov.errors import LedgerUnavailableError, MassGovError
from mass_gov.ledger.address import Address

DEFAULT_TIMEOUT = 30.0
"""Seconds to wait for another process's write lock."""

LAST, END, CURSOR = "mass_gov_last", "mass_gov_end", "mass_gov_cursor"
"""What a server's connection carries (`Connection.info`). Through a transaction, so that nothing is asked twice: LAST,
(index, root) of the last event that was written, and END, the `LogEnd` when the lock was had. CURSOR stays."""

DatabaseFault = SQLAlchemyError
"""What reading rows that nobody honest wrote may raise, under a name that those who know no SQL may use."""


class Spares:
    """Connections that were left in good order: whoever begins next on one of them need not ask the pool."""

    _MOST = 4
    """More go back to the pool, which has others to serve."""

    def __init__(self) -> None:
        self._kept: deque[Connection] = deque()

    def take(self) -> Connection | None:
        """One of them, to use and then `lend`; None where there is none."""
        try:
            return self._kept.pop()
        except IndexError:
            return None

    @contextmanager
    def lend(self, connection: Connection) -> Iterator[Connection]:
        """Keep a connection for the next one if the block ends well, and give it back if it does not."""
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if connection.invalidated or len(self._kept) >= self._MOST:
            connection.close()
        else:
            self._kept.append(connection)

    def close(self) -> None:
        """Give all of them back."""
        while (connection := self.take()) is not None:
            connection.close()


class Database(ABC):
    """One ledger's database. Make one with `engines.open_database`.

    Attributes:
        address: where it lies; prints without its password.
        writable: whether `write` may be called.
    """

    def __init__(self, address: Address, engine: Engine, *, writable: bool) -> None:
        self.address = address
        self.writable = writable
        self._engine = engine
        self._writers = Spares()
        self._shared = threading.local()

    @property
    def engine(self) -> Engine:
        """The engine, for what needs no transaction of its own."""
        return self._engine

    @property
    def has_room(self) -> bool:
        """Whether its disk has room for some changes; of a server's disk nothing is known here."""
        return True

    @abstractmethod
    def _begin_read(self) -> AbstractContextManager[Connection]:
        """A connection of its own, in a snapshot of its own."""

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot: what is read here was committed before, and does not change while it is read."""
        shared: Connection | None = getattr(self._shared, "connection", None)
        if shared is None:
            with self._begin_read() as connection:
                yield connection
        else:
            with self.translated():
                yield shared

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that this thread reads inside the block be of one moment, and on one connection."""
        with self.read() as connection:
            before = getattr(self._shared, "connection", None)
            self._shared.connection = connection
            try:
                yield
            finally:
                self._shared.connection = before

    @abstractmethod
    def write(self) -> AbstractContextManager[Connection]:
        """The only writer, until the block ends: committed if it ends well, undone whole if it does not."""

    def close(self) -> None:
        """Close every connection."""
        self._writers.close()
        self._engine.dispose()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the driver raises inside the block into this project's errors."""
        try:
            yield
        except DBAPIError as error:
            raise self.translate(error.orig) from error
        except PoolTimeoutError as error:
            raise LedgerUnavailableError(
                f"The ledger {self.address} has no connection left for this. Ask less of it at once, and try again."
            ) from error

    @abstractmethod
    def translate(self, error: BaseException | None) -> MassGovError:
        """Say what a driver's error means for the person who runs this."""

    def role(self) -> str | None:
        """As whom a server is used; None of a file."""
        return None

    def durability_faults(self) -> list[str]:
        """What is set so that an acknowledged event could be lost in a power cut; nothing where all is well."""
        return []

    def has_failed(self, connection: Connection) -> bool:
        """Whether an error has ended the connection's transaction, so that nothing more can be read in it."""
        return False

    def is_no_database(self, error: BaseException) -> bool:
        """Whether an error of opening says that the bytes are no database at all."""
        return False
