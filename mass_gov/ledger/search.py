"""Finding events, changes and responses by what is true of them: any conjunction, at the price of a rare one.

Rules: `find` answers with log indices, in the order of the log, from the bits of `marks`; what stands there is then
read and verified as always. A time means the latest that the log had said by then, so that a stretch of
time is a stretch of the log even where a clock ran backwards. The last events, which `marks` does not hold yet, are
read from their leaves, once in a process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from mass_gov.evidence.merkle import leaf_hash
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.history import changes_with_leaf, read_once
from mass_gov.ledger.marks import BLOCK, LEAVES, EventRow, bits_of, reached_before, rows_of, statuses, tail_start
from mass_gov.ledger.schema import changes, events, log_events, marks, registrations, responses
from mass_gov.ledger.standing import StandingReader
from mass_gov.ledger.store import last_root
from mass_gov.ledger.views import ChangeView, Registration, ResponseView

Terms = Sequence[Collection[str]]
"""Words of `marks`: of each collection at least one has to be true."""
_WINDOW, _WIDER = 16, 16
"""Rows of each word that are read at first, and how many times as wide every further window is."""


@dataclass(frozen=True, slots=True)
class _Tail:
    """The events after the last whole stretch, whose rows are not written yet.

    Attributes:
        root: of the log that ends with them.
        block, bits: where in `marks` their bits would lie, and the bits of each word.
    """

    root: bytes
    rows: list[EventRow]
    block: int
    bits: dict[str, int]


class SearchReader(StandingReader):
    """The part of a ledger that finds things. Made by `Ledger.open`."""

    _last_tail: _Tail | None = None
    """What stood there when somebody last looked: the same log says the same."""

    def find(
        self, terms: Terms, *, start: int = 0, stop: int | None = None, newest_first: bool = True, limit: int = 50
    ) -> list[int]:
        """Log indices, from `start` up to before `stop`, of the first `limit` events of which all of it is true."""
        with self._database.read() as connection:
            end, root = last_root(connection)
            stop = end if stop is None else min(stop, end)
            if start >= stop or limit <= 0:
                return []
            if not terms:
                run = range(start, stop)
                return list(run[::-1][:limit] if newest_first else run[:limit])
            found: list[int] = []
            tail = self._tail(connection, end, root)
            for first, bits in _blocks(connection, terms, start, stop, newest_first, tail):
                found += _positions(_within(bits, first, start, stop), first, newest_first)
                if len(found) >= limit:
                    break
            return found[:limit]

    def between(self, since: str | None, until: str | None) -> tuple[int, int | None]:
        """The stretch of the log from a time on, up to and with another: its first index, and the one after it."""
        with self._database.read() as connection:
            end, root = last_root(connection)
            start = self._first(connection, end, root, lambda reached: reached >= since) if since is not None else 0
            stop = self._first(connection, end, root, lambda reached: reached > until) if until is not None else None
        return end if start is None else start, stop

    def entries_at(self, indices: Sequence[int]) -> list[Entry]:
        """Events by their indices, in the order given; verified."""
        query = select(log_events.c.index, log_events.c.leaf).where(log_events.c.index.in_(indices))
        with self._database.read() as connection:
            leaves = {index: bytes(leaf) for index, leaf in connection.execute(query)}
            keys = self._trusted(connection)
        return [read_once(index, leaves[index], keys) for index in indices if index in leaves]

    def changes_at(self, indices: Sequence[int]) -> list[ChangeView]:
        """Changes by the index of the event that recorded them, in the order given."""
        found = self._views(changes_with_leaf().where(changes.c.index.in_(indices)))
        return sorted(found, key=lambda change: indices.index(change.index))

    def responses_at(self, indices: Sequence[int]) -> list[ResponseView]:
        """Responses by the index of the event that served them, in the order given."""
        found = self._responses(responses.c.index.in_(indices))
        return sorted(found, key=lambda response: indices.index(response.index))

    def event_rows(self, start: int, stop: int, columns: Sequence[str]) -> list[tuple[object, ...]]:
        """Columns of what stands beside events for lists, from `start` up to before `stop`; derived, not verified."""
        query = select(*(events.c[name] for name in columns)).order_by(events.c.index)
        with self._database.read() as connection:
            end, root = last_root(connection)
            rows = connection.execute(query.where((events.c.index >= start) & (events.c.index < stop))).all()
            tail = self._tail(connection, end, root).rows if stop > tail_start(end) else ()
        last = [tuple(row[name] for name in columns) for row in tail if start <= row["index"] < stop]
        return [*map(tuple, rows), *last]

    def leaf_hashes(self, start: int, stop: int) -> list[bytes]:
        """RFC 6962 leaf hashes of events from `start` up to before `stop`, computed from what lies there."""
        query = select(log_events.c.leaf).where((log_events.c.index >= start) & (log_events.c.index < stop))
        with self._database.read() as connection:
            return [leaf_hash(bytes(leaf)) for leaf in connection.execute(query.order_by(log_events.c.index)).scalars()]

    def registered(
        self, kind: str, *, before: int | None = None, digest: str | None = None, limit: int = 50
    ) -> list[Registration]:
        """Registrations of a kind (`schema.registrations`), the newest first."""
        query = select(registrations).where(registrations.c.kind == kind)
        if before is not None:
            query = query.where(registrations.c.index < before)
        if digest is not None:
            query = query.where(registrations.c.digest == digest)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(registrations.c.index.desc()).limit(limit)).mappings()
            return [Registration(row["index"], row["digest"], row["name"]) for row in rows]

    def _first(self, connection: Connection, end: int, root: bytes, holds: Callable[[Any], Any]) -> int | None:
        """The first event of which `holds` is true, asked of `reached`: of the column, or of a value."""
        query = select(events.c.index).where(holds(events.c.reached)).order_by(events.c.reached, events.c.index)
        index = connection.execute(query.limit(1)).scalar()
        if index is None:
            rows = self._tail(connection, end, root).rows
            index = next((row["index"] for row in rows if holds(row["reached"])), None)
        return None if index is None else int(index)

    def _tail(self, connection: Connection, end: int, root: bytes) -> _Tail:
        known = self._last_tail
        if known is not None and known.root == root:
            return known
        start = tail_start(end)
        keys = self._trusted(connection)
        leaves = connection.execute(LEAVES, {"start": start, "stop": end})
        entries = [read_once(index, bytes(leaf), keys) for index, leaf in leaves]
        rows = rows_of(((one.index, one.predicate) for one in entries), reached_before(connection, start))
        found = _Tail(root, rows, start // BLOCK, bits_of(rows, statuses(connection, start, end)))
        self._last_tail = found
        return found


def _blocks(
    connection: Connection, terms: Terms, start: int, stop: int, newest_first: bool, tail: _Tail
) -> Iterator[tuple[int, int]]:
    """(index of its first event, bits) of each row in which anything is left, in the order that is asked for."""
    words = sorted({term for any_of in terms for term in any_of})
    low, high, width = start // BLOCK, (stop - 1) // BLOCK + 1, _WINDOW
    while low < high:
        first, last = (max(low, high - width), high) if newest_first else (low, min(high, low + width))
        wanted = marks.c.term.in_(words) & (marks.c.block >= first) & (marks.c.block < last)
        rows: dict[int, dict[str, int]] = {}
        for term, block, bits in connection.execute(select(marks.c.term, marks.c.block, marks.c.bits).where(wanted)):
            rows.setdefault(block, {})[term] = int.from_bytes(bits, "little")
        if first <= tail.block < last:
            unwritten = rows.setdefault(tail.block, {})
            unwritten |= {word: unwritten.get(word, 0) | tail.bits.get(word, 0) for word in words}
        for block in sorted(rows, reverse=newest_first):
            if bits := _all_of(terms, rows[block]):
                yield block * BLOCK, bits
        low, high = (low, first) if newest_first else (last, high)
        width *= _WIDER


def _all_of(terms: Terms, bits: dict[str, int]) -> int:
    left = -1
    for any_of in terms:
        union = 0
        for term in any_of:
            union |= bits.get(term, 0)
        left &= union
    return left


def _within(bits: int, first: int, start: int, stop: int) -> int:
    """Only the bits from `start` up to before `stop`."""
    if start > first:
        bits = bits >> (start - first) << (start - first)
    return bits & ((1 << (stop - first)) - 1) if stop - first < BLOCK else bits


def _positions(bits: int, first: int, newest_first: bool) -> Iterator[int]:
    while bits:
        at = bits.bit_length() - 1 if newest_first else (bits & -bits).bit_length() - 1
        yield first + at
        bits ^= 1 << at
