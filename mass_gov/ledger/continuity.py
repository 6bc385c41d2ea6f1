"""Whether the log that lies there goes on from what was seen of it: asked at opening, and before anything is signed.

Three things tell what a database cannot say of itself:

    (1) what this process saw of the log: a size and its root
    (2) the newest signed head: whoever appends signs one, so events behind it are nobody's
    (3) the newest checkpoint outside, which some process of this ledger kept

Rules: the log is as long as (1) and (3) at least, has their roots at their sizes, and ends at (2); nothing is signed
above any other. An append asks for (1) and (2) where the log's end is not where this process left it, and for (3) where
the folder outside changed since it was last asked. So a database that was put back under a running process is found at
the next append, and what is signed always extends the newest checkpoint outside, hence all older ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import select
from sqlalchemy.engine import Connection

from mass_gov.errors import IntegrityError
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.merkle import EMPTY_ROOT, root_at
from mass_gov.ledger.address import Address
from mass_gov.ledger.outside import OutsideCheckpoints
from mass_gov.ledger.schema import log_checkpoints
from mass_gov.ledger.store import last_root, last_signed, over_nodes

Keys = Callable[[Connection], KeyRing]
"""The key ring, brought up to what a transaction sees of the log."""

Newest = tuple[int, tuple[bytes, ...]]
"""The size of the newest checkpoint outside, and its notes."""

_NOTE = select(log_checkpoints.c.note).order_by(log_checkpoints.c.size.desc()).limit(1)


class Continuity:
    """What was seen of one log, and whether what lies there goes on from it."""

    def __init__(self, address: Address, outside: OutsideCheckpoints) -> None:
        self._address = address
        self._outside = outside
        self._size, self._root = 0, EMPTY_ROOT
        self._held: Newest = (0, ())
        """The newest checkpoint outside that the log was found to hold."""

    def saw(self, size: int, root: bytes) -> None:
        """Remember that the log had this end."""
        self._size, self._root = size, root

    def at_opening(self, connection: Connection, newest: Newest, origin: str, keys: Keys) -> None:
        """Insist on (3), and that no event below the newest signed head is missing.

        Arguments:
            newest: the newest checkpoint outside, read before the connection's snapshot: others append meanwhile, and
                what they keep after it is of a longer log.

        Raises:
            IntegrityError: the log is older than one of them, or another.
        """
        size, _ = last_root(connection)
        if (signed := last_signed(connection)) > size:
            raise IntegrityError(
                f"The database {self._address} has {size} events and a signed head of {signed}: events were taken "
                "away. Restore the missing events; nothing is signed before."
            )
        self._insist_outside(connection, newest, size, origin, keys)

    def before_signing(self, connection: Connection, size: int, origin: str, keys: Keys) -> None:
        """Insist on (3) where the folder changed. Call it under the write lock: notes are kept after their commit.

        Raises:
            IntegrityError: the log is older than it, or another.
            LedgerUnavailableError: the folder cannot be read.
        """
        if self._outside.changed():
            self._insist_outside(connection, self._outside.newest(), size, origin, keys)

    def after_others(self, connection: Connection, size: int, root: bytes, origin: str, keys: Keys) -> None:
        """Insist on (1) and (2) where others have appended, or seem to. Call it under the write lock.

        Raises:
            IntegrityError: the log is older than what was seen, another, or ends with events that nobody signed.
        """
        if size < self._size:
            raise self.older(self._size, size)
        if self._size and over_nodes(connection, partial(root_at, self._size)) != self._root:
            raise IntegrityError(
                f"The log in {self._address} is another than the one that this process saw at size {self._size}. "
                "Restore the genuine database; `mass-gov verify` names the first difference."
            )
        head = verify_head(bytes(connection.execute(_NOTE).scalar() or b""), origin, keys(connection))
        if (head.size, head.root) != (size, root):
            raise IntegrityError(
                f"The log in {self._address} has {size} events, and its newest signed head is one of {head.size}: the "
                "others are nobody's. Nothing is signed above them; run `mass-gov verify`, and restore the database."
            )

    def older(self, seen: int, here: int) -> IntegrityError:
        """The database was put back."""
        return IntegrityError(
            f"The database {self._address} is older than the checkpoint of size {seen} in {self._outside.folder}: it "
            f"has {here} events. Restore the missing events; nothing is signed before."
        )

    def _insist_outside(self, connection: Connection, newest: Newest, size: int, origin: str, keys: Keys) -> None:
        if newest == self._held:
            return
        stated, notes = newest
        for note in notes:
            self._check_head(connection, note, stated, size, origin, keys(connection))
        self._held = newest

    def _check_head(
        self, connection: Connection, note: bytes, stated: int, size: int, origin: str, keys: KeyRing
    ) -> None:
        """The log of `size` events holds the head that a note says it had at `stated`."""
        try:
            checkpoint = verify_head(note, origin, keys)
        except IntegrityError as error:
            if stated > size:  # it may be signed by a key that one of the missing events names
                raise self.older(stated, size) from error
            raise
        if size < checkpoint.size or checkpoint.size != stated:
            raise self.older(stated, size)
        if over_nodes(connection, partial(root_at, checkpoint.size)) != checkpoint.root:
            raise IntegrityError(
                f"The log in {self._address} is another than the one whose head of size {checkpoint.size} stands in "
                f"{self._outside.folder}. Restore the genuine database; `mass-gov verify` names the first difference."
            )
