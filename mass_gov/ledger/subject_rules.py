"""Whose data is held, and whose was erased: the rows of `subjects`, derived from the log.

Rules: the system's own subject is neither held nor erased; a subject is erased once, and never while a legal hold
stands; a hold is placed once and released once. What an erasure did to keys, deltas and pointers is `flows.erase`'s.
"""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import RefusedError
from mass_gov.evidence.keystore import SYSTEM_SUBJECT
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.schema import subjects
from mass_gov.records.events import SubjectErased, SubjectHeld, SubjectReleased


def hold(connection: Connection, entry: Entry, body: SubjectHeld) -> None:
    """Place a legal hold.

    Raises:
        RefusedError: it is the system's own subject, is held already, or was erased.
    """
    row = _row(connection, body.subject)
    if row["erased_index"] is not None or row["held_index"] is not None:
        why = "was erased" if row["erased_index"] is not None else "is held already"
        raise RefusedError(f"The subject {body.subject} {why}. `mass-gov subjects list` shows where each stands.")
    _set(connection, body.subject, held_index=entry.index)


def release(connection: Connection, body: SubjectReleased) -> None:
    """End a legal hold.

    Raises:
        RefusedError: there is none.
    """
    if _row(connection, body.subject)["held_index"] is None:
        raise RefusedError(f"There is no legal hold on {body.subject}. `mass-gov subjects list` shows them.")
    _set(connection, body.subject, held_index=None)


def erase(connection: Connection, entry: Entry, body: SubjectErased) -> None:
    """Note that a subject was erased.

    Raises:
        RefusedError: a legal hold stands, it was erased before, or it is the system's own.
    """
    row = _row(connection, body.subject)
    if row["held_index"] is not None:
        raise RefusedError(
            f"The subject {body.subject} is under a legal hold (event {row['held_index']}) and cannot be erased. "
            "Release it first: `mass-gov subjects release`."
        )
    if row["erased_index"] is not None:
        raise RefusedError(f"The subject {body.subject} was erased by event {row['erased_index']}.")
    _set(connection, body.subject, erased_index=entry.index)


def subject_row(connection: Connection, subject: str) -> RowMapping | None:
    """Where a subject stands; None of one that was neither held nor erased."""
    return connection.execute(select(subjects).where(subjects.c.subject == subject)).mappings().first()


def _row(connection: Connection, subject: str) -> RowMapping:
    if subject == SYSTEM_SUBJECT:
        raise RefusedError(f"{subject} is the system's own subject and nobody's data. Name another subject.")
    row = subject_row(connection, subject)
    if row is None:
        connection.execute(insert(subjects), {"subject": subject})
        return _row(connection, subject)
    return row


def _set(connection: Connection, subject: str, **values: int | None) -> None:
    connection.execute(update(subjects).where(subjects.c.subject == subject).values(values))
