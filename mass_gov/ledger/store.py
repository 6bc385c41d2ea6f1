"""The rows of the log: head, events, tree nodes, checkpoints, artifacts. No rule of meaning stands here.

The tree's complete subtrees are kept by (level, position), so that a root or a proof of any size reads O(log n) rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert, or_, select
from sqlalchemy.engine import Connection

from mass_gov.errors import IntegrityError
from mass_gov.evidence.merkle import EMPTY_ROOT, Frontier, GetNode, peaks
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.schema import artifacts, log_checkpoints, log_events, log_nodes


@dataclass(slots=True)
class LogHead:
    """Where the log ends: its frontier, its root, and hence where the next event goes."""

    frontier: Frontier
    root: bytes

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
    query = select(log_events.c.index, log_events.c.root).order_by(log_events.c.index.desc()).limit(1)
    row = connection.execute(query).first()
    return (0, EMPTY_ROOT) if row is None else (int(row[0]) + 1, bytes(row[1]))


def node_reader(connection: Connection) -> GetNode:
    """Read one tree node per call, inside the caller's snapshot."""

    def get_node(level: int, position: int) -> bytes:
        wanted = (log_nodes.c.level == level) & (log_nodes.c.position == position)
        found = connection.execute(select(log_nodes.c.hash).where(wanted)).scalar()
        if found is None:
            raise IntegrityError(f"The tree node ({level}, {position}) is missing. Run `mass-gov verify`.")
        return bytes(found)

    return get_node


def insert_event(connection: Connection, entry: Entry, head: LogHead) -> None:
    """Write an event, the tree nodes that it completes, and move `head` behind it."""
    nodes = head.frontier.append(bytes.fromhex(entry.leaf_hash))
    before, head.root = head.root, head.frontier.root()
    row = {"index": entry.index, "leaf": entry.leaf, "prev_root": before, "root": head.root}
    connection.execute(insert(log_events), row)
    connection.execute(insert(log_nodes), [node._asdict() for node in nodes])


def insert_checkpoint(connection: Connection, size: int, note: bytes) -> None:
    """Write the signed head of a size."""
    connection.execute(insert(log_checkpoints), {"size": size, "note": note})


def insert_artifact(connection: Connection, digest: str, stored: bytes) -> None:
    """Write a sealed artifact under the digest of its stored bytes."""
    connection.execute(insert(artifacts), {"digest": bytes.fromhex(digest), "stored": stored})


def _peak_hashes(connection: Connection, size: int) -> list[bytes]:
    wanted = peaks(size)
    if not wanted:
        return []
    query = select(log_nodes.c.level, log_nodes.c.position, log_nodes.c.hash).where(
        or_(*((log_nodes.c.level == level) & (log_nodes.c.position == position) for level, position in wanted))
    )
    found = {(level, position): bytes(digest) for level, position, digest in connection.execute(query)}
    return [found[place] for place in wanted if place in found]
