"""Bring a restored database up to where the log had come: replay the events that it lacks, from an export.

Rules: all in one transaction, or nothing. Every leaf is believed only under the key that the log says is valid at its
index, as if it were read from the database; the events that are here already must be the first ones of the export; the
projections follow from the same rules as when the events were first written. At the end the log has the root that the
export's head was signed for, holds every checkpoint outside, and is as long as the newest of them, or nothing is kept.
Nothing is signed: heads are taken over as they stand, without what witnesses added. No key opens anything here; a
sealed artifact is taken by its digest.

This module does not know where the events come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy.engine import Connection

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.checkpoint import key_id, open_note
from mass_gov.evidence.export_lines import Closing, ExportedEvent
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import Frontier, leaf_hash, root_at
from mass_gov.ledger import projector, transitions
from mass_gov.ledger.address import Address
from mass_gov.ledger.database import DEFAULT_TIMEOUT
from mass_gov.ledger.entries import Entry, learn, read_entry
from mass_gov.ledger.ledger import Ledger
from mass_gov.ledger.migrate import check_revision, revision_of
from mass_gov.ledger.store import LogHead, insert_artifact, insert_checkpoint, insert_events, load_head, over_nodes

STEPS = ("begin", "event", "heads", "committed")
"""The points at which tests end the process."""


class RestoringLedger(Ledger):
    """A ledger that may be behind its checkpoints outside: it takes missing events, and can append nothing."""

    def _start(self, create: bool, rebuild_first: bool) -> None:
        with self._database.read() as connection:
            check_revision(revision_of(connection), self.address)
        self._trust(rebuild_first)
        self._check_derived(rebuild_first=False)

    def take(
        self, events: Iterator[ExportedEvent], closing: Callable[[], Closing | None], *, without_artifacts: bool
    ) -> tuple[int, int]:
        """Replay what is missing; returns the number of events before and after.

        Arguments:
            events: every event of the export, in order from 0.
            closing: what its closing line says, asked for when `events` has ended.
            without_artifacts: take events whose sealed artifacts did not come along; `verify` names them as missing.

        Raises:
            IntegrityError: an event does not verify or breaks a rule, the export is another log's, or it does not
                reach or agree with a checkpoint outside. Nothing was written.
            InputError: an artifact did not come along, and `without_artifacts` is false. Nothing was written.
        """
        with self._lock, self._database.write() as connection:
            self._trip("begin")
            head, ring = load_head(connection), self._trusted(connection)
            before = head.size
            replay = _Replay(connection, head, ring, self.origin, without_artifacts, self._trip)
            for event in events:
                replay.look(event)
            replay.end(closing())
            self._trip("heads")
            self._reaches_outside(connection, head.size, ring)
        self._trip("committed")
        return before, head.size

    def _reaches_outside(self, connection: Connection, size: int, ring: KeyRing) -> None:
        sizes = self._outside.sizes()
        if sizes and sizes[-1] > size:
            raise IntegrityError(
                f"The export ends at {size} events, and a checkpoint of size {sizes[-1]} stands in {self.checkpoints}. "
                "Give an export of the whole log; nothing was written."
            )
        for outside in sizes:
            for note in self._outside.notes(outside):
                checkpoint = verify_head(note, self.origin, ring)
                if checkpoint.size != outside or over_nodes(connection, partial(root_at, outside)) != checkpoint.root:
                    raise IntegrityError(
                        f"The export is another log than the one whose head of size {outside} stands in "
                        f"{self.checkpoints}. Give the genuine log's; nothing was written."
                    )


class _Replay:
    """Takes one event after the other inside one transaction."""

    def __init__(
        self,
        connection: Connection,
        head: LogHead,
        ring: KeyRing,
        origin: str,
        without_artifacts: bool,
        trip: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._head = head
        self._known = (head.size, head.root)
        self._ring = ring
        self._origin = origin
        self._without_artifacts = without_artifacts
        self._trip = trip
        self._frontier = Frontier()
        self._group: list[Entry] = []

    def look(self, event: ExportedEvent) -> None:
        """Compare an event that is here already, or write one that is missing."""
        self._frontier.append(leaf_hash(event.leaf))
        size, root = self._known
        if event.index < size:
            if event.index == size - 1 and self._frontier.root() != root:
                raise IntegrityError(
                    f"The export's first {size} events are not those of this database: one of the two is another "
                    "log. Give the genuine log's; `mass-gov verify` and `mass-gov verify --export` say which is."
                )
            return
        entry = read_entry(event.index, event.leaf, self._ring)
        if entry.predicate.origin != self._origin:
            raise IntegrityError(f"Event {event.index} of the export is of the log {entry.predicate.origin}.")
        learn(self._ring, entry)
        self._artifacts(entry, event)
        projector.apply(self._connection, entry)
        insert_events(self._connection, [entry], self._head)
        self._trip("event")
        self._group.append(entry)
        if event.note is not None:
            self._signed(event.note)

    def end(self, closing: Closing | None) -> None:
        """The head that the whole export is signed for is the one that was computed."""
        size, _ = self._known
        if closing is None or closing.origin != self._origin or closing.count < size:
            raise IntegrityError(
                f"The export is not of this log, {self._origin}, or has fewer than its {size} events. Give the one "
                "that was made last; nothing was written."
            )
        if self._group:
            self._signed(closing.checkpoint)
        checkpoint = verify_head(closing.checkpoint, self._origin, self._ring)
        if (checkpoint.size, checkpoint.root) != (self._frontier.size, self._frontier.root()):
            raise IntegrityError(
                f"The export's signed head is not that of its {self._frontier.size} events. Nothing was written; get "
                "it again from the log."
            )

    def _signed(self, note: bytes) -> None:
        """Take over a head, and end the group of events that were written together under it."""
        checkpoint = verify_head(note, self._origin, self._ring)
        if (checkpoint.size, checkpoint.root) != (self._head.size, self._head.root):
            raise IntegrityError(f"A head in the export is not that of its first {self._head.size} events.")
        transitions.settle(self._connection, self._group)
        self._group = []
        insert_checkpoint(self._connection, checkpoint.size, self._own_lines(note, checkpoint.size))

    def _own_lines(self, note: bytes, size: int) -> bytes:
        """The note as the log signed it, without cosignatures: those are kept outside the database."""
        text, lines = open_note(note)
        own = {key_id(self._origin, key) for key in self._ring.head_signers(size)}
        kept = [line.line() for line in lines if line.name == self._origin and line.key_id in own]
        return f"{text}\n{''.join(kept)}".encode()

    def _artifacts(self, entry: Entry, event: ExportedEvent) -> None:
        named = [ref.digest for ref in entry.predicate.artifacts]
        missing = [digest for digest in named if digest not in event.artifacts]
        if missing and not self._without_artifacts:
            raise InputError(
                f"{len(missing)} sealed artifact(s) of event {entry.index} did not come along. Give an export that was "
                "made with --artifacts, or say --without-artifacts: they will be missing for good."
            )
        for digest, stored in event.artifacts.items():
            if digest not in named or sha256_hex(stored) != digest:
                raise IntegrityError(f"Event {entry.index} of the export comes with an artifact that it does not name.")
            insert_artifact(self._connection, digest, stored)


def open_behind(
    where: Address | Path | str,
    keys: KeyStore | None,
    checkpoints: Path,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    trip: Callable[[str], None] = lambda step: None,
) -> RestoringLedger:
    """Open a ledger that may be behind its checkpoints outside.

    Raises:
        LedgerUnavailableError, IntegrityError: as `Ledger.open`, but not for being behind.
    """
    return RestoringLedger.open(where, keys=keys, checkpoints=checkpoints, timeout=timeout, trip=trip)
