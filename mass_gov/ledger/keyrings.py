"""The key ring of a stored log: its first key, and what verified rotations and revocations say after it.

Rules: the rows of `log_keys` only say where to look. Every event that changes the ring is read from the log and
verified under the keys known before it, so a row that lies can hide a key (what it signed is then refused) and never
bring one in. `scan` reads every event instead, for when the rows cannot be relied on at all.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection

from mass_gov.errors import IntegrityError
from mass_gov.evidence.keyring import KeyRing
from mass_gov.ledger.entries import Entry, learn, read_entry
from mass_gov.ledger.schema import log_events, log_keys


def bring_up(connection: Connection, keys: KeyRing) -> None:
    """Teach the ring what the log says about keys beyond what it knows.

    Raises:
        IntegrityError: an event that changes keys does not verify, or is none.
    """
    rows = connection.execute(select(log_keys.c.from_index, log_keys.c.revoked_index)).all()
    if len(rows) == len(keys) and sum(row[1] is not None for row in rows) == sum(t.revoked is not None for t in keys):
        return
    told = {max(row[0] - 1, 0) for row in rows} | {row[1] for row in rows if row[1] is not None}
    for index in sorted(told):
        learn(keys, entry_at(connection, index, keys))


def scan(connection: Connection, keys: KeyRing) -> None:
    """Teach the ring from every event of the log, in order; time in proportion to the log.

    Raises:
        IntegrityError: an event does not verify.
    """
    rows = select(log_events.c.index, log_events.c.leaf).order_by(log_events.c.index)
    for index, leaf in connection.execute(rows, execution_options={"yield_per": 256}):
        learn(keys, read_entry(index, bytes(leaf), keys))


def entry_at(connection: Connection, index: int, keys: KeyRing) -> Entry:
    """The event at `index`, verified under what the ring knows.

    Raises:
        IntegrityError: there is none, or it does not verify.
    """
    leaf = connection.execute(select(log_events.c.leaf).where(log_events.c.index == index)).scalar()
    if leaf is None:
        raise IntegrityError(f"The log has no event {index}, which should say something about keys. Restore it.")
    return read_entry(index, bytes(leaf), keys)
