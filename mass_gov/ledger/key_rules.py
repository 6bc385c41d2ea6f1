"""Which key may sign what, from which event on: the rows of `log_keys`, derived from the log.

Rules:

- the first event names the first key of each purpose; each rotation hands one purpose over to a key that was never used
- a key is valid for what stands after the event that named it, up to and with the event that hands over from it
- only a key that was handed over from can be revoked, once; of a compromised one it is known up to which size of the
  log it is believed, which lies within the log
- operators and admins decide about keys
- a change's delta is signed by the delta key that is valid where the change is recorded

Signatures are not looked at here: an entry that reaches this module is already believed.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import IntegrityError, NotFoundError, PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.rows import alter, put
from mass_gov.ledger.schema import log_keys
from mass_gov.records.events import KeyRevoked, KeyRotated, LogOpened, Purpose


def open_with(connection: Connection, entry: Entry, body: LogOpened) -> None:
    """Note the first key of each purpose."""
    _add(connection, "log", body.log_key, body.log_public_key, entry.index)
    _add(connection, "delta", body.delta_key, body.delta_public_key, entry.index)


def rotate(connection: Connection, entry: Entry, body: KeyRotated) -> None:
    """Hand a purpose over.

    Raises:
        PermissionRefusedError: neither an operator nor an admin decided so.
        StaleChangeError: another key is in use than the one that hands over.
        RefusedError: the new key was used before.
    """
    _check_actor(entry)
    row = _row(connection, body.old_key)
    if row is None or row["purpose"] != body.purpose or row["to_index"] is not None:
        raise StaleChangeError(
            f"Event {entry.index}: {body.old_key[:16]} is not the {body.purpose} key in use. `mass-gov keys list` "
            "shows which is; rotate that one."
        )
    if _row(connection, body.new_key) is not None:
        raise RefusedError(f"Event {entry.index}: the key {body.new_key[:16]} was used before. Make a new one.")
    alter(connection, log_keys, row, {"to_index": entry.index})
    _add(connection, body.purpose, body.new_key, body.new_public_key, entry.index + 1)


def revoke(connection: Connection, entry: Entry, body: KeyRevoked) -> None:
    """Note that a former key is not believed as before.

    Raises:
        PermissionRefusedError: neither an operator nor an admin decided so.
        NotFoundError: the log knows no such key.
        RefusedError: it is in use, or was revoked before.
        IntegrityError: it is believed beyond the log.
    """
    _check_actor(entry)
    row = _row(connection, body.key)
    if row is None or row["purpose"] != body.purpose:
        raise NotFoundError(f"This log knows no {body.purpose} key {body.key[:16]}. `mass-gov keys list` shows them.")
    if row["to_index"] is None or row["revoked_index"] is not None:
        why = "is in use: rotate it first" if row["to_index"] is None else "was revoked before"
        raise RefusedError(f"The key {body.key[:16]} {why}. `mass-gov keys list` shows where each stands.")
    if body.trusted_size > entry.index or (not body.compromised and body.trusted_size != entry.index):
        raise IntegrityError(
            f"Event {entry.index}: the key {body.key[:16]} is said to be believed up to size {body.trusted_size}, and "
            f"the log has {entry.index} events. Revoke it again."
        )
    values = {
        "revoked_index": entry.index,
        "compromised": int(body.compromised),
        "trusted_size": body.trusted_size if body.compromised else None,
    }
    alter(connection, log_keys, row, values)


def check_delta(connection: Connection, index: int, delta_key: str | None) -> None:
    """Check that the delta of a change was signed by the key in use; None where the change has no delta.

    Raises:
        StaleChangeError: by another: the delta key was rotated while the change was made.
    """
    in_use = key_in_use(connection, "delta")
    if delta_key is not None and delta_key != in_use:
        raise StaleChangeError(
            f"Event {index}: its delta is signed by the key {delta_key[:16]}, and {str(in_use)[:16]} is in use since. "
            "Ask the task again."
        )


def key_in_use(connection: Connection, purpose: Purpose) -> str | None:
    """The key id that is valid for the next event; None in a log that was not opened."""
    wanted = (log_keys.c.purpose == purpose) & log_keys.c.to_index.is_(None)
    found = connection.execute(select(log_keys.c.key).where(wanted)).scalar()
    return None if found is None else str(found)


def _check_actor(entry: Entry) -> None:
    actor = entry.predicate.actor
    if actor.role not in ("operator", "admin"):
        raise PermissionRefusedError(
            f"Event {entry.index}: {actor.principal} acts as {actor.role}, and only operators and admins decide about "
            "keys. Let one of them do it."
        )


def _row(connection: Connection, key: str) -> RowMapping | None:
    return connection.execute(select(log_keys).where(log_keys.c.key == key)).mappings().first()


def _add(connection: Connection, purpose: Purpose, key: str, public_key: str, index: int) -> None:
    row = {"key": key, "purpose": purpose, "public_key": public_key, "from_index": index}
    put(connection, log_keys, row)
