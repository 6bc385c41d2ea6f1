"""The ledger: opened, appended to, closed. Reading is in `reader` and `history`.

Opening, in this order:

    (1) the schema is this program's; with `create` an empty database is migrated, and to write an older one, under the
        write lock
    (2) with `create` an empty log gets its first event, in the same transaction, unless a checkpoint outside shows
        that there was a log here before
    (3) the first event verifies under the key that it names itself, and so does every rotation after it, under the keys
        before; to write, the key store holds the private keys that the log then says are in use
    (4) the newest checkpoint outside verifies, and the log holds it: as long as it, with the same root
    (5) to write: the schema is what the migrations make, and every row of every projection is what the log gives, so
        that no row which somebody edited meanwhile decides what is signed or served: they add up to what they did when
        the last event was written (`tally`), or the log is replayed; `rebuild_first` derives the rows again instead
    (6) to write: the newest signed head stands outside, whatever a crash left there
    (7) to write: no key of an erased subject is in the key store, whatever a back-up of the keys brought back; that it
        was erased is read from the log's own event, since a key is destroyed for good
    (8) to write: a rotation of keys that was broken off is finished or undone, as the log says

Nothing is signed before all of them hold. (5) reads the whole log: see decision 0037 for what that costs. An append
asks again whether the log goes on from what was seen of it (`continuity`). Nothing here knows which engine it is:
`Database` does.
"""

from __future__ import annotations

import base64
import datetime as dt
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from mass_gov import __version__
from mass_gov.errors import IntegrityError, KeyUnavailableError, LedgerUnavailableError, MassGovError
from mass_gov.evidence.keyring import KeyRing, Purpose
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.signing_keys import PURPOSES
from mass_gov.ledger import projector
from mass_gov.ledger.address import Address
from mass_gov.ledger.continuity import Continuity
from mass_gov.ledger.database import DEFAULT_TIMEOUT, Database
from mass_gov.ledger.denials import DenialCounter, Denied
from mass_gov.ledger.derived import Counted, check_derived
from mass_gov.ledger.engines import open_database
from mass_gov.ledger.entries import Entry, claimed_log_key, learn, read_entry
from mass_gov.ledger.keyrings import bring_up, scan
from mass_gov.ledger.marks import Tail
from mass_gov.ledger.migrate import check_revision, make_schema, revision_of, upgrade
from mass_gov.ledger.outside import OutsideCheckpoints
from mass_gov.ledger.replies import Replies
from mass_gov.ledger.schema import OLDER_REVISIONS, PROJECTIONS, log_events
from mass_gov.ledger.search import SearchReader
from mass_gov.ledger.sequencer import Sequencer, Turn
from mass_gov.ledger.store import LogHead, current_head, last_root, load_head, log_end
from mass_gov.ledger.tally import Tallies, Tally, following
from mass_gov.ledger.writing import Writer
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, LogOpened, Predecessor

SYSTEM = Actor(principal="system", role="system")
"""Who opens a log."""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _no_trip(step: str) -> None:
    """Nothing happens at a step, except in tests that end the process there."""


