"""One append, inside one transaction: from drafts to events.

Write order, and what a crash right after each step leaves behind. Every step up to the commit happens inside one
SQLite transaction: until the commit's record is on disk, a crash leaves the log exactly as it was, whatever was
written, and SQLite's own recovery at the next open is the only recovery there is.

    begin        nothing
    artifacts    nothing in the database; perhaps a new subject key in the key store, which seals nothing yet
    events       nothing (event rows and tree nodes)
    projections  nothing; a refusal here undoes the steps before it in the same way
    checkpoint   nothing
    commit       everything: the events are durable and signed for. The folder outside is behind by every append since
                 the last second in which it was written, which is consistent: those events could be taken off the end
                 unseen until the next opening, `close` or append brings it up to date
    outside      as `outside` says

`STEPS` names the points at which tests kill the process.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uuid6
from sqlalchemy.engine import Connection

from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.sealing import Binding, seal
from mass_gov.ledger import projector, transitions
from mass_gov.ledger.entries import Entry, make_entry
from mass_gov.ledger.store import LogHead, insert_artifact, insert_checkpoint, insert_event
from mass_gov.records.artifacts import ArtifactRef
from mass_gov.records.base import timestamp
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import EVENT_FORMAT, ChangeRecorded, Predicate

STEPS = (
    "begin",
    "artifacts",
    "events",
    "projections",
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
    clock: Callable[[], dt.datetime]
    trip: Callable[[str], None]

    def write(self, connection: Connection, head: LogHead, drafts: Sequence[EventDraft]) -> tuple[list[Entry], bytes]:
        """Write all drafts and the checkpoint behind the last of them; returns the entries and the note.

        Raises:
            RefusedError, IntegrityError, NotFoundError: a rule of the projections; the caller rolls back.
            InputError: a leaf of more than 64 KiB.
        """
        predicates = [self._predicate(connection, draft) for draft in drafts]
        self.trip("artifacts")
        entries = [make_entry(head.size + i, p, self.keys.log_signer) for i, p in enumerate(predicates)]
        for entry in entries:
            insert_event(connection, entry, head)
        self.trip("events")
        for entry in entries:
            projector.apply(connection, entry)
        transitions.settle(connection, entries)
        self.trip("projections")
        note = sign_checkpoint(Checkpoint(self.origin, head.size, head.root), self.keys.log_signer)
        insert_checkpoint(connection, head.size, note)
        self.trip("checkpoint")
        return entries, note

    def _predicate(self, connection: Connection, draft: EventDraft) -> Predicate:
        event_id = str(uuid6.uuid7())
        body = draft.body
        bound_to = body.change.identity.change_id if isinstance(body, ChangeRecorded) else event_id
        return Predicate(
            format=EVENT_FORMAT,
            event_id=event_id,
            origin=self.origin,
            # The clock is written down as it is: order is by index, and `verify` lists a clock that ran backwards.
            time=timestamp(self.clock()),
            actor=draft.actor,
            tenant=draft.tenant,
            deployment=draft.deployment,
            body=body,
            artifacts=tuple(self._seal(connection, draft, artifact, bound_to) for artifact in draft.artifacts),
        )

    def _seal(self, connection: Connection, draft: EventDraft, artifact: ArtifactDraft, bound_to: str) -> ArtifactRef:
        key = self.keys.subject_key(artifact.subject, create=True)
        sealed = seal(artifact.plaintext, key, Binding(draft.tenant, bound_to, artifact.role, artifact.index))
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
