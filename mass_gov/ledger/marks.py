"""What lists are filtered by: a row for each event, and for each word that may be asked for, where it is true.

Rules: a mark is one bit in a row of `marks`, 4096 events to a row, so that any conjunction of words is an AND of few
numbers: a rare match and none at all cost as much as a common one. A word is a name, `=` and a value. The words of an
event follow from its row in `events`, but for the status of a change, which follows from `changes` and whose bit
`restate` moves when it moves. Everything follows from the log, and the same rows from the same log, however its events
were grouped into appends.

Rows and bits are written for `STRETCH` events at once, when the last of them is there (`Tail`): other appends write
nothing here. What the events after the last whole stretch say is read from their leaves (`search`).

A change is marked at the event that recorded it, a response at the one that served it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlalchemy.engine import Connection

from mass_gov.ledger.entries import Entry, predicate_in
from mass_gov.ledger.schema import changes, events, log_events, marks
from mass_gov.ledger.tally import followed
from mass_gov.ledger.views import Status
from mass_gov.policy.measures import KINDS
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import Body, ChangeRecorded, Predicate, ReplayPerformed, ResponseServed

BLOCK = 4096
"""Events to a row of `marks`."""
STRETCH = 64
"""Events whose rows and bits are written at once; a block is a whole number of stretches."""
# Made once: building a statement takes longer than running it.
LEAVES = (
    select(log_events.c.index, log_events.c.leaf)
    .where((log_events.c.index >= bindparam("start")) & (log_events.c.index < bindparam("stop")))
    .order_by(log_events.c.index)
)
"""(index, leaf) from `start` up to before `stop`, in order."""
_REACHED = select(events.c.reached).where(events.c.index == bindparam("last"))
_STATUSES = select(changes.c.index, changes.c.status).where(
    (changes.c.index >= bindparam("start")) & (changes.c.index < bindparam("stop"))
)
_FROM_JSON = text("INSERT INTO events SELECT * FROM json_populate_recordset(NULL::events, :rows)")
_FOUND = select(marks.c.term, marks.c.bits).where(
    marks.c.term.in_(bindparam("terms", expanding=True)) & (marks.c.block == bindparam("at"))
)
_ONE = (marks.c.term == bindparam("of")) & (marks.c.block == bindparam("at"))
_CHANGED, _GONE = update(marks).where(_ONE).values(bits=bindparam("now")), delete(marks).where(_ONE)

EventRow = dict[str, Any]
"""What `events` holds of an event, by column."""


class Tail:
    """The events after the last whole stretch, as far as one writer wrote them itself; the others it reads."""

    def __init__(self) -> None:
        self._rows: list[EventRow] = []
        self._reached: str | None = None
        """As of the last event before these, where this writer wrote its row."""

    def add(self, connection: Connection, entry: Entry) -> None:
        """Go one event on; behind the last one of a stretch, write the rows and the bits of all of it."""
        self._rows.append(_row_of(entry.index, entry.predicate))
        if (entry.index + 1) % STRETCH:
            return
        start = entry.index + 1 - STRETCH
        known = [row for row in self._rows if row["index"] >= start]
        if self._reached is None:
            self._reached = reached_before(connection, start)
        rows = _in_time(_others(connection, start, known[0]["index"]) + known, self._reached)
        _fold(connection, start, rows)
        self._reached = rows[-1]["reached"]
        self._rows.clear()


def _others(connection: Connection, start: int, stop: int) -> list[EventRow]:
    """What others wrote of a stretch."""
    if start == stop:
        return []
    leaves = connection.execute(LEAVES, {"start": start, "stop": stop})
    return [_row_of(index, predicate_in(bytes(leaf))) for index, leaf in leaves]


def tail_start(size: int) -> int:
    """Index of the first event of a log of so many that has no row yet."""
    return size // STRETCH * STRETCH


def reached_before(connection: Connection, start: int) -> str:
    """The latest time that the log had said before the stretch that begins at `start`."""
    return str(connection.execute(_REACHED, {"last": start - 1}).scalar() or "")


def rows_of(predicates: Iterable[tuple[int, Predicate]], reached: str) -> list[EventRow]:
    """The rows of consecutive events; `reached` as of the one before."""
    return _in_time([_row_of(index, predicate) for index, predicate in predicates], reached)


def _in_time(rows: list[EventRow], reached: str) -> list[EventRow]:
    """Rows of consecutive events, with the latest time that the log had said up to each."""
    for row in rows:
        row["reached"] = reached = max(reached, row["time"])
    return rows


def statuses(connection: Connection, start: int, stop: int) -> dict[int, str]:
    """Where the changes stand that were recorded from `start` up to before `stop`, by index."""
    return {row[0]: row[1] for row in connection.execute(_STATUSES, {"start": start, "stop": stop})}


def _row_of(index: int, predicate: Predicate) -> EventRow:
    return {
        "index": index,
        "time": predicate.time,
        "type": predicate.body.type,
        "tenant": predicate.tenant,
        "deployment": predicate.deployment,
        "actor": predicate.actor.principal,
        "role": predicate.actor.role,
        "change_id": _change_of(predicate),
        "terms": "\n".join(_terms_beside(predicate)),
    }


def terms_in(row: Mapping[str, Any]) -> set[str]:
    """The words of an event's row."""
    named = {f"{name}={row[name]}" for name in ("type", "tenant", "deployment", "actor")}
    named |= {f"change={row['change_id']}"} if row["change_id"] is not None else set()
    return named | set(filter(None, str(row["terms"]).split("\n")))


