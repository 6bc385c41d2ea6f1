"""Whose data is held, and whose was erased: the rows of `subjects`, derived from the log.

Rules:

- the system's own subject is neither held nor erased; only an operator or an admin holds, releases and erases
- a hold is placed once and released once; a subject is erased once, and never while a legal hold stands
- when a subject is erased, nothing of its lineage stands any more: each change made from its data, and each later
  change made from the state of one of those, was rejected or rolled back. No pointer stands on such a state then, none
  can come back to it, and so nothing new is made or served from it
- nothing more is sealed for an erased subject, and no answer is served for a change of one

What an erasure did to keys is `flows.erase`'s; the log only says that it happened.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.sql import ColumnElement

from mass_gov.errors import PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.evidence.keystore import SYSTEM_SUBJECT
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import move_row
from mass_gov.ledger.rows import alter, put
from mass_gov.ledger.schema import changes, pointer_moves, subjects
from mass_gov.records.events import SubjectErased, SubjectHeld, SubjectReleased

_SETTLED = ("rejected", "rolled_back")


def hold(connection: Connection, entry: Entry, body: SubjectHeld) -> None:
    """Place a legal hold.

    Raises:
        PermissionRefusedError: by neither an operator nor an admin.
        RefusedError: it is the system's own subject, is held already, or was erased.
    """
    _check_actor(entry)
    row = _row(connection, body.subject)
    if row["erased_index"] is not None or row["held_index"] is not None:
        why = "was erased" if row["erased_index"] is not None else "is held already"
        raise RefusedError(f"The subject {body.subject} {why}. `mass-gov subjects list` shows where each stands.")
    alter(connection, subjects, row, {"held_index": entry.index})


def release(connection: Connection, entry: Entry, body: SubjectReleased) -> None:
    """End a legal hold.

    Raises:
        PermissionRefusedError: by neither an operator nor an admin.
        RefusedError: there is none.
    """
    _check_actor(entry)
    row = _row(connection, body.subject)
    if row["held_index"] is None:
        raise RefusedError(f"There is no legal hold on {body.subject}. `mass-gov subjects list` shows them.")
    alter(connection, subjects, row, {"held_index": None})


def erase(connection: Connection, entry: Entry, body: SubjectErased) -> None:
    """Note that a subject was erased.

    Raises:
        PermissionRefusedError: by neither an operator nor an admin.
        RefusedError: a legal hold stands, it was erased before, it is the system's own, or a change of its lineage
            still stands.
        StaleChangeError: its lineage has grown since it was counted.
    """
    _check_actor(entry)
    row = _row(connection, body.subject)
    if row["held_index"] is not None:
        raise RefusedError(
            f"The subject {body.subject} is under a legal hold (event {row['held_index']}) and cannot be erased. "
            "Release it first: `mass-gov subjects release`."
        )
    if row["erased_index"] is not None:
        raise RefusedError(f"The subject {body.subject} was erased by event {row['erased_index']}.")
    made = [change for change, _ in lineage(connection, body.subject)]
    if standing := [change["change_id"] for change in made if change["status"] not in _SETTLED]:
        raise RefusedError(
            f"The subject {body.subject} is not erased while {len(standing)} change(s) made from its data stand: "
            f"{', '.join(standing[:5])}. `mass-gov subjects erase` rolls them back first."
        )
    counted = (
        sum(change["delta"] is not None for change in made),
        sum(change["status"] == "rolled_back" for change in made),
    )
    if (body.deltas, body.rolled_back) != counted:
        raise StaleChangeError(
            f"The erasure of {body.subject} counts {body.deltas} deltas and {body.rolled_back} rolled back, and there "
            f"are {counted[0]} and {counted[1]}. Run it again."
        )
    alter(connection, subjects, row, {"erased_index": entry.index})


def refuse_erased(connection: Connection, subject: str, what: str) -> None:
    """Refuse an event that is about an erased subject's data.

    Raises:
        RefusedError: the subject was erased.
    """
    row = subject_row(connection, subject)
    if row is not None and row["erased_index"] is not None:
        raise RefusedError(
            f"{what}: the subject {subject} was erased by event {row['erased_index']}. Nothing is recorded or served "
            "for it any more; use another handle for new data."
        )


def refuse_erased_parent(connection: Connection, row: RowMapping, what: str) -> None:
    """Refuse what would be served from the parent state of a change where that stands on erased data.

    Raises:
        RefusedError: it does.
    """
    seen: RowMapping | None = row
    while seen is not None and seen["pointer_head"] is not None:
        move = move_row(connection, seen["pointer_head"])
        maker = move["to_change"] if move is not None else None
        seen = connection.execute(select(changes).where(changes.c.change_id == maker)).mappings().first()
        if seen is not None:
            refuse_erased(connection, seen["subject"], what)


def lineage(connection: Connection, subject: str) -> list[tuple[RowMapping, str]]:
    """Every change made from a subject's data, and every later one made from the state of one of these.

    Each row of `changes` comes with the id of the subject's own change that it goes back to; in the order of the log.
    One that learned nothing is in it where it is the subject's own or was made from such a state; nothing stands on it.
    """
    return _with_later(connection, changes.c.subject == subject)


def made_from(connection: Connection, change_ids: Sequence[str]) -> list[tuple[RowMapping, str]]:
    """As `lineage`, of these changes instead of a subject's."""
    return _with_later(connection, changes.c.change_id.in_(change_ids))


