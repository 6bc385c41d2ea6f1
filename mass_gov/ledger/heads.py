"""Reading signed heads, and the log as it is stored: what exports and proofs are made of.

Rules: a head that is handed out was verified under the key of its size. Stored events are handed out as they lie,
unverified, in pages: whoever takes them computes the tree over them and compares it with a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import select

from mass_gov.errors import IntegrityError, NotFoundError
from mass_gov.evidence import merkle
from mass_gov.evidence.keyring import verify_head
from mass_gov.ledger.reader import LogReader
from mass_gov.ledger.schema import log_checkpoints, log_events
from mass_gov.ledger.store import over_nodes
from mass_gov.ledger.views import Head

_PAGE = 512
"""Events that are read at a time; a leaf takes some kilobytes."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it lies: its leaf, and the signed note of the head that ends with it, where there is one."""

    index: int
    leaf: bytes = field(repr=False)
    note: bytes | None = field(repr=False)


class HeadReader(LogReader):
    """The part of a ledger that hands out signed heads. Made by `Ledger.open`."""

    def head(self, size: int) -> Head:
        """The signed head of `size` events.

        Raises:
            NotFoundError: none was signed at this size; the message names one that was.
            IntegrityError: it does not verify, or is of another size.
        """
        newest_first = log_checkpoints.c.size.desc()
        query = select(log_checkpoints.c.size, log_checkpoints.c.note).where(log_checkpoints.c.size <= size)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(newest_first).limit(1)).first()
            keys = self._trusted(connection)
        if row is None or row[0] != size:
            nearest = "" if row is None else f" The nearest one before has {row[0]}: use that."
            raise NotFoundError(f"The log has no signed head of size {size}.{nearest or ' Use a later one.'}")
        checkpoint = verify_head(bytes(row[1]), self.origin, keys)
        if checkpoint.size != size:
            raise IntegrityError(f"The head stored for size {size} is one of {checkpoint.size}. Run `mass-gov verify`.")
        return Head(checkpoint.origin, size, checkpoint.root.hex(), bytes(row[1]))

    def head_sizes(self, limit: int) -> list[int]:
        """Sizes that have a signed head, the newest first."""
        query = select(log_checkpoints.c.size).order_by(log_checkpoints.c.size.desc()).limit(limit)
        with self._database.read() as connection:
            return [int(size) for size in connection.execute(query).scalars()]

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` events, from the stored tree."""
        with self._database.read() as connection:
            return over_nodes(connection, partial(merkle.root_at, size))

    def stored_events(self, stop: int) -> Iterator[StoredEvent]:
        """The first `stop` events as they lie, with their heads; memory does not grow with the log."""
        heads = log_events.outerjoin(log_checkpoints, log_checkpoints.c.size == log_events.c.index + 1)
        query = select(log_events.c.index, log_events.c.leaf, log_checkpoints.c.note).select_from(heads)
        for start in range(0, stop, _PAGE):
            wanted = (log_events.c.index >= start) & (log_events.c.index < min(stop, start + _PAGE))
            with self._database.read() as connection:
                rows = connection.execute(query.where(wanted).order_by(log_events.c.index)).all()
            for index, leaf, note in rows:
                yield StoredEvent(int(index), bytes(leaf), None if note is None else bytes(note))
