"""One group of appends, inside one transaction: from drafts to events.

The first turn is written by itself and every further one inside a savepoint, so that what a rule refuses to one caller
is undone alone; events, tree nodes and one signed head of all turns follow. Write order, and what a crash right after
each step leaves behind. Every step up to the commit happens inside one transaction: until the commit's record is on
disk, a crash leaves the log exactly as it was, whatever was written, and the engine's own recovery at the next open is
the only recovery there is.

    begin        nothing
    artifacts    nothing in the database; perhaps a new subject key in the key store, which seals nothing yet
    projections  nothing; a refusal here undoes this turn, and a failure of the database all of them
    events       nothing (event rows and tree nodes)
    checkpoint   nothing
    commit       everything: the events are durable and signed for. The folder outside is behind by every append since
                 the last second in which it was written, which is consistent: those events could be taken off the end
                 unseen until the next opening, `close` or append brings it up to date
    outside      as `outside` says

`STEPS` names the points at which tests kill the process. A rotation of the log's key ends its group, because what comes
after it is signed by another key.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import uuid6
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from mass_gov.errors import StaleChangeError
from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.sealing import Binding, Reference
from mass_gov.evidence.sealing import seal as seal_artifact
from mass_gov.ledger import projector, transitions
from mass_gov.ledger.entries import Entry, make_entry
from mass_gov.ledger.key_use import bring_signers_up, event_signers, head_signers, refuse_after_rotation
from mass_gov.ledger.log_writer import log_writer
from mass_gov.ledger.sequencer import Turn
from mass_gov.ledger.store import LogHead, insert_artifact, insert_events, keys_in_use
from mass_gov.ledger.tally import Tallies, followed, following
from mass_gov.records.artifacts import ArtifactRef
from mass_gov.records.base import timestamp
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import EVENT_FORMAT, ChangeRecorded, KeyRotated, Predicate

STEPS = (
    "begin",
    "artifacts",
    "projections",
    "events",
    "checkpoint",
    "committed",
    "outside:renaming",
    "outside:renamed",
    "done",
)


@dataclass(frozen=True, slots=True)
class Writer:
    """What an append needs besides its drafts."""

    keys: KeyStore
    origin: str
    tallies: Tallies
    clock: Callable[[], dt.datetime]
    trip: Callable[[str], None]

    def write(self, connection: Connection, head: LogHead, turns: Iterable[Turn]) -> bytes:
        """Write every turn, and one signed head behind the last of them; `head` moves there. Returns the head's note.

        Which keys sign is as the log has it. Sets `entries` or `error` of each turn.

        Raises:
            MassGovError: the first turn is refused: the caller rolls back, and no other turn was taken.
            SQLAlchemyError: the database failed, and the caller rolls everything back.
        """
        with following(connection, head.tally):
            return self._write(connection, head, turns)

    def _write(self, connection: Connection, head: LogHead, turns: Iterable[Turn]) -> bytes:
        signing = bring_signers_up(keys_in_use(connection, head), self.keys)
        written: list[Entry] = []
        marked = False
        for turn in turns:
            if not written:
                # The transaction itself is its savepoint: it is alone, and mostly stays so.
                turn.entries = self._entries(connection, head.size, turn.drafts)
            else:
                self._join(connection, head.size + len(written), turn, again=marked)
                marked = True
            written += turn.entries
            if any(isinstance(draft.body, KeyRotated) for draft in turn.drafts):
                head.keys = None
                break
        signers = head_signers(signing, self.keys, written[-1].predicate.body)

        def sign() -> bytes:
            return sign_checkpoint(Checkpoint(self.origin, head.size, head.root), *signers)

        def seal() -> bytes | None:
            return self.tallies.sealed(head.tally, head.size, head.root) if head.tally is not None else None

        note = insert_events(connection, written, head, sign, seal)
        self.trip("events")
        self.trip("checkpoint")
        return note

    def _join(self, connection: Connection, start: int, turn: Turn, again: bool) -> None:
        """Write another turn into the same transaction; what a rule refuses to it is undone alone."""
        log, tally = log_writer(connection), followed(connection)
        before = tally.total if tally is not None else 0
        log.mark(connection, again)
        try:
            turn.entries = self._entries(connection, start, turn.drafts)
        except SQLAlchemyError:
            raise  # no rule said so: whether the others can still be written is not known
        except Exception as error:  # whatever is wrong with one caller's drafts is nobody else's
            log.undo(connection)
            if tally is not None:
                tally.total = before
            turn.refuse(error)

    def _entries(self, connection: Connection, start: int, drafts: Sequence[EventDraft]) -> list[Entry]:
        """Seal, sign and project one caller's drafts.

        Raises:
            RefusedError, IntegrityError, NotFoundError: a rule of the projections.
            StaleChangeError: a draft is written later than it may be.
            InputError: a leaf of more than 64 KiB.
        """
        refuse_after_rotation([draft.body for draft in drafts])
        predicates = [self._predicate(connection, draft) for draft in drafts]
        self.trip("artifacts")
        entries = [make_entry(start + i, p, *event_signers(self.keys, p.body)) for i, p in enumerate(predicates)]
        for entry in entries:
            projector.apply(connection, entry)
        transitions.settle(connection, entries)
        self.trip("projections")
        return entries

    def _predicate(self, connection: Connection, draft: EventDraft) -> Predicate:
        event_id = str(uuid6.uuid7())
        body, now = draft.body, self.clock()
        if draft.not_after is not None and now > draft.not_after:
            raise StaleChangeError(
                f"What a {body.type} rests on was good until {timestamp(draft.not_after)}, and it is "
                f"{timestamp(now)} by now. Look again."
            )
        bound_to = body.change.identity.change_id if isinstance(body, ChangeRecorded) else event_id
        return Predicate(
            format=EVENT_FORMAT,
            event_id=event_id,
            origin=self.origin,
            # The clock is written down as it is: order is by index, and `verify` lists a clock that ran backwards.
            time=timestamp(now),
            actor=draft.actor,
            tenant=draft.tenant,
            deployment=draft.deployment,
            body=body,
            artifacts=tuple(self._seal(connection, draft, artifact, bound_to) for artifact in draft.artifacts),
        )

    def _seal(self, connection: Connection, draft: EventDraft, artifact: ArtifactDraft, bound_to: str) -> ArtifactRef:
        key = self.keys.subject_key(artifact.subject, create=True)
        older = artifact.older
        reference = Reference(older.change_id, older.stored, older.plaintext) if older is not None else None
        binding = Binding(draft.tenant, bound_to, artifact.role, artifact.index)
        sealed = seal_artifact(artifact.plaintext, key, binding, reference)
        insert_artifact(connection, sealed.digest, sealed.stored)
        return ArtifactRef(
            role=artifact.role,
            index=artifact.index,
            digest=sealed.digest,
            size=len(sealed.stored),
            commitment=sealed.commitment,
            subject=artifact.subject,
        )


def binding_of(predicate: Predicate, ref: ArtifactRef) -> Binding:
    """Where an artifact of an event belongs: the associated data under which it was sealed."""
    body = predicate.body
    bound_to = body.change.identity.change_id if isinstance(body, ChangeRecorded) else predicate.event_id
    return Binding(predicate.tenant, bound_to, ref.role, ref.index)