def _with_later(connection: Connection, first: ColumnElement[bool]) -> list[tuple[RowMapping, str]]:
    own = connection.execute(select(changes).where(first)).mappings().all()
    found = {row["change_id"]: (row, str(row["change_id"])) for row in own}
    waiting = list(found.values())
    while waiting:
        maker, root = waiting.pop()
        for row in _made_from(connection, maker):
            if row["change_id"] not in found:
                found[row["change_id"]] = (row, root)
                waiting.append((row, root))
    return sorted(found.values(), key=lambda pair: int(pair[0]["index"]))


def subject_row(connection: Connection, subject: str) -> RowMapping | None:
    """Where a subject stands; None of one that was neither held nor erased."""
    return connection.execute(select(subjects).where(subjects.c.subject == subject)).mappings().first()


def erased_handles(connection: Connection) -> dict[str, int]:
    """Every erased subject, and the index of the event that says so."""
    query = select(subjects.c.subject, subjects.c.erased_index).where(subjects.c.erased_index.is_not(None))
    return {str(subject): int(index) for subject, index in connection.execute(query.order_by(subjects.c.subject))}


def _made_from(connection: Connection, maker: RowMapping) -> list[RowMapping]:
    """Changes whose parent state is the one that `maker`'s delta made, by the pointer movement that they read it at.

    By state alone it would be too many: the same training in two deployments gives the same state.
    """
    if maker["delta"] is None:
        return []
    query = (
        select(changes)
        .join(pointer_moves, pointer_moves.c.index == changes.c.pointer_head)
        .where((changes.c.parent_state == maker["state"]) & (pointer_moves.c.to_change == maker["change_id"]))
    )
    return list(connection.execute(query).mappings())


def _check_actor(entry: Entry) -> None:
    actor = entry.predicate.actor
    if actor.role not in ("operator", "admin"):
        raise PermissionRefusedError(
            f"{actor.principal} acts as {actor.role} and cannot decide about a subject's data. Let an operator do it."
        )


def _row(connection: Connection, subject: str) -> RowMapping:
    if subject == SYSTEM_SUBJECT:
        raise RefusedError(f"{subject} is the system's own subject and nobody's data. Name another subject.")
    row = subject_row(connection, subject)
    if row is None:
        put(connection, subjects, {"subject": subject})
        return _row(connection, subject)
    return row
