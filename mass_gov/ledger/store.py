"""The rows of the log: head, events, tree nodes, checkpoints, artifacts. No rule of meaning stands here.

The tree's complete subtrees are kept by (level, position), so that a root or a proof of any size reads O(log n) rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.engine import Connection

from mass_gov.errors import IntegrityError
from mass_gov.evidence.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, GetNode, Node, peaks
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.log_writer import EventRow, LogEnd, log_writer
from mass_gov.ledger.marks import Tail
from mass_gov.ledger.schema import log_checkpoints, log_events
from mass_gov.ledger.tally import Tally

Result = TypeVar("Result")

# Made once: building a statement takes longer than running it.
_LAST = select(log_events.c.index, log_events.c.root).order_by(log_events.c.index.desc()).limit(1)


@dataclass(slots=True)
class LogHead:
    """Where the log ends: its frontier, its root, hence where the next event goes, and what lists do not hold yet.

    Attributes:
        keys: which keys sign the next event, key id by purpose; None where the log has to be asked.
        tally: what the rows of projections add up to; None where nobody knows.
    """

    frontier: Frontier
    root: bytes
    tail: Tail = field(default_factory=Tail)
    keys: dict[str, str] | None = None
    tally: Tally | None = None

    @property
    def size(self) -> int:
        """Number of events."""
        return self.frontier.size


def load_head(connection: Connection) -> LogHead:
    """Read the head and check that the last event and the tree say the same.

    Raises:
        IntegrityError: they do not, so nothing may be signed on top of them.
    """
    size, root = last_root(connection)
    frontier = Frontier(size, _peak_hashes(connection, size))
    if frontier.root() != root:
        raise IntegrityError(f"The last event's root and the tree disagree at size {size}. Run `mass-gov verify`.")
    return LogHead(frontier, root)


def last_root(connection: Connection) -> tuple[int, bytes]:
    """(size, root) as the last event states it."""
    row = connection.execute(_LAST).first()
    return (0, EMPTY_ROOT) if row is None else (int(row[0]) + 1, bytes(row[1]))


def last_signed(connection: Connection) -> int:
    """Size of the newest signed head; 0 when there is none."""
    newest = select(log_checkpoints.c.size).order_by(log_checkpoints.c.size.desc()).limit(1)
    return int(connection.execute(newest).scalar() or 0)


def over_nodes(connection: Connection, work: Callable[[GetNode], Result]) -> Result:
    """What `work` makes of tree nodes, inside the caller's snapshot; all of them are read in one statement.

    Which nodes a proof or a root takes follows from sizes alone, so it is asked what it takes before they are read.

    Raises:
        IntegrityError: one of them is missing.
    """
    wanted: dict[tuple[int, int], None] = {}

    def note(level: int, position: int) -> bytes:
        wanted[level, position] = None
        return bytes(HASH_BYTES)

    work(note)
    found = log_writer(connection).nodes(connection, list(wanted)) if wanted else {}

    def get_node(level: int, position: int) -> bytes:
        if (level, position) not in found:
            raise IntegrityError(f"The tree node ({level}, {position}) is missing. Run `mass-gov verify`.")
        return bytes(found[level, position])

    return work(get_node)


def log_end(connection: Connection) -> LogEnd:
    """What a writer asks first, under the write lock."""
    return log_writer(connection).end(connection)


def keys_in_use(connection: Connection, head: LogHead) -> dict[str, str]:
    """Which keys sign the event behind `head`: asked once, since nothing but an event changes it."""
    if head.keys is None:
        head.keys = log_writer(connection).keys(connection)
    return head.keys


def current_head(connection: Connection, known: LogHead | None, end: LogEnd) -> LogHead:
    """The head of the log, from `known` where the last event still states it: nobody else has appended since.

    Raises:
        IntegrityError: as `load_head`.
    """
    if known is not None and end == (known.size, known.root):
        return known
    return load_head(connection)


def insert_event(connection: Connection, entry: Entry, head: LogHead) -> None:
    """Write an event, the tree nodes that it completes, and move `head` behind it."""
    insert_events(connection, [entry], head)


def insert_events(
    connection: Connection,
    entries: Sequence[Entry],
    head: LogHead,
    sign: Callable[[], bytes] | None = None,
    seal: Callable[[], bytes | None] | None = None,
) -> bytes:
    """Write events in their order, the tree nodes and the stretches that they complete, and move `head` behind them.

    Arguments:
        sign: signs the head once it has moved; its note is written along, and returned.
        seal: gives the tally as it is stored, once everything has been counted; it is written along.
    """
    rows: list[EventRow] = []
    nodes: list[Node] = []
    for entry in entries:
        nodes += head.frontier.append(bytes.fromhex(entry.leaf_hash))
        before, head.root = head.root, head.frontier.root()
        rows.append((entry.index, entry.leaf, before, head.root))
        head.tail.add(connection, entry)
    note = sign() if sign is not None else b""
    sealed = seal() if seal is not None else None
    log_writer(connection).events(connection, rows, nodes, (head.size, note, sealed) if sign is not None else None)
    return note


def insert_checkpoint(connection: Connection, size: int, note: bytes) -> None:
    """Write the signed head of a size."""
    log_writer(connection).checkpoint(connection, size, note)


def insert_artifact(connection: Connection, digest: str, stored: bytes) -> None:
    """Write a sealed artifact under the digest of its stored bytes."""
    log_writer(connection).artifact(connection, bytes.fromhex(digest), stored)


def _peak_hashes(connection: Connection, size: int) -> list[bytes]:
    wanted = peaks(size)
    if not wanted:
        return []
    found = log_writer(connection).nodes(connection, wanted)
    return [bytes(found[place]) for place in wanted if place in found]
