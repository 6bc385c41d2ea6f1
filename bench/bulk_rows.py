"""What the ledger writes of events, for many at once and without asking whether they may: for seeding alone.

Rows are the same as the ledger's own, which `verify` finds out: every one is compared with what the log gives. At the
end they are added up as the ledger adds up its own (`add_up`). Knows changes, rejections, answers and replays.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from moulds import Cast
from sqlalchemy import bindparam, insert, update
from sqlalchemy.engine import Connection

from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint
from mass_gov.ledger import Ledger, marks
from mass_gov.ledger.derived import Counted
from mass_gov.ledger.schema import changes, events, log_checkpoints, responses
from mass_gov.ledger.schema import marks as table
from mass_gov.ledger.store import insert_events, last_root, load_head

HEAD_EVERY = 4
"""Events to a signed head, about as where changes and answers are appended one after another."""
_NOBODY: Any = SimpleNamespace(add=lambda *_: None)
"""In place of what writes the rows of stretches one after another."""
_KEPT = ("status=", "verdict=", "type=", "tenant=", "deployment=", "actor=")


class Bulk:
    """Writes a turn at a time into an open ledger, behind what the ledger wrote itself: less than a stretch."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._bits: dict[tuple[str, int], int] = {}
        self._there: set[tuple[str, int]] = set()
        self._dirty: set[tuple[str, int]] = set()
        before = [(entry.index, entry.predicate) for entry in ledger.entries()]
        assert len(before) < marks.STRETCH
        self._tail = marks.rows_of(before, "")
        """Rows of the events after the last whole stretch, and where their changes stand."""
        self._now: dict[int, str] = {}
        self._reached = self._tail[-1]["reached"]

    def write(self, made: Sequence[Cast]) -> None:
        """Write one turn: events, tree, signed heads and rows, in one transaction."""
        ledger = self._ledger
        with ledger._database.write() as connection:
            head = load_head(connection)
            head.tail = _NOBODY
            start, frontier = head.size, head.frontier.copy()
            leaves: Sequence[Any] = made  # they have what is asked of an `Entry` here
            insert_events(connection, leaves, head, lambda: self._note_of(head.size, head.root))
            roots, _ = frontier.extend([bytes.fromhex(one.leaf_hash) for one in made])
            sizes = range(start + HEAD_EVERY, head.size, HEAD_EVERY)
            heads = [{"size": size, "note": self._note_of(size, roots[size - start - 1])} for size in sizes]
            _put(connection, log_checkpoints, heads)
            self._rows(connection, made)

    def _note_of(self, size: int, root: bytes) -> bytes:
        assert self._ledger.keys is not None
        return sign_checkpoint(Checkpoint(self._ledger.origin, size, root), self._ledger.keys.log_signer)

    def _rows(self, connection: Connection, made: Sequence[Cast]) -> None:
        whole: list[dict[str, Any]] = []
        for one in made:
            self._reached = one.row["reached"] = max(self._reached, one.row["time"])
            self._tail.append(one.row)
            if one.change is not None:
                self._now[one.index] = one.change["status"]
            if (one.index + 1) % marks.STRETCH == 0:
                whole += self._fold(one.index // marks.BLOCK)
            if one.rejects is not None:
                self._reject(one.rejects)
        _put(connection, events, whole)
        _put(connection, changes, [one.change for one in made if one.change is not None])
        _put(connection, responses, [one.response for one in made if one.response is not None])
        rejected = [{"of": one.row["change_id"], "by": one.index} for one in made if one.rejects is not None]
        if rejected:
            wanted = update(changes).where(changes.c.change_id == bindparam("of"))
            connection.execute(wanted.values(status="rejected", rejection_index=bindparam("by")), rejected)
        self._flush(connection, made[-1].index // marks.BLOCK)

    def _fold(self, block: int) -> list[dict[str, Any]]:
        """Note the bits of a stretch that is whole, and return its rows."""
        for term, bits in marks.bits_of(self._tail, self._now).items():
            self._add(term, block, bits)
        rows, self._tail, self._now = self._tail, [], {}
        return rows

    def _add(self, term: str, block: int, bits: int) -> None:
        self._bits[term, block] = self._bits.get((term, block), 0) | bits
        self._dirty.add((term, block))

    def _reject(self, index: int) -> None:
        assert not self._tail or index < self._tail[0]["index"], "its bits are written: it waited long enough"
        block, bit = divmod(index, marks.BLOCK)
        self._bits["status=held", block] &= ~(1 << bit)
        self._add("status=held", block, 0)
        self._add("status=rejected", block, 1 << bit)

    def _flush(self, connection: Connection, block: int) -> None:
        old = [key for key in self._dirty if key in self._there]
        new = [key for key in self._dirty if key not in self._there]
        if old:
            wanted = (table.c.term == bindparam("of")) & (table.c.block == bindparam("at"))
            rows = [{"of": term, "at": at, "now": marks.to_bytes(self._bits[term, at])} for term, at in old]
            connection.execute(update(table).where(wanted).values(bits=bindparam("now")), rows)
        _put(connection, table, [{"term": t, "block": at, "bits": marks.to_bytes(self._bits[t, at])} for t, at in new])
        self._there |= self._dirty
        self._dirty = set()
        past = [key for key in self._bits if key[1] < block and not key[0].startswith(_KEPT)]
        for key in past:
            del self._bits[key]
            self._there.discard(key)


def add_up(ledger: Ledger) -> None:
    """Find out what all rows add up to; the ledger stores it with its next event."""
    tally = ledger._tallies().begin()
    with ledger._database.write() as connection:
        tally.add_stored(connection)
        ledger._counted = Counted(*last_root(connection), tally)
    ledger._head = None


def _put(connection: Connection, into: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; through COPY where the engine has it."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(insert(into), rows)
        return
    driver: Any = connection.connection.driver_connection
    names = ", ".join(f'"{name}"' for name in rows[0])
    with driver.cursor() as cursor, cursor.copy(f"COPY {into.name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(list(row.values()))