class Ledger(SearchReader):
    """An append-only log of signed events in a SQLite file. Open it with `Ledger.open`; close it, or use `with`."""

    def __init__(
        self,
        database: Database,
        keys: KeyStore | None,
        outside: OutsideCheckpoints,
        clock: Callable[[], dt.datetime],
        trip: Callable[[str], None],
    ) -> None:
        super().__init__(database, keys)
        self._outside = outside
        self._clock = clock
        self._trip = trip
        self._continuity = Continuity(database.address, outside)
        self._head: LogHead | None = None
        """Where this process left the log; compared with what stands there before it is used."""
        self._sums: Tallies | None = None
        self._counted: Counted | None = None
        """The end that was checked, and what the rows of a replay add up to, which is stored with the next event."""
        self._predecessor: Predecessor | None = None
        self._opened = False
        """Whether it may be written."""
        self._lock = threading.Lock()
        self._sequencer = Sequencer(self._commit, self._stands)
        self._denials = DenialCounter(database, self.append, clock)
        self.replies = Replies(database, keys)
        """Answers that are given again."""

    @classmethod
    def open(
        cls,
        where: Address | Path | str,
        *,
        keys: KeyStore | None,
        checkpoints: Path,
        create: bool = False,
        clock: Callable[[], dt.datetime] = _now,
        trip: Callable[[str], None] = _no_trip,
        timeout: float = DEFAULT_TIMEOUT,
        rebuild_first: bool = False,
        owner: Address | str | None = None,
        predecessor: Predecessor | None = None,
    ) -> Self:
        """Open a ledger, or with `create` make it when there is none.

        Arguments:
            where: the SQLite file, `sqlite:///` and its path, or the address of a PostgreSQL database.
            keys: the key store; None for an auditor, who can read and prove, and neither write nor open artifacts.
            checkpoints: the folder for checkpoints, outside the database and its back-ups.
            clock: the time of events, aware.
            trip: called with the name of each write step (`writing.STEPS`) when it is done.
            timeout: seconds to wait for another process's lock.
            rebuild_first: derive the projections from the log again instead of insisting that they follow from it.
            owner: with `create`, as whom a server's schema is made and brought up to date; None for `where` itself.
            predecessor: with `create`, the sealed log that a new one succeeds: its first event names it.

        Raises:
            LedgerUnavailableError: missing, unreadable, unwritable, locked, another program's or of a newer schema.
            KeyUnavailableError: the key store is another ledger's, or none was given to create with.
            IntegrityError: the log is older than a checkpoint outside, its first event is not genuine, or a projection
                does not follow from it.
        """
        if create and keys is None:
            raise KeyUnavailableError("A ledger is made with its keys. Open the key store first, then the ledger.")
        outside = OutsideCheckpoints(checkpoints, trip)
        database = open_database(where, create=create, writable=keys is not None, timeout=timeout)
        ledger = cls(database, keys, outside, clock, trip)
        ledger._predecessor = predecessor
        try:
            brought_up = create and owner is not None and make_schema(database, owner, timeout)  # (1)
            ledger._start(create, rebuild_first or brought_up)
        except BaseException:
            database.close()
            raise
        return ledger

    @property
    def address(self) -> Address:
        """Where the database lies; prints without its password."""
        return self._database.address

    @property
    def writable(self) -> bool:
        """Whether it was opened to write."""
        return self._opened

    @property
    def outside(self) -> OutsideCheckpoints:
        """What is kept outside the database: signed heads, and those that witnesses cosigned."""
        return self._outside

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints outside the database."""
        return self._outside.folder

    def now(self) -> dt.datetime:
        """The time that an event would have."""
        return self._clock()

    def append(self, drafts: Sequence[EventDraft]) -> list[Entry]:
        """Write events, all or none; they are durable when this returns. Threads that call at once share one commit.

        Raises:
            RefusedError: what happened before does not allow it (StaleChangeError: no longer).
            NotFoundError: an event is about a change that is not here.
            InputError: an event is too large for the log.
            IntegrityError: an event contradicts itself, or the log below it is not sound.
            LedgerUnavailableError: the database or the checkpoint folder cannot be written.
            KeyUnavailableError: this ledger was opened for reading.
        """
        if not drafts:
            return []
        self._required_keys()
        entries = self._sequencer.append(drafts)
        self.remember(entries)
        return entries

    def insist_writable(self) -> None:
        """Take the writers' lock once and write nothing.

        Raises:
            LedgerUnavailableError: nobody can write just now, or soon nobody could, for want of room.
            KeyUnavailableError: this ledger was opened for reading.
        """
        self._required_keys()
        if not self._database.has_room:
            raise LedgerUnavailableError(f"The disk of the ledger {self._database.address} is full. Make room first.")
        self._outside.insist_usable()
        with self._database.write():
            pass

    def deny(self, actor: Actor, action: str, place: tuple[str, str], change_id: str | None = None) -> None:
        """Note that somebody was refused something; a flood of it becomes few events (`denials`).

        Arguments:
            place: tenant and deployment.

        Raises:
            OutageError: the database cannot be written.
        """
        if self._opened:
            self._denials.add(Denied(actor, action, *place, change_id))

    def rebuild(self) -> int:
        """Drop the projections and derive them from the log again; returns the number of events."""
        with self._lock, self._database.write() as connection:
            keys = self._trusted(connection)
            self._head = None  # with what it says the rows add up to
            for table in PROJECTIONS:
                connection.execute(delete(table))
            events = select(log_events.c.index, log_events.c.leaf).order_by(log_events.c.index)
            rows, tail = connection.execute(events.execution_options(yield_per=256)), Tail()
            tally = self._tallies().begin()
            with following(connection, tally):
                for index, leaf in rows:
                    entry = read_entry(index, bytes(leaf), keys)
                    projector.apply(connection, entry)
                    tail.add(connection, entry)
            size, root = last_root(connection)
            self._counted = Counted(size, root, tally)
            return size

    def close(self) -> None:
        """Write down what is only counted, then the newest checkpoint outside, and let go of the file.

        Raises:
            LedgerUnavailableError: the folder outside cannot be written; every event is durable all the same.
        """
        try:
            if self._opened:
                self._denials.close()
        finally:
            try:
                self._outside.flush()
            finally:
                self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, create: bool, rebuild_first: bool) -> None:
        if self.keys is not None:
            self._outside.prepare()
        with self._database.read() as connection:
            revision = revision_of(connection)
            older = revision in OLDER_REVISIONS and self.keys is not None
            if not older and (revision is not None or not create):
                check_revision(revision, self.address)  # (1)
            empty = revision is None or last_root(connection)[0] == 0
        if older:
            self._bring_up()  # (1)
        if create and empty:
            self._create()
        self._trust(rebuild_first or older)  # (3)
        self._check_outside()  # (4)
        if self.keys is not None:
            self.keys.use(self._keys_in_use())  # (3)
            self._check_derived(rebuild_first or older)  # (5)
            self._bring_outside()  # (6)
            self.keys.settle(self._keys_in_use)  # (8)
            for handle in self.erased_subjects():
                self.keys.finish_erasure(handle)  # (7)
            self.replies.forget(self._clock())
            self._opened = True

    def _bring_up(self) -> None:
        """Bring the schema up to this program's; what the projections say is derived again once the log is trusted."""
        with self._database.write() as connection:
            if revision_of(connection) in OLDER_REVISIONS:  # asked again under the lock
                upgrade(connection)

    def _create(self) -> None:
        with self._database.write() as connection:
            # Asked again under the lock: another process may have been first.
            if revision_of(connection) is None:
                upgrade(connection)
            check_revision(revision_of(connection), self.address)  # (1)
            if last_root(connection)[0] > 0:
                return
            if sizes := self._outside.sizes():  # (2)
                raise self._continuity.older(sizes[-1], 0)
            self.origin = f"mass-gov.local/{secrets.token_hex(8)}"
            turn = Turn([self._opening()])
            head = load_head(connection)
            head.tally = self._tallies().begin()
            note = self._write(connection, head, iter([turn]))
            turn.outcome()
        self._written(head, note)

    def _opening(self) -> EventDraft:
        keys = self._required_keys()
        log, delta = keys.log_signer.public_key, keys.delta_signer.public_key
        body = LogOpened(
            log_key=log.keyid,
            log_public_key=base64.b64encode(log.spki).decode("ascii"),
            delta_key=delta.keyid,
            delta_public_key=base64.b64encode(delta.spki).decode("ascii"),
            predecessor=self._predecessor,
            software=f"mass-gov/{__version__}",
        )
        return EventDraft(actor=SYSTEM, tenant="system", deployment="log", body=body)

    def _commit(self, turns: Iterator[Turn]) -> None:
        """Write a group: what the leader does for the others (`sequencer`)."""
        with self._lock:
            self._outside.retry()
            known, self._head = self._head, None
            with self._database.write() as connection:
                self._trip("begin")
                head = current_head(connection, known, log_end(connection))
                if head is not known:
                    self._continuity.after_others(connection, head.size, head.root, self.origin, self._trusted)
                    head.tally = self._tally_at(connection, head.size, head.root)
                self._continuity.before_signing(connection, head.size, self.origin, self._trusted)
                note = self._write(connection, head, turns)
            self._head = head
            self._written(head, note)

    def _write(self, connection: Connection, head: LogHead, turns: Iterator[Turn]) -> bytes:
        writer = Writer(self._required_keys(), self.origin, self._tallies(), self._clock, self._trip)
        return writer.write(connection, head, turns)

    def _written(self, head: LogHead, note: bytes) -> None:
        self._trip("committed")
        self._continuity.saw(head.size, head.root)
        self._outside.offer(head.size, note)
        self._trip("done")

    def _stands(self, entry: Entry) -> bool:
        """Whether a commit that was broken off came through. Where that cannot be read, nobody is told that it did."""
        try:
            with self._database.read() as connection:
                query = select(log_events.c.leaf).where(log_events.c.index == entry.index)
                return bytes(connection.execute(query).scalar() or b"") == entry.leaf
        except MassGovError:
            return False

    def _trust(self, read_all: bool) -> None:
        with self._database.read() as connection:
            leaf = connection.execute(select(log_events.c.leaf).where(log_events.c.index == 0)).scalar()
            if leaf is None:
                raise IntegrityError(
                    f"The log in {self.address} has no first event. Restore the database from a back-up."
                )
            ring = KeyRing(claimed_log_key(bytes(leaf)))
            opened = read_entry(0, bytes(leaf), ring)
            body = opened.predicate.body
            if not isinstance(body, LogOpened) or body.log_key != ring.at(0).keyid:
                raise IntegrityError(
                    "Event 0 does not open the log under the key that signed it. Restore the database."
                )
            learn(ring, opened)
            (scan if read_all else bring_up)(connection, ring)
        self._ring = ring
        self.origin = opened.predicate.origin

    def _check_outside(self) -> None:
        newest = self._outside.newest()  # before the snapshot
        with self._database.read() as connection:
            self._continuity.at_opening(connection, newest, self.origin, self._trusted)

    def _keys_in_use(self) -> dict[Purpose, str]:
        ring = self.key_ring
        return {purpose: ring.in_use(purpose).keyid for purpose in PURPOSES}

    def _check_derived(self, rebuild_first: bool) -> None:
        tallies = self._tallies() if self.keys is not None else None
        with self._database.read() as connection:
            trusted = self._trusted(connection)
            self._counted = check_derived(connection, self.origin, trusted, tallies, rows=not rebuild_first)
        self._continuity.saw(self._counted.size, self._counted.root)
        if rebuild_first:
            self.rebuild()

    def _tally_at(self, connection: Connection, size: int, root: bytes) -> Tally | None:
        """What the rows add up to, as this process found out by a replay, or as the log's end says it."""
        known = self._counted
        if known is not None and known.tally is not None and (known.size, known.root) == (size, root):
            return known.tally.copy()
        return self._tallies().load(connection, size, root)

    def _tallies(self) -> Tallies:
        if self._sums is None:
            self._sums = Tallies(self._required_keys(), self.origin)
        return self._sums

    def _bring_outside(self) -> None:
        """A crash may have left the folder outside many appends behind; whoever opens next does not leave it there."""
        head = self.latest_checkpoint()
        if head.size > max(self._outside.sizes(), default=0):
            self._outside.offer(head.size, head.note)
            self._outside.flush()

    def _required_keys(self) -> KeyStore:
        if self.keys is None:
            raise KeyUnavailableError("This ledger was opened for reading. Open it with its key store to write.")
        return self.keys
