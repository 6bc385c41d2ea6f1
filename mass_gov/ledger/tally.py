"""What the rows of all projections add up to, under a key of the key store: whether they are those that were written.

Replaying a log to find out whether its projections follow from it takes about a millisecond an event. Once that is
known, every append adds the rows that it writes to a sum and takes away those that it replaces (`rows`), and stores the
sum beside its signed head. Whoever opens the ledger next adds up what lies there, which is thirty times cheaper, and
replays the log only where the two differ or no sum stands at the log's end.

Rules: a row counts as BLAKE2b of its table's name and its values, under a key that follows from the master key, and the
sum is modulo 2^256 (MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, ASIACRYPT 2003). It is stored under
AES-256-GCM, bound to the log's origin, size and root: who could see sums would learn what single rows count, and could
put others in their place that add up to the same (Wagner, CRYPTO 2002). A row out of the order of its index counts as
a difference: look-ups do not find it. What the sum cannot see is an edit that a running process believed and that was
undone before the next opening: the event that it led to breaks a rule of the log, and `verify`, which replays and needs
no sum, names it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter, lt
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Table, bindparam, select
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger.schema import PROJECTIONS, log_checkpoints

SUM_BYTES = 32
_NONCE_BYTES = 12
_MODULUS = 1 << 8 * SUM_BYTES
_FOLLOWED = "mass_gov.tally"
"""In a connection's `info`: the tally of what is written there."""
_AT_A_TIME = 2048
_STORED = select(log_checkpoints.c.tally).where(log_checkpoints.c.size == bindparam("of"))
_COLUMNS = {one.name: tuple(column.name for column in one.columns) for one in PROJECTIONS}


class Tally:
    """A sum over rows. Secret: `repr` does not show it."""

    __slots__ = ("_key", "total")

    def __init__(self, key: bytes, total: int = 0) -> None:
        self._key = key
        self.total = total

    def copy(self) -> Tally:
        """Another sum that begins with the same rows."""
        return Tally(self._key, self.total)

    def add(self, of: Table, row: Mapping[str, Any]) -> None:
        """Count a row that is written; columns that it does not name are NULL."""
        self.total = (self.total + self._worth(of.name, tuple(map(row.get, _COLUMNS[of.name])))) % _MODULUS

    def take(self, of: Table, row: Mapping[str, Any] | RowMapping) -> None:
        """Count a row no longer; it has every column."""
        self.total = (self.total - self._worth(of.name, tuple(row[name] for name in _COLUMNS[of.name]))) % _MODULUS

    def add_values(self, of: Table, values: Sequence[Any]) -> None:
        """Count a row as it was read: every column, in its place."""
        self.total = (self.total + self._worth(of.name, tuple(values))) % _MODULUS

    def add_stored(self, connection: Connection) -> bool:
        """Count every row of every projection as it lies there, by the index that look-ups use.

        Returns:
            Whether each stands behind the one before: a row out of its place is counted, and no look-up finds it.
        """
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        in_place = True
        for one in PROJECTIONS:
            name, worth, total = one.name, self._worth, 0
            key = itemgetter(*(_COLUMNS[name].index(column.name) for column in one.primary_key.columns))
            last: list[Any] = []
            query = select(one).order_by(*one.primary_key.columns)
            for some in connection.execute(query, execution_options={"yield_per": _AT_A_TIME}).partitions():
                total += sum(worth(name, tuple(row)) for row in some)
                keys = last + [key(row) for row in some]
                in_place = in_place and _ascending(keys)
                last = keys[-1:]
            self.total = (self.total + total) % _MODULUS
        return in_place

    def _worth(self, name: str, values: Sequence[Any]) -> int:
        # `ascii` of text, numbers, bytes and None is never that of others, nor another in a later Python.
        written = ascii((name, *values)).encode("ascii")
        return int.from_bytes(hashlib.blake2b(written, digest_size=SUM_BYTES, key=self._key).digest(), "little")

    def __repr__(self) -> str:
        return "Tally()"


def _ascending(keys: Sequence[Any]) -> bool:
    try:
        return all(map(lt, keys, keys[1:]))
    except TypeError:  # values of other types than the schema lets in
        return False


def followed(connection: Connection) -> Tally | None:
    """What counts the rows that are written here; None where nothing does."""
    found: Tally | None = connection.info.get(_FOLLOWED)
    return found


@contextmanager
def following(connection: Connection, tally: Tally | None) -> Iterator[None]:
    """Have a tally count what is written here meanwhile."""
    info = connection.info  # asked once: a connection that was lost meanwhile has none any more
    info[_FOLLOWED] = tally
    try:
        yield
    finally:
        info.pop(_FOLLOWED, None)


class Tallies:
    """Sums of one log's projections: begun, sealed and read again by whoever has its keys."""

    def __init__(self, keys: KeyStore, origin: str) -> None:
        self._counting = keys.derived("mass-gov:tally:rows:v1")
        self._cipher = AESGCM(keys.derived("mass-gov:tally:sum:v1"))
        self._origin = origin

    def begin(self) -> Tally:
        """The sum of no rows."""
        return Tally(self._counting)

    def load(self, connection: Connection, size: int, root: bytes) -> Tally | None:
        """What the rows added up to when the log got this end; None where nothing believable says so."""
        if not size:
            return self.begin()
        sealed = connection.execute(_STORED, {"of": size}).scalar()
        if not isinstance(sealed, bytes):  # none, or what somebody put there
            return None
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound(size, root))
        except (InvalidTag, ValueError):
            return None
        return Tally(self._counting, int.from_bytes(plain, "little"))

    def sealed(self, tally: Tally, size: int, root: bytes) -> bytes:
        """A sum as it is stored."""
        nonce, plain = secrets.token_bytes(_NONCE_BYTES), tally.total.to_bytes(SUM_BYTES, "little")
        return nonce + self._cipher.encrypt(nonce, plain, self._bound(size, root))

    def _bound(self, size: int, root: bytes) -> bytes:
        return b"\0".join((self._origin.encode("utf-8"), str(size).encode("ascii"), root))
