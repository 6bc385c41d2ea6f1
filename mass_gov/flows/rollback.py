"""Undo a change: move the pointer back, or withdraw an instance-scope answer.

Rules: rollback appends, nothing is deleted. Later changes that stand on this one are never stranded: without `cascade`
the rollback is refused and names them; with it they go too, newest first, in the same transaction. Applied changes of
scope instance that were made from an undone state are listed: their adapted answers are not served any more
(`mass_gov.flows.adapt`), and with `cascade` they are withdrawn too, also by a second call. What was served in between
is listed. Rolling back what is already rolled back changes nothing. Needs no model and no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from mass_gov.errors import DependentsError, InputError, NotFoundError, RefusedError, StaleChangeError
from mass_gov.flows.approve import maker_of_parent, reason_artifact
from mass_gov.flows.authority import authorise
from mass_gov.ledger import ChangeView, Ledger, ResponseView, StateView
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ChangeRolledBack

T = TypeVar("T")
_TRIES = 20


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
    state: str | None = None
    """Of a rollback to a named state: that state, in full."""


def rollback(ledger: Ledger, change_id: str, actor: Actor, reason: str, *, cascade: bool = False) -> RolledBack:
    """Undo one change, and with `cascade` every later change that was made from it.

    Raises:
        DependentsError: later active changes stand on it and `cascade` is false.
        StaleChangeError: others wrote faster than this could look, many times; nothing was written.
        PermissionRefusedError: the actor may not.
        RefusedError: the change never took effect (it is held or rejected).
    """
    change = ledger.change(change_id)
    identity = change.body.identity
    authorise(ledger, actor, "rollback", (identity.tenant, identity.deployment), change_id=change.change_id)
    if change.status not in ("applied", "active", "retired", "rolled_back"):
        raise RefusedError(f"change {change.change_id} is {change.status}: it never took effect. Reject it instead.")
    moved, standing, undone = insist(lambda: _undo(ledger, change_id, actor, reason, cascade))
    return RolledBack(
        changes=tuple(ledger.change(other.change_id) for other in undone or moved),
        responses=_affected(ledger, undone or moved),
        standing=() if cascade else standing,
        already=not undone,
    )


def insist(attempt: Callable[[], T]) -> T:
    """Look and write again where others wrote in between: any event moves the indices that a rollback names.

    Raises:
        StaleChangeError: others were faster every time.
    """
    for _ in range(_TRIES - 1):
        try:
            return attempt()
        except StaleChangeError:
            continue
    return attempt()


_Views = tuple[ChangeView, ...]


def _undo(ledger: Ledger, change_id: str, actor: Actor, reason: str, cascade: bool) -> tuple[_Views, _Views, _Views]:
    """One look and one append: what the pointer left, what was made from it, and what this undid."""
    change = ledger.change(change_id)
    moved = _movements(ledger, change, cascade)
    standing = _made_from(ledger, moved)
    undone = (*(standing if cascade else ()), *(other for other in moved if other.status != "rolled_back"))
    if undone:
        sakes = [(other, None if other is change else change.change_id) for other in undone]
        ledger.append(rollback_drafts(ledger, sakes, actor, reason))
    return moved, standing, undone


def rollback_to(
    ledger: Ledger, tenant: str, deployment: str, to: str, actor: Actor, reason: str, *, cascade: bool = False
) -> RolledBack:
    """Move a pointer back to a state that its present one stands on: undo every change that came after it.

    Arguments:
        to: `base`, or the first characters of a state's digest (8 at least).

    Raises:
        NotFoundError: the pointer's present state does not stand on such a state; the message says why.
        InputError: several states begin so.
        DependentsError: more than one change would be undone and `cascade` is false.
        StaleChangeError: as `rollback`.
    """
    stack = ledger.pointer_stack(tenant, deployment)
    had = {move.to_state for move in ledger.pointer_history(tenant, deployment)}
    position = _position(had, stack, to, f"{tenant}/{deployment}")
    if position == len(stack) - 1 or not stack:
        return RolledBack((), (), (), already=True, state=stack[-1].state if stack else None)
    above = [found.change for found in stack[position + 1 :] if found.change is not None]
    if len(above) > 1 and not cascade:
        names = ", ".join(change.change_id for change in reversed(above))
        raise DependentsError(
            f"{len(above)} changes stand on that state: {names}. --cascade undoes them all, newest first."
        )
    done = rollback(ledger, above[0].change_id, actor, reason, cascade=cascade)
    return replace(done, state=stack[position].state)


def _position(had: set[str], stack: list[StateView], to: str, name: str) -> int:
    """Where in the stack the named state lies, the newest where several changes have the same one."""
    if to == "base":
        return 0
    if not re.fullmatch(r"[0-9a-f]{8,64}", to):
        raise InputError(f"{to[:70]!r} names no state: give `base`, or at least 8 hex digits of a state's digest.")
    found = [position for position, one in enumerate(stack) if one.state.startswith(to)]
    if len({stack[position].state for position in found}) > 1:
        raise InputError(f"Several states of {name} begin with {to}. Give more digits.")
    if found:
        return found[-1]
    was = any(state.startswith(to) for state in had)
    why = "was undone, or stood on another base model" if was else "it never had"
    raise NotFoundError(
        f"The present state of {name} does not stand on {to[:16]}, which {why}. `mass-gov pointers show` lists what it "
        "stands on; what was undone is not brought back by undoing more."
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
        under = ledger.responses_under(change.body.update.state, change.place)
        for change_id in {response.change_id for response in under if response.change_id} - found.keys():
            other = ledger.change(change_id)
            if other.status == "applied" and maker_of_parent(ledger, other) == change.change_id:
                found[change_id] = other
    return tuple(sorted(found.values(), key=lambda other: other.index, reverse=True))


def _affected(ledger: Ledger, changes: tuple[ChangeView, ...]) -> tuple[ResponseView, ...]:
    found: dict[str, ResponseView] = {}
    for change in changes:
        under = ledger.responses_under(change.body.update.state, change.place)
        found |= {response.response_id: response for response in under if response.served != "base"}
    return tuple(found[key] for key in sorted(found))


def affected_by(ledger: Ledger, change: ChangeView) -> RolledBack:
    """Describe a rollback of one change that somebody else appended."""
    return RolledBack((change,), _affected(ledger, (change,)), _made_from(ledger, (change,)), already=False)


def rollback_drafts(
    ledger: Ledger,
    undone: Sequence[tuple[ChangeView, str | None]],
    actor: Actor,
    reason: str,
    *,
    cause: Literal["person", "regression", "erasure"] | None = None,
    first: int = 0,
) -> list[EventDraft]:
    """Draft one event per change, in this order; each expects the pointer head that the one before leaves.

    Arguments:
        undone: applied and active changes, the newest active one of a pointer first; each with the change for whose
            sake it is rolled back, None for one that was asked for.
        cause: what caused it, where that was not a person.
        first: how many events come before these in the same append.
    """
    with ledger.snapshot():  # of one moment, and short: whatever is written after it makes these drafts stale
        size = ledger.size
        heads = {place: ledger.pointer(*place).head_index for place in {change.place for change, _ in undone}}
        affected = [ledger.affected_responses(change.body.update.state) for change, _ in undone]
    drafts = []
    for index, (change, sake) in enumerate(undone, size + first):
        place, moves = change.place, change.status == "active"
        head = heads[place]
        body = ChangeRolledBack(
            change_id=change.change_id,
            moved_pointer=moves,
            expected_head=head if moves else None,
            from_state=change.body.update.state,
            to_state=change.body.parents.parent_state,
            cascade_of=sake,
            affected_responses=affected[index - size - first],
            cause=cause,
        )
        drafts.append(EventDraft(actor, *place, body, (reason_artifact(reason),)))
        heads[place] = index if moves else head
    return drafts