def bits_of(rows: Iterable[Mapping[str, Any]], now: Mapping[int, str]) -> dict[str, int]:
    """Word -> bits, of rows of one block; `now` says where changes stand."""
    found: dict[str, int] = {}
    for row in rows:
        index = row["index"]
        for term in terms_in(row) | ({f"status={now[index]}"} if index in now else set()):
            found[term] = found.get(term, 0) | 1 << index % BLOCK
    return found


def restate(connection: Connection, index: int, old: str, new: str) -> None:
    """Move the status of the change that was recorded at `index`, where its bits are written already."""
    if old == new or connection.execute(select(events.c.index).where(events.c.index == index)).first() is None:
        return
    block, bit = divmod(index, BLOCK)
    _write(connection, block, {f"status={new}": 1 << bit}, {f"status={old}": 1 << bit})


def terms_of(predicate: Predicate) -> set[str]:
    """The words of an event, but for the status of a change."""
    return terms_in(_row_of(0, predicate))


def first_status(change: ChangeBody) -> Status:
    """Where a change stands when it is recorded."""
    if change.decision.verdict == "apply":
        return "applied" if change.identity.scope == "instance" else "pending"
    return "held" if change.decision.verdict == "hold" else "rejected"


def _change_terms(change: ChangeBody) -> Iterable[str]:
    identity = change.identity
    yield f"verdict={change.decision.verdict}"
    yield f"scope={identity.scope}"
    yield f"requester={identity.requester}"
    yield f"subject={identity.subject}"
    # Sorted, since a set's order is each process's own, and what is derived has to be the same in all of them.
    yield from sorted({f"failed={gate.name}" for gate in change.gates if gate.verdict == "fail"})
    yield from (f"domain={domain}" for domain in domains_of(change))


def domains_of(change: ChangeBody) -> list[str]:
    """The task domains of a change, as far as the leaf says: those that its kept practice was of, sorted.

    Where a policy asks for no window gate that needs them, none are recorded, nor of text that no domain knows.
    """
    return sorted(one.name.rpartition(".")[2] for one in change.measures or () if one.name in KINDS)


def _change_of(predicate: Predicate) -> str | None:
    """The change that an event is about."""
    body = predicate.body
    if isinstance(body, ChangeRecorded):
        return body.change.identity.change_id
    if isinstance(body, ReplayPerformed):
        return None  # its target may be a response too
    return _said(body, "change_id")


def _terms_beside(predicate: Predicate) -> Iterable[str]:
    """The words that do not follow from an event's other columns."""
    body = predicate.body
    if isinstance(body, ChangeRecorded):
        yield from _change_terms(body.change)
    elif isinstance(body, ResponseServed):
        yield f"served={body.served}"
        yield f"state={body.state}"
        if body.unadapted is not None:
            yield f"subject={body.unadapted.subject}"
    elif subject := _said(body, "subject"):
        yield f"subject={subject}"


def _said(body: Body, name: str) -> str | None:
    """What a body says under a name; None where it has no such name, which pydantic takes long to find out."""
    found: str | None = getattr(body, name) if name in type(body).model_fields else None
    return found


def _fold(connection: Connection, start: int, rows: list[EventRow]) -> None:
    """Write the rows and the bits of the stretch that begins at `start`."""
    if connection.dialect.name == "postgresql":
        connection.execute(_FROM_JSON, {"rows": json.dumps(rows)})  # row by row it takes twice as long
    else:
        connection.execute(insert(events), rows)
    if (tally := followed(connection)) is not None:
        for row in rows:
            tally.add(events, row)
    changed = any(row["type"] == "change.recorded" for row in rows)
    now = statuses(connection, start, start + STRETCH) if changed else {}
    _write(connection, start // BLOCK, bits_of(rows, now), {})


def _write(connection: Connection, block: int, added: Mapping[str, int], taken: Mapping[str, int]) -> None:
    """Set bits and take others away; a word that is true of nothing has no row."""
    terms = sorted({*added, *taken})
    rows = connection.execute(_FOUND, {"terms": terms, "at": block})
    stored = {str(term): bytes(bits) for term, bits in rows}
    there = {term: int.from_bytes(bits, "little") for term, bits in stored.items()}
    now = {term: there.get(term, 0) & ~taken.get(term, 0) | added.get(term, 0) for term in terms}
    new = [term for term in terms if term not in there and now[term]]
    made = [{"term": term, "block": block, "bits": to_bytes(now[term])} for term in new]
    changed = [{"of": term, "at": block, "now": to_bytes(now[term])} for term in there if now[term]]
    gone = [{"of": term, "at": block} for term in there if not now[term]]
    for statement, values in ((insert(marks), made), (_CHANGED, changed), (_GONE, gone)):
        if values:
            connection.execute(statement, values)
    if (tally := followed(connection)) is not None:
        for term, bits in stored.items():
            tally.take(marks, {"term": term, "block": block, "bits": bits})
        for term in terms:
            if now[term]:
                tally.add(marks, {"term": term, "block": block, "bits": to_bytes(now[term])})


def to_bytes(bits: int) -> bytes:
    """Bits as they are stored: little-endian, no longer than the highest one needs."""
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
