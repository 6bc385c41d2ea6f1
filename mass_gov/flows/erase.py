"""Erase a subject: undo what stands on its data, destroy its key, and say so in the log. Legal holds beside it.

The order, and what a crash right after each step leaves behind. Running the same command again finishes it from any of
them, because each step looks at where things stand and not at what was done before:

    (a) look         nothing was done. Under a legal hold it ends here
    (b) find         nothing was done
    (c) undo         one append: what was made from the data is rolled back or rejected, pointers stand before it. The
                     contents are still readable; what another process makes from them meanwhile is found in (e)
    (d) destroy      first the mark, then the key: from the mark on nothing of the subject can be read or sealed. The
                     log does not say so yet, and `verify` warns of a mark without an event
    (e) record       one append: what slipped in between (c) and (d) is undone, and `subject.erased` is written. The
                     ledger takes it only when nothing of the lineage stands

Undoing comes before destroying, because a pointer must never stand on a delta that nobody can open. Destroying comes
before recording, because the log must never say of a key that it is gone while it is not. A hold and an erasure exclude
each other by a lock on the key store. Later changes of others are undone too and stay readable: what was trained on top
of erased data cannot be shown to be free of it. Needs no model and no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mass_gov.errors import KeyUnavailableError, MassGovError, PermissionRefusedError, RefusedError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.approve import reason_artifact
from mass_gov.flows.authority import authorise
from mass_gov.flows.handles import SYSTEM_SUBJECT
from mass_gov.flows.lineage import Lineage, Undoing, to_undo, trace
from mass_gov.flows.rollback import insist, rollback_drafts
from mass_gov.ledger import ChangeView, Ledger, SubjectView
from mass_gov.records.artifacts import ReasonContent
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import (
    Actor,
    ChangeRejected,
    SubjectErased,
    SubjectHeld,
    SubjectReleased,
)

STEPS = ("looked", "undone", "destroyed", "recorded")
"""The points at which tests end the process."""

_PLACE = ("system", "subjects")
"""Tenant and deployment of events about subjects: a subject's data may lie in several."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did.

    Attributes:
        lineage: what was made from the subject's data, as it stands now.
        rolled_back, rejected: what this call undid.
        index: log index of the event that says that the subject was erased.
        already: whether it had been erased before; then nothing but its key's files was looked after.
    """

    lineage: Lineage
    rolled_back: tuple[ChangeView, ...]
    rejected: tuple[ChangeView, ...]
    index: int
    already: bool


def erase(
    ledger: Ledger, handle: str, actor: Actor, reason: str, *, trip: Callable[[str], None] = lambda step: None
) -> Erased:
    """Erase a subject; calling again finishes what was begun, or does nothing.

    Raises:
        PermissionRefusedError: the actor is neither operator nor admin.
        RefusedError: a legal hold stands, or it is the system's own subject.
        NotFoundError: nothing is recorded for this handle.
        KeyUnavailableError: the key store is not here, or the key cannot be removed.
        StaleChangeError: others wrote faster than this could look, several times; run it again.
        IntegrityError: the database says that it was erased already, and the log does not.
    """
    keys = _allowed(ledger, handle, actor)
    with keys.deciding_about_subjects():
        subject = ledger.subject(handle)  # (a)
        if subject.erased_index is not None:
            ledger.insist_erased(handle, subject.erased_index)
            keys.finish_erasure(handle)
            return Erased(trace(ledger, handle), (), (), subject.erased_index, already=True)
        refuse_held(ledger, subject)
        trip("looked")
        done = insist(lambda: _undo(ledger, handle, actor, reason))  # (b), (c)
        trip("undone")
        keys.finish_erasure(handle)  # (d)
        trip("destroyed")
        late = insist(lambda: _record(ledger, handle, actor, reason))  # (e)
        trip("recorded")
    undone = [change.change_id for undoing in (done, late) for change, _ in undoing.rolled_back]
    refused = [change.change_id for undoing in (done, late) for change in undoing.rejected]
    return Erased(
        lineage=trace(ledger, handle),
        rolled_back=tuple(ledger.change(change_id) for change_id in undone),
        rejected=tuple(ledger.change(change_id) for change_id in refused),
        index=ledger.subject(handle).erased_index or 0,
        already=False,
    )


def hold(ledger: Ledger, handle: str, actor: Actor, reason: str) -> SubjectView:
    """Place a legal hold on a subject: it cannot be erased until it is released.

    Raises:
        PermissionRefusedError, NotFoundError, KeyUnavailableError: as for `erase`.
        RefusedError: it is held already, or was erased, also where the log does not say so yet.
    """
    keys = _allowed(ledger, handle, actor)
    with keys.deciding_about_subjects():
        ledger.subject(handle)
        if keys.is_destroyed(handle):
            raise RefusedError(f"The key of {handle} is destroyed: there is nothing left to hold. Erase it to say so.")
        ledger.append([_draft(SubjectHeld(subject=handle), actor, reason)])
    return ledger.subject(handle)


def release(ledger: Ledger, handle: str, actor: Actor, reason: str) -> SubjectView:
    """End a legal hold.

    Raises:
        PermissionRefusedError, NotFoundError, KeyUnavailableError: as for `erase`.
        RefusedError: there is none.
    """
    keys = _allowed(ledger, handle, actor)
    with keys.deciding_about_subjects():
        ledger.subject(handle)
        ledger.append([_draft(SubjectReleased(subject=handle), actor, reason)])
    return ledger.subject(handle)


def refuse_held(ledger: Ledger, subject: SubjectView) -> None:
    """Refuse to go on where a legal hold stands.

    Raises:
        RefusedError: with the event that placed it, and its reason where that can be opened.
    """
    if subject.held_index is None:
        return
    why = reason_of(ledger, subject.held_index)
    raise RefusedError(
        f"The subject {subject.subject} is under a legal hold, placed by event {subject.held_index}"
        f"{f' ({why})' if why is not None else ''}, and is not erased. Release it first: `mass-gov subjects release`."
    )


def reason_of(ledger: Ledger, index: int) -> str | None:
    """The reason that an event was given; None where it cannot be opened here."""
    try:
        return ReasonContent.model_validate(parse_canonical(ledger.artifact(ledger.entry(index), "reason"))).text
    except MassGovError:
        return None


def _allowed(ledger: Ledger, handle: str, actor: Actor) -> KeyStore:
    authorise(ledger, actor, "subjects", _PLACE)
    if actor.role not in ("operator", "admin"):
        raise PermissionRefusedError(
            f"{actor.principal} acts as {actor.role} and cannot decide about a subject's data. Let an operator do it."
        )
    if handle == SYSTEM_SUBJECT:
        raise RefusedError(f"{handle} is the system's own subject and nobody's data. Name another subject.")
    if ledger.keys is None:
        raise KeyUnavailableError("This ledger was opened for reading. Open it with its key store to decide.")
    return ledger.keys


def _undo(ledger: Ledger, handle: str, actor: Actor, reason: str) -> Undoing:
    """(b) Find what stands, and (c) undo it in one append."""
    undoing = to_undo(ledger, trace(ledger, handle))
    ledger.append(_undo_drafts(ledger, undoing, actor, reason))
    return undoing


def _record(ledger: Ledger, handle: str, actor: Actor, reason: str) -> Undoing:
    """(e) Undo what slipped in, and say that the subject was erased, in one append."""
    lineage = trace(ledger, handle)
    undoing = to_undo(ledger, lineage)
    in_lineage = {change.change_id for change in lineage.changes}
    now = sum(change.change_id in in_lineage for change, _ in undoing.rolled_back)
    body = SubjectErased(
        subject=handle,
        artifacts=lineage.artifacts,
        deltas=lineage.deltas,
        rolled_back=now + sum(change.status == "rolled_back" for change in lineage.changes),
    )
    ledger.append([*_undo_drafts(ledger, undoing, actor, reason), _draft(body, actor, reason)])
    return undoing


def _undo_drafts(ledger: Ledger, undoing: Undoing, actor: Actor, reason: str) -> list[EventDraft]:
    drafts = rollback_drafts(ledger, undoing.rolled_back, actor, reason, cause="erasure")
    for change in undoing.rejected:
        identity = change.body.identity
        body = ChangeRejected(change_id=change.change_id, recorded=change.entry.leaf_hash)
        place = (identity.tenant, identity.deployment)
        drafts.append(EventDraft(actor, *place, body, (reason_artifact(reason),)))
    return drafts


def _draft(body: SubjectErased | SubjectHeld | SubjectReleased, actor: Actor, reason: str) -> EventDraft:
    return EventDraft(actor, *_PLACE, body, (reason_artifact(reason),))
