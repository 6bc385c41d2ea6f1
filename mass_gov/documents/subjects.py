"""Subjects, what was made from their data, and what an erasure did, as JSON objects."""

from __future__ import annotations

from mass_gov.flows.erase import Erased
from mass_gov.flows.lineage import Lineage, Undoing
from mass_gov.ledger import SubjectView


def subject_document(subject: SubjectView) -> dict[str, object]:
    """One subject, and where it stands."""
    return {
        "subject": subject.subject,
        "standing": "erased"
        if subject.erased_index is not None
        else "held"
        if subject.held_index is not None
        else "free",
        "changes": subject.changes,
        "answers": subject.answers,
        "first_index": subject.first_index,
        "last_index": subject.last_index,
        "held_index": subject.held_index,
        "erased_index": subject.erased_index,
    }


def lineage_document(lineage: Lineage, undoing: Undoing) -> dict[str, object]:
    """Everything that was made from a subject's data, and what erasing it would do to each."""
    fate = fates(undoing)
    return {
        **subject_document(lineage.subject),
        "artifacts": lineage.artifacts,
        "deltas": lineage.deltas,
        "answers_under": lineage.answers,
        "pointers": [
            {"tenant": pointer.tenant, "deployment": pointer.deployment, "state_digest": pointer.state}
            for pointer in lineage.pointers
        ],
        "lineage": [
            {
                "change_id": change.change_id,
                "own": change.body.identity.subject == lineage.subject.subject,
                "from_change": lineage.roots[change.change_id],
                "status": change.status,
                "delta_digest": change.body.update.delta,
                "to_do": fate.get(change.change_id),
            }
            for change in lineage.changes
        ],
    }


def erased_document(done: Erased) -> dict[str, object]:
    """What an erasure did."""
    return {
        "subject": done.lineage.subject.subject,
        "erased_index": done.index,
        "already": done.already,
        "artifacts": done.lineage.artifacts,
        "deltas": done.lineage.deltas,
        "answers_under": done.lineage.answers,
        "rolled_back": [change.change_id for change in done.rolled_back],
        "rejected": [change.change_id for change in done.rejected],
        "later": [change.change_id for change in done.lineage.later],
    }


def fates(undoing: Undoing) -> dict[str, str]:
    """What erasing would do to each change, by id."""
    fates = {change.change_id: "reject" for change in undoing.rejected}
    return fates | {
        change.change_id: "roll back" if change.status == "active" else "withdraw" for change, _ in undoing.rolled_back
    }
