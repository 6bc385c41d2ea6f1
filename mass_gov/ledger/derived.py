"""Whether what readers query follows from the log: asked before anything is signed or served.

Rules: the schema is what the migrations make (a trigger of somebody else's could rewrite rows as they are written),
indexes lead to exactly the rows of their tables (a file's; a server's are its superuser's), and every row of every
projection is what a replay of the log gives: because the rows add up to what they did when the last event was written
(`tally`), or, where no such sum stands, because the log was replayed. One snapshot. Events are believed because the
newest signed head stands over exactly these leaves; checking each signature of its own would take twice as long and
prove no more. The whole log is read, so this takes time in proportion to it (decisions 0003 and 0037). `verify` does
much more, and names every fault; this stops at the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from sqlalchemy import select
from sqlalchemy.engine import Connection

from mass_gov.errors import InputError, IntegrityError, RefusedError
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.ledger.entries import Entry, predicate_in, read_entry
from mass_gov.ledger.raw import Replica, in_order, schema_of, wanted_schema
from mass_gov.ledger.schema import PROJECTIONS, log_checkpoints, log_events
from mass_gov.ledger.storage import check_indexes
from mass_gov.ledger.tally import Tallies, Tally
from mass_gov.records.events import Predicate


@dataclass(frozen=True, slots=True)
class Counted:
    """An end of the log that a signed head stands over, and what rows add up to there where the log was replayed."""

    size: int
    root: bytes
    tally: Tally | None = None


def check_derived(
    connection: Connection, origin: str, keys: KeyRing, tallies: Tallies | None, *, rows: bool = True
) -> Counted:
    """Check the schema, the newest signed head over all leaves, and unless `rows` is false every projection.

    Arguments:
        tallies: how rows are added up; None for whoever has no keys, and replays the log.

    Returns:
        The log's end, and what rows add up to where the log was replayed.

    Raises:
        IntegrityError: the first thing that is not as it should be.
    """
    replica = Replica()
    try:
        _check_schema(connection, replica)
        _check_indexes(connection)
        size, root = _check_head(connection, origin, keys)
        if not rows or (tallies is not None and _add_up(connection, tallies, size, root)):
            return Counted(size, root)
        _replay(connection, replica, keys)
        found = tallies.begin() if tallies is not None else None
        _check_rows(connection, replica, found)
        return Counted(size, root, found)
    finally:
        replica.close()


def _check_schema(connection: Connection, replica: Replica) -> None:
    found, wanted = schema_of(connection), wanted_schema(connection, replica)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise IntegrityError(
                f"The ledger's schema is not what this program makes: {name} is missing, extra or altered. Nothing is "
                "signed in it; run `mass-gov verify`, and restore the schema from a back-up."
            )


def _check_indexes(connection: Connection) -> None:
    for fault in check_indexes(connection, [table.name for table in PROJECTIONS]):
        raise IntegrityError(
            f"The ledger's indexes do not lead to its rows: {fault}. Look-ups would miss some; nothing is signed. Run "
            "`mass-gov verify`, and restore the database from a back-up."
        )


def _leaves(connection: Connection) -> Iterator[tuple[int, bytes]]:
    query = select(log_events.c.index, log_events.c.leaf).order_by(log_events.c.index)
    return ((index, bytes(leaf)) for index, leaf in connection.execute(query, execution_options={"yield_per": 256}))


def _check_head(connection: Connection, origin: str, keys: KeyRing) -> tuple[int, bytes]:
    frontier = Frontier()
    for _, leaf in _leaves(connection):
        frontier.append(leaf_hash(leaf))
    newest = select(log_checkpoints.c.note).order_by(log_checkpoints.c.size.desc()).limit(1)
    head = verify_head(bytes(connection.execute(newest).scalar() or b""), origin, keys)
    if (head.size, head.root) != (frontier.size, frontier.root()):
        raise IntegrityError(
            f"The newest signed head is not that of the log's {frontier.size} events: something was changed, added or "
            "taken away. Nothing is signed above it; run `mass-gov verify`."
        )
    return head.size, head.root


def _replay(connection: Connection, replica: Replica, keys: KeyRing) -> None:
    for index, leaf in _leaves(connection):
        predicate = _predicate(index, leaf, keys)
        try:
            replica.follow(Entry(index, leaf, leaf_hash(leaf).hex(), predicate))
        except (RefusedError, InputError) as error:
            raise IntegrityError(f"Event {index} breaks a rule of the log: {error} Run `mass-gov verify`.") from error


def _predicate(index: int, leaf: bytes, keys: KeyRing) -> Predicate:
    try:
        return predicate_in(leaf)
    except IntegrityError:
        return read_entry(index, leaf, keys).predicate  # which says what is wrong with it, or that it is newer


def _add_up(connection: Connection, tallies: Tallies, size: int, root: bytes) -> bool:
    """Whether rows add up to what is stored at the log's end, and each stands in its place."""
    stored, found = tallies.load(connection, size, root), tallies.begin()
    return stored is not None and found.add_stored(connection) and stored.total == found.total


def _check_rows(connection: Connection, replica: Replica, tally: Tally | None) -> None:
    """Compare every row, and count those of the replay: what lies in a file may be another when it is read again."""
    for table in PROJECTIONS:
        stored = (tuple(row) for row in connection.execute(in_order(table)))
        for found, wanted in zip_longest(stored, replica.rows(table)):
            if found != wanted:
                row = dict(zip(table.columns.keys(), wanted or found or (), strict=True))
                key = ", ".join(str(row[column.name]) for column in table.primary_key.columns)
                raise IntegrityError(
                    f"The ledger does not say what its log says: {table.name} row {key} does not follow from it. "
                    "Somebody changed the database: run `mass-gov verify`, then `mass-gov log rebuild`."
                )
            if tally is not None and wanted is not None:
                tally.add_values(table, wanted)
