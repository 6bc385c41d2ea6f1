"""One PostgreSQL database: how it is reached, who may write when, and what becomes of a commit whose answer is lost.

Rules:

- a reader has one snapshot, REPEATABLE READ and READ ONLY
- a writer holds the head row's lock (`lock_head`, migration 0003) from its first statement to the end of its
  transaction, so writers follow one another whatever process or machine they are in. It reads at READ COMMITTED: what
  was committed while it waited for the lock is what it then sees. Until the schema is there, an advisory lock stands in
- `synchronous_commit` is never off in a connection of this program, and a writer that falls silent in the middle is
  ended by the server after a while, so that a machine which vanished does not hold the lock for ever
- a connection from the pool is asked whether it is still there before it is used. Readers and writers keep some of
  their own between transactions and do not ask: where the first statement, BEGIN or the lock, finds one gone, nothing
  was read or written, and another one takes its place
- every name is looked up in the ledger's own schema and nowhere else
- a connection that is lost before COMMIT was sent wrote nothing. One that is lost while COMMIT is under way may have
  written everything: the answer is then looked for in the log itself, under the head row's lock, which the old
  transaction holds until it has ended one way or the other. If it stands there, it is acknowledged; if it does not, it
  is denied; and if the server cannot be asked any more, or no event was written by which it would show, the error says
  that nobody knows

This module knows one table, `log_events`, because the last root of the log is what identifies a commit. Who writes
events leaves it on the connection (`LAST`). Where the log ends is asked in the same round trip as the lock, in a
statement after it, which therefore sees what was committed while the lock was waited for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from mass_gov.errors import LedgerUnavailableError, MassGovError, MissingExtraError, SettingsError
from mass_gov.evidence.merkle import EMPTY_ROOT
from mass_gov.ledger.address import Address
from mass_gov.ledger.database import DEFAULT_TIMEOUT, END, LAST, Database, Spares
from mass_gov.ledger.log_writer import LAST_QUERY, cursor_of
from mass_gov.ledger.postgres_errors import is_lost, translate
from mass_gov.ledger.schema import POSTGRES_SCHEMA

if TYPE_CHECKING:
    import psycopg

OLDEST_SERVER = 150000
"""PostgreSQL 15: the first that does not let everybody create objects in the public schema."""
_FIRST_LOCK = 0x6D617373676F7600
"""Advisory lock of whoever makes the schema: "massgov" in ASCII."""
_PAUSE = 0.1
"""Seconds between two attempts to learn what became of a commit."""

# One round trip; `synchronous_commit` keeps whatever is stricter than "on" already.
_SETTINGS = (
    "SELECT set_config('search_path', %s, false), set_config('lock_timeout', %s, false), "
    "CASE WHEN %s THEN set_config('default_transaction_read_only', 'on', false) END, set_config('synchronous_commit', "
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, "
    "false), current_setting('server_encoding')"
)
_HAS_LOCK = text(f"SELECT to_regprocedure('{POSTGRES_SCHEMA}.lock_head()') IS NOT NULL")
_LOCK = "SELECT lock_head(), set_config('idle_in_transaction_session_timeout', '%d', true)"
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED; "
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ADVISORY = text("SELECT pg_advisory_xact_lock(:key)")
_STANDS = text('SELECT root FROM log_events WHERE "index" = :index')
_DURABILITY = text(
    "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
)


class PostgresDatabase(Database):
    """A PostgreSQL database behind SQLAlchemy and psycopg.

    Arguments:
        address: where it is; libpq reads it, so PGPASSFILE, services and several hosts work as everywhere.
        writable: False for connections that the server itself keeps from writing.
        timeout: seconds to wait for a lock, and for the server to answer.
    """

    def __init__(self, address: Address, *, writable: bool = True, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._timeout = timeout
        self._driver, self._parameters = _driver(address)
        self._parameters.setdefault("connect_timeout", str(max(2, math.ceil(timeout))))
        self._parameters.setdefault("application_name", "mass-gov")
        self._has_lock = False
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=4,
            pool_pre_ping=True,  # a server that was restarted is no reason to fail
            hide_parameters=True,
            isolation_level="READ COMMITTED",
        )
        event.listen(engine, "checkin", _as_the_server_says)
        super().__init__(address, engine, writable=writable)
        self._readers = Spares()

    @contextmanager
    def _begin_read(self) -> Iterator[Connection]:
        with self.translated(), self._readers.lend(self._begun(self._readers, self._look)) as connection:
            yield connection
            with suppress(SQLAlchemyError):  # all of it was read; a connection that is gone by now is not kept
                connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The only writer, until the block ends: committed if it ends well, undone whole if it does not.

        Raises:
            LedgerUnavailableError: nothing was written; or the connection was lost during the commit, and the message
                says that what became of it is not known.
        """
        with self.translated(), self._writers.lend(self._begun(self._writers, self._lock)) as connection:
            try:
                yield connection
            except BaseException:
                with suppress(SQLAlchemyError):  # the connection may be gone, and its transaction with it
                    connection.rollback()
                raise
            last = connection.info.get(LAST)  # asked now: a connection that is lost has none any more
            try:
                connection.commit()
            except SQLAlchemyError as error:
                if not is_lost(error):
                    raise
                self._settle(last, error)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the driver raises inside the block into this project's errors."""
        try:
            with super().translated():
                yield
        except self._driver.Error as error:
            raise self.translate(error) from error

    def translate(self, error: BaseException | None) -> MassGovError:
        """Say what a driver's error means for the person who runs this."""
        return translate(error, self.address)

    def durability_faults(self) -> list[str]:
        """Settings of the server, or of this role, under which a power cut takes acknowledged events away."""
        with self.read() as connection:
            settings = {str(name): str(value) for name, value in connection.execute(_DURABILITY)}
        return [
            f"{name} is off on the server: a power cut can lose or tear events that were acknowledged. Turn it on"
            for name in ("fsync", "full_page_writes", "synchronous_commit")
            if settings.get(name) == "off"
        ]

    def role(self) -> str | None:
        """The role that this address connects as."""
        with self.read() as connection:
            return str(connection.execute(text("SELECT current_user")).scalar_one())

    def has_failed(self, connection: Connection) -> bool:
        """Whether an error has ended the connection's transaction, so that nothing more can be read in it."""
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        return bool(driver.info.transaction_status == self._driver.pq.TransactionStatus.INERROR)

    def _connect(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = self._driver.connect(**self._parameters, autocommit=True)
        try:
            check_server(connection.info.server_version, self.address)
            values = (
                f"{POSTGRES_SCHEMA}, pg_temp",
                str(math.ceil(self._timeout * 1000)),
                not self.writable,
            )
            row = connection.execute(_SETTINGS, values).fetchone()
            if row is None or row[-1] != "UTF8":
                raise LedgerUnavailableError(
                    f"The database {self.address} is not encoded in UTF8. Make one with ENCODING 'UTF8'."
                )
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close every connection."""
        self._readers.close()
        super().close()

    def _begun(self, spares: Spares, begin: Callable[[Connection], Connection]) -> Connection:
        """A connection in a transaction that `begin` began: a spare one, or where it is gone one from the pool."""
        if (kept := spares.take()) is not None:
            try:
                return begin(kept)
            except (SQLAlchemyError, self._driver.Error) as error:
                kept.invalidate()
                kept.close()
                if not is_lost(error):
                    raise
        connection = self._engine.connect()
        try:
            return begin(connection)
        except BaseException:
            connection.close()
            raise

    def _look(self, connection: Connection) -> Connection:
        """Begin to read."""
        connection.begin()
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        driver.autocommit = True  # begun here and not by the driver, so that this finds out whether it is still there
        cursor_of(connection).execute(_SNAPSHOT, prepare=False)
        return connection

    def _lock(self, connection: Connection) -> Connection:
        connection.begin()
        connection.info.pop(LAST, None)
        connection.info.pop(END, None)
        if not self._has_lock and not connection.execute(_HAS_LOCK).scalar():
            connection.execute(_ADVISORY, {"key": _FIRST_LOCK})
            if not connection.execute(_HAS_LOCK).scalar():
                return connection  # nobody made the schema while this waited
        self._has_lock = True
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        lock = f"{_LOCK % max(60_000, math.ceil(self._timeout * 2000))}; {LAST_QUERY}"
        if driver.info.transaction_status == self._driver.pq.TransactionStatus.IDLE:
            # Begun here and not by the driver: as one text of several statements it takes one round trip.
            if not driver.autocommit:
                driver.autocommit = True
            lock = _BEGIN + lock
        cursor = cursor_of(connection).execute(lock, prepare=False)
        while cursor.nextset():
            pass  # the last statement's result is the one
        connection.info[END] = cursor.fetchone() or (0, EMPTY_ROOT)
        return connection

    def _settle(self, last: tuple[int, bytes] | None, lost: SQLAlchemyError) -> None:
        """Learn what became of a commit whose answer was lost; returns if it came through.

        Arguments:
            last: (index, root) of the last event that it wrote; None where it wrote none, and nothing would show it.

        Raises:
            LedgerUnavailableError: it did not, or nobody can be asked.
        """
        deadline = time.monotonic() + self._timeout
        while last is not None and time.monotonic() < deadline:
            try:
                with self._engine.connect() as connection, connection.begin():
                    connection.exec_driver_sql(_LOCK % 60_000)
                    root = connection.execute(_STANDS, {"index": last[0]}).scalar()
            except (SQLAlchemyError, self._driver.Error):
                time.sleep(_PAUSE)
                continue
            if root is not None and bytes(root) == last[1]:
                return
            raise LedgerUnavailableError(
                f"The connection to {self.address} was lost during the commit, which did not come through: nothing "
                "was written. Try again."
            ) from lost
        raise LedgerUnavailableError(
            f"The connection to {self.address} was lost during the commit, and whether it came through is not known. "
            "When the server is back, look with `mass-gov log checkpoint` or `changes list` before you ask again."
        ) from lost


def check_server(version: int, address: Address) -> None:
    """Refuse a server that is too old.

    Arguments:
        version: as libpq gives it, 150004 for 15.4.

    Raises:
        LedgerUnavailableError: it is.
    """
    if version < OLDEST_SERVER:
        raise LedgerUnavailableError(
            f"{address} runs PostgreSQL {version // 10000}, and a ledger needs {OLDEST_SERVER // 10000} or newer. "
            "Upgrade the server."
        )


def _as_the_server_says(connection: Any, record: object) -> None:
    """Whoever has the connection next may write where the server and the role allow it, and nowhere else."""
    if connection is not None and not connection.closed:
        connection.read_only, connection.autocommit = None, False


def _driver(address: Address) -> tuple[Any, dict[str, Any]]:
    """psycopg, and the connection parameters that libpq reads out of the address."""
    try:
        import psycopg  # noqa: PLC0415 - an extra: an embedded ledger does without
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"{address} is a PostgreSQL ledger, and psycopg is not installed. Run `pip install 'mass-gov[postgres]'`."
        ) from None
    try:
        return psycopg, dict(conninfo_to_dict(address.url))
    except psycopg.ProgrammingError:  # libpq repeats the whole address, and a password may stand in it
        raise SettingsError(
            f"{address} cannot be read as a PostgreSQL address. Write postgresql://user@host:port/database, and other "
            "characters than letters and digits in user or password as %XX."
        ) from None
