"""Undo a change: move the pointer back, or withdraw an instance-scope answer.

Rules: rollback appends, nothing is deleted. Later changes that stand on this one are never stranded: without `cascade`
the rollback is refused and names them; with it they go too, newest first, in the same transaction. Applied changes of
scope instance that were made from an undone state are listed: their adapted answers are not served any more
(`mass_gov.flows.adapt`), and with `cascade` they are withdrawn too, also by a second call. What was served in between
is listed. Rolling back what is already rolled back changes nothing. Needs no model and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mass_gov.errors import DependentsError, RefusedError
from mass_gov.flows.approve import maker_of_parent, reason_artifact
from mass_gov.ledger import ChangeView, Ledger, ResponseView
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ChangeRolledBack


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did."""

    changes: tuple[ChangeView, ...]
    """Every change that this rolled back, newest first; the one that was asked for if there was none."""
    responses: tuple[ResponseView, ...]
    """Answers that were served under the undone states."""
    standing: tuple[ChangeView, ...]
    """Applied changes of scope instance made from an undone state and left as they are, newest first."""
    already: bool
    """True when there was nothing left to undo."""


def rollback(ledger: Ledger, change_id: str, actor: Actor, reason: str, *, cascade: bool = False) -> RolledBack:
    """Undo one change, and with `cascade` every later change that was made from it.

    Raises:
        DependentsError: later active changes stand on it and `cascade` is false.
        StaleChangeError: the pointer moved while this ran; nothing was written.
        RefusedError: the change never took effect (it is held or rejected).
    """
    change = ledger.change(change_id)
    if change.status not in ("applied", "active", "retired", "rolled_back"):
        raise RefusedError(f"change {change.change_id} is {change.status}: it never took effect. Reject it instead.")
    moved = _movements(ledger, change, cascade)
    standing = _made_from(ledger, moved)
    undone = (*(standing if cascade else ()), *(other for other in moved if other.status != "rolled_back"))
    affected = _affected(ledger, undone or moved)
    if undone:
        sakes = [(other, None if other is change else change.change_id) for other in undone]
        ledger.append(rollback_drafts(ledger, sakes, actor, reason))
    return RolledBack(
        changes=tuple(ledger.change(other.change_id) for other in undone or moved),
        responses=affected,
        standing=() if cascade else standing,
        already=not undone,
    )


def _movements(ledger: Ledger, change: ChangeView, cascade: bool) -> tuple[ChangeView, ...]:
    """Return the later active changes that stand on `change`, newest first, and the change itself."""
    later = tuple(ledger.active_after(change.change_id)) if change.status == "active" else ()
    if later and not cascade:
        names = ", ".join(other.change_id for other in later)
        raise DependentsError(
            f"{len(later)} later change(s) stand on {change.change_id}: {names}. Undo them first, or use --cascade."
        )
    return (*sorted(later, key=lambda other: other.activation_index or 0, reverse=True), change)


def _made_from(ledger: Ledger, moved: tuple[ChangeView, ...]) -> tuple[ChangeView, ...]:
    """Return applied changes that were made from a state which one of these made the pointer's, newest first."""
    found: dict[str, ChangeView] = {}
    for change in moved:
        if change.activation_index is None:
            continue  # it never was the pointer's state
        under = ledger.responses_under(change.body.update.state)
        for change_id in {response.change_id for response in under if response.change_id} - found.keys():
            other = ledger.change(change_id)
            if other.status == "applied" and maker_of_parent(ledger, other) == change.change_id:
                found[change_id] = other
    return tuple(sorted(found.values(), key=lambda other: other.index, reverse=True))


def _affected(ledger: Ledger, changes: tuple[ChangeView, ...]) -> tuple[ResponseView, ...]:
    found: dict[str, ResponseView] = {}
    for change in changes:
        under = ledger.responses_under(change.body.update.state)
        found |= {response.response_id: response for response in under if response.served != "base"}
    return tuple(found[key] for key in sorted(found))


def rollback_drafts(
    ledger: Ledger, undone: Sequence[tuple[ChangeView, str | None]], actor: Actor, reason: str
) -> list[EventDraft]:
    """Draft one event per change, in this order; each expects the pointer head that the one before leaves.

    Arguments:
        undone: applied and active changes, the newest active one of a pointer first; each with the change for whose
            sake it is rolled back, None for one that was asked for.
    """
    heads: dict[tuple[str, str], int | None] = {}
    drafts = []
    for index, (change, sake) in enumerate(undone, ledger.size):
        identity, moves = change.body.identity, change.status == "active"
        place = (identity.tenant, identity.deployment)
        head = heads[place] if place in heads else ledger.pointer(*place).head_index
        body = ChangeRolledBack(
            change_id=change.change_id,
            moved_pointer=moves,
            expected_head=head if moves else None,
            from_state=change.body.update.state,
            to_state=change.body.parents.parent_state,
            cascade_of=sake,
            affected_responses=len(_affected(ledger, (change,))),
        )
        drafts.append(EventDraft(actor, *place, body, (reason_artifact(reason),)))
        heads[place] = index if moves else head
    return drafts
