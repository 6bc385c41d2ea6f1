"""What was made from a subject's data, or from any changes: the later ones that stand on them, pointers, answers.

Rules: the lineage of a subject is every change that was made from its data, and every change, whoever's, that was made
from the state of one of these while a pointer stood on it. What is to be undone before the subject can be erased
follows from where each of them stands: an active one is rolled back, with every later one of its pointer; an applied
one, and one that was retired with its base model, is withdrawn; one that waits for a person is rejected. Needs no
model, no torch and no key.

What this does not know: whether weights learned something from a delta that they were trained on top of. They may have,
which is why later changes go too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.ledger import ChangeView, Ledger, PointerView, ResponseView, SubjectView


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything that an erasure reaches.

    Attributes:
        subject: the subject itself.
        own: changes made from its data, in the order of the log.
        later: changes of others that stand on one of those, in the order of the log.
        roots: for every change of both, the subject's own change that it goes back to.
        pointers: those that stand now on a state of the lineage.
        answers: how many answers such a state gave.
        artifacts: how many artifacts are sealed under the subject's key.
    """

    subject: SubjectView
    own: tuple[ChangeView, ...]
    later: tuple[ChangeView, ...]
    roots: dict[str, str]
    pointers: tuple[PointerView, ...]
    answers: int
    artifacts: int

    @property
    def changes(self) -> tuple[ChangeView, ...]:
        """Own and later ones together."""
        return self.own + self.later

    @property
    def deltas(self) -> int:
        """How many of them have a delta."""
        return sum(change.body.update.delta is not None for change in self.changes)


@dataclass(frozen=True, slots=True)
class Undoing:
    """What has to happen to a lineage before its subject's key goes.

    Attributes:
        rolled_back: what stands, in the order in which it is undone: answers that are withdrawn, then movements of
            pointers, newest first. Each with the change for whose sake it is, None for the subject's own.
        rejected: what waits for a decision.
    """

    rolled_back: tuple[tuple[ChangeView, str | None], ...]
    rejected: tuple[ChangeView, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """What named changes and answers reach.

    Attributes:
        changes: the named ones and those behind named answers, and every later one that stands on one of these.
        responses: the named ones, and every answer that a state of these changes gave, or an update made from one.
    """

    changes: tuple[ChangeView, ...]
    responses: tuple[ResponseView, ...]


def reached_from(ledger: Ledger, change_ids: Sequence[str], response_ids: Sequence[str] = ()) -> Reached:
    """Follow changes and answers through the log, to whatever was made from them.

    Raises:
        NotFoundError: a named answer is not there.
    """
    named = [ledger.response(one) for one in response_ids]
    behind = [one.change_id for one in named if one.change_id is not None]
    changes = ledger.standing_on(tuple(dict.fromkeys((*change_ids, *behind))))
    found = {one.response_id: one for one in named}
    for change in changes:
        given = ledger.responses(change_id=change.change_id)
        if change.body.update.delta is not None:
            given += ledger.responses_under(change.body.update.state, change.place)
        found |= {one.response_id: one for one in given if one.served != "base"}
    return Reached(tuple(changes), tuple(sorted(found.values(), key=lambda one: one.index)))


def trace(ledger: Ledger, handle: str) -> Lineage:
    """Find everything that was made from a subject's data.

    Raises:
        NotFoundError: nothing is recorded for this handle.
    """
    subject = ledger.subject(handle)
    found = ledger.lineage(handle)
    changes = [change for change, _ in found]
    states = {change.body.update.state for change in changes if change.body.update.delta is not None}
    makers = {change.change_id for change in changes}
    return Lineage(
        subject=subject,
        own=tuple(change for change in changes if change.body.identity.subject == handle),
        later=tuple(change for change in changes if change.body.identity.subject != handle),
        roots={change.change_id: root for change, root in found},
        pointers=tuple(pointer for pointer in ledger.pointers() if pointer.change_id in makers),
        answers=sum(len(ledger.responses(state=state)) for state in states),
        artifacts=ledger.sealed_for(handle),
    )


def to_undo(ledger: Ledger, lineage: Lineage) -> Undoing:
    """Say what of a lineage still stands, and in which order it goes."""
    active = {change.change_id: change for change in lineage.changes if change.status == "active"}
    roots = dict(lineage.roots)
    for change in list(active.values()):
        for above in ledger.active_after(change.change_id):
            active.setdefault(above.change_id, above)
            roots.setdefault(above.change_id, roots[change.change_id])
    newest_first = sorted(active.values(), key=lambda change: change.activation_index or 0, reverse=True)
    applied = [change for change in reversed(lineage.changes) if change.status in ("applied", "retired")]
    return Undoing(
        rolled_back=tuple((change, _sake(change, roots)) for change in (*applied, *newest_first)),
        rejected=tuple(change for change in lineage.changes if change.status in ("held", "pending")),
    )


def _sake(change: ChangeView, roots: dict[str, str]) -> str | None:
    root = roots[change.change_id]
    return None if root == change.change_id else root
