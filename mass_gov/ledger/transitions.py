"""What becomes of a change after it was recorded (DESIGN section 11).

    recorded ──apply, instance────> applied ──promote──┐
       │                              ^                v
       ├─────apply, deployment─> pending ──────────> active ──> rolled_back
       │                              │ (instance)     ^ │          ^
       ├─────hold──────────────> held ┴─approved───────┘ │ applied ─┤
       └─────reject────────────> rejected <── held,      v          │
                                              pending   retired ────┘

Rules: an approval binds what the approver saw and counts once per person; the last one of a deployment-scope change or
a promotion is followed by the activation in the same append, so that no approved change is left standing. Activation
is compare-and-swap: the pointer must still be where the change read it. Only the newest active change of a pointer can
be rolled back; a cascade rolls back newest first in one append. Active changes are retired when their pointer moves to
another base model (`pointer_rules`): rolling one back then moves nothing and withdraws its answer. A change that waits
and is stale gives up its place to one that was made again, in one append.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import DependentsError, IntegrityError, RefusedError, StaleChangeError
from mass_gov.ledger import marks, principal_rules
from mass_gov.ledger.alarm_rules import check_alarms
from mass_gov.ledger.control_rules import refuse_frozen
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import affected_responses, approvers, change_row, later_active, move_row, pointer_row
from mass_gov.ledger.pointer_rules import settle_regressions
from mass_gov.ledger.rows import alter, drop, put
from mass_gov.ledger.schema import approvals, changes, pointer_moves, pointers
from mass_gov.records.change import Identity
from mass_gov.records.events import (
    ChangeActivated,
    ChangeApproved,
    ChangeRecorded,
    ChangeRejected,
    ChangeRolledBack,
)

_ALLOWED = {
    "held": "It can be approved or rejected",
    "pending": "It can be activated, approved or rejected",
    "applied": "It can be promoted or rolled back",
    "active": "It can be rolled back",
    "rejected": "Nothing further can happen to it; submit the task under a new id",
    "retired": "Its pointer moved to another base model; it can be rolled back, which withdraws its answer",
    "rolled_back": "Nothing further can happen to it; submit the task under a new id",
}
_WAITING = ("held", "pending")
_ACTIVATED_FROM = {"envelope": ("pending",), "approval": _WAITING, "promotion": ("applied",)}
SCOPE_OF = {"envelope": "deployment", "approval": "deployment", "promotion": "instance"}
"""What a change was made for that this cause may activate."""


def approve(connection: Connection, entry: Entry, body: ChangeApproved) -> None:
    """Count a yes; an instance-scope change that has enough of them is applied."""
    row = _row_of(connection, entry, body.change_id)
    if row["status"] not in (_WAITING if body.meaning == "apply" else ("applied",)):
        raise not_allowed(row, "be approved" if body.meaning == "apply" else "be promoted")
    refuse_frozen(connection, row["tenant"], row["deployment"], f"The approval of {body.change_id}")
    _check_bound(row, body)
    if moves_pointer(row, body):
        _check_not_stale(row, pointer_row(connection, row["tenant"], row["deployment"]))
    principal_rules.check_approval(connection, entry, body)
    approver = entry.predicate.actor.principal
    _check_count(row, body, approver, approvers(connection, body.change_id, body.meaning))
    put(
        connection,
        approvals,
        {
            "index": entry.index,
            "change_id": body.change_id,
            "meaning": body.meaning,
            "approver": approver,
            "required": body.required,
            "self_approved": int(body.self_approved),
        },
    )
    if body.approvals == body.required and not moves_pointer(row, body):
        _set(connection, row, status="applied")


def reject(connection: Connection, entry: Entry, body: ChangeRejected) -> None:
    """A no is final."""
    row = _row_of(connection, entry, body.change_id)
    if row["status"] not in _WAITING:
        raise not_allowed(row, "be rejected")
    if body.recorded != row["leaf_hash"]:
        raise RefusedError(f"The rejection of {body.change_id} was made for another record of it. Look at it again.")
    _set(connection, row, status="rejected", rejection_index=entry.index)


def activate(connection: Connection, entry: Entry, body: ChangeActivated) -> None:
    """Move the pointer to the change's state, if it still stands where the change read it."""
    row = _row_of(connection, entry, body.change_id)
    if row["status"] not in _ACTIVATED_FROM[body.cause] or row["scope"] != SCOPE_OF[body.cause]:
        raise not_allowed(row, f"be activated by {body.cause}")
    refuse_frozen(connection, row["tenant"], row["deployment"], f"The activation of {body.change_id}")
    _check_approved(connection, row, body)
    pointer = pointer_row(connection, row["tenant"], row["deployment"])
    _check_not_stale(row, pointer)
    _check_swap(row, pointer, body, to_state=row["state"])
    before = pointer["change_id"] if pointer else None
    after = row["change_id"] if row["delta"] else before
    _move(connection, entry, body, row, pointer, body.cause, before, after)
    _set(connection, row, status="active", activation_index=entry.index)


def roll_back(connection: Connection, entry: Entry, body: ChangeRolledBack) -> None:
    """Undo a change: the pointer goes back to the state before it, or its own answer is withdrawn."""
    row = _row_of(connection, entry, body.change_id)
    if row["status"] not in ("applied", "active", "retired"):
        raise not_allowed(row, "be rolled back")
    affected = affected_responses(connection, row["state"])
    if body.affected_responses != affected:
        raise StaleChangeError(
            f"The rollback of {body.change_id} says that {body.affected_responses} answers came from its state, and "
            f"{affected} did. Look at them and roll it back again."
        )
    if body.cascade_of is not None:
        _check_cascade(connection, entry, body, body.cascade_of)
    if body.moved_pointer != (row["status"] == "active"):
        raise IntegrityError(f"Change {body.change_id}: a rollback moves the pointer if and only if it was active.")
    if row["status"] == "active":
        _move_back(connection, entry, body, row)
    elif (body.from_state, body.to_state) != (row["state"], row["parent_state"]):
        raise IntegrityError(f"Change {body.change_id}: its rollback goes from its own state to its parent's.")
    _set(connection, row, status="rolled_back", rollback_index=entry.index)


def check_rebased(connection: Connection, identity: Identity, newest: RowMapping | None) -> None:
    """A change may take the place of the newest one of its task while that waits for a decision and is stale.

    Raises:
        RefusedError: it may not; IntegrityError where the two are not of the same task and people.
    """
    old = change_row(connection, identity.rebased_from or "")
    same = ("tenant", "deployment", "scope", "requester", "subject", "request_commitment")
    if any(old[name] != getattr(identity, name) for name in same) or newest is None:
        raise IntegrityError(
            f"Change {identity.change_id} does not take the place of {old['change_id']}: it is of another task, scope, "
            "requester or subject. Make it again."
        )
    if old["status"] not in _WAITING or newest["change_id"] != old["change_id"]:
        raise not_allowed(old, "be made again")
    pointer = pointer_row(connection, old["tenant"], old["deployment"])
    if old["pointer_head"] == (pointer["head_index"] if pointer else None):
        raise RefusedError(
            f"Change {old['change_id']} is not stale: the pointer stands where it was made from. Approve or reject it."
        )


def settle(connection: Connection, entries: Sequence[Entry]) -> None:
    """Check, at the end of an append, that nothing was left half done.

    Raises:
        RefusedError: the last approval of a movement without the movement, a cascade without what set it off, or a
            change that takes another one's place without that one's rejection, or the other way round; a monitor's
            alarm without the freeze; or a ledger in which nobody could say who may act.
    """
    check_alarms(entries)
    settle_regressions(entries)
    _settle_rebases(connection, entries)
    principal_rules.settle(connection, entries)
    for entry in entries:
        body = entry.predicate.body
        cause = body.cascade_of if isinstance(body, ChangeRolledBack) else None
        if cause is not None and change_row(connection, cause)["status"] != "rolled_back":
            raise RefusedError(f"A change is rolled back for the sake of {cause}, which is not. Append both together.")
        if isinstance(body, ChangeApproved) and body.approvals == body.required:
            row = change_row(connection, body.change_id)
            if moves_pointer(row, body) and row["status"] not in ("active", "retired", "rolled_back"):
                raise RefusedError(
                    f"The last approval of {body.change_id} comes without its activation. Append both together."
                )


def _settle_rebases(connection: Connection, entries: Sequence[Entry]) -> None:
    bodies = [entry.predicate.body for entry in entries]
    taken = {body.change.identity.rebased_from for body in bodies if isinstance(body, ChangeRecorded)} - {None}
    gone = {body.change_id for body in bodies if isinstance(body, ChangeRejected) and body.cause == "rebased"}
    for change_id in taken ^ gone:
        raise RefusedError(
            f"Change {change_id} gives up its place to another one, and only one half of that is here. Append the new "
            "change and the rejection of the old one together."
        )


def same_place(entry: Entry, tenant: str, deployment: str) -> None:
    """An event stands under the tenant and deployment of what it is about.

    Raises:
        IntegrityError: it does not.
    """
    if (entry.predicate.tenant, entry.predicate.deployment) != (tenant, deployment):
        raise IntegrityError(
            f"Event {entry.index} stands under {entry.predicate.tenant}/{entry.predicate.deployment} and is about "
            f"{tenant}/{deployment}. An event cannot be moved between tenants."
        )


def not_allowed(row: RowMapping, what: str) -> RefusedError:
    """A refusal that names where the change stands and what can be done."""
    status = str(row["status"])
    return RefusedError(
        f"Change {row['change_id']} ({row['scope']} scope) is {status.replace('_', ' ')} and cannot {what}. "
        f"{_ALLOWED.get(status, 'Run `mass-gov verify`')}."
    )


def moves_pointer(row: RowMapping, body: ChangeApproved) -> bool:
    """Whether the approved thing is a movement of the pointer."""
    return body.meaning == "promote" or row["scope"] == "deployment"


def _row_of(connection: Connection, entry: Entry, change_id: str) -> RowMapping:
    row = change_row(connection, change_id)
    same_place(entry, row["tenant"], row["deployment"])
    return row


def _set(connection: Connection, row: RowMapping, **values: str | int) -> None:
    alter(connection, changes, row, values)
    marks.restate(connection, row["index"], row["status"], str(values["status"]))


def _check_bound(row: RowMapping, body: ChangeApproved) -> None:
    bound = {
        "record": (body.recorded, row["leaf_hash"]),
        "parent state": (body.parent_state, row["parent_state"]),
        "pointer head": (body.expected_head, row["pointer_head"]),
        "policy": (body.policy, row["policy"]),
        "suite": (body.suite, row["suite"]),
    }
    for name, (approved, recorded) in bound.items():
        if approved != recorded:
            raise RefusedError(
                f"The approval of {body.change_id} is for another {name} than was recorded. Look at the change again."
            )


def _check_count(row: RowMapping, body: ChangeApproved, approver: str, before: dict[str, int]) -> None:
    if approver in before:
        raise RefusedError(f"{approver} approved {body.change_id} already. Another person has to.")
    if body.self_approved != (approver == row["requester"]):
        raise IntegrityError(f"The approval of {body.change_id} does not say truly whether it is a self-approval.")
    if body.approvals != len(before) + 1 or any(required != body.required for required in before.values()):
        raise StaleChangeError(
            f"Change {body.change_id} has {len(before)} approvals, which this one did not count on. Look at it again."
        )
    if body.approvals > body.required:
        raise RefusedError(f"Change {body.change_id} has all {body.required} approvals that it needs.")


def _check_approved(connection: Connection, row: RowMapping, body: ChangeActivated) -> None:
    if body.cause == "envelope":
        return
    meaning = "apply" if body.cause == "approval" else "promote"
    given = approvers(connection, row["change_id"], meaning)
    if not given or any(len(given) != required for required in given.values()):
        needed = max(given.values(), default=1)
        raise RefusedError(f"Change {row['change_id']} has {len(given)} of {needed} approvals. Have it approved first.")


def _check_not_stale(row: RowMapping, pointer: RowMapping | None) -> None:
    now = pointer["head_index"] if pointer else None
    if row["pointer_head"] != now:
        raise StaleChangeError(
            f"Change {row['change_id']} was made from pointer head {_head(row['pointer_head'])}, which is now "
            f"{_head(now)}: `mass-gov changes rebase` makes a held one again from where the pointer stands."
        )


def _check_swap(
    row: RowMapping, pointer: RowMapping | None, body: ChangeActivated | ChangeRolledBack, to_state: str
) -> None:
    head, state = (pointer["head_index"], pointer["state"]) if pointer else (None, row["parent_state"])
    if body.expected_head != head:
        raise StaleChangeError(
            f"Change {row['change_id']}: the pointer's head was expected at {_head(body.expected_head)} and is "
            f"{_head(head)}. Look at the pointer again."
        )
    if (body.from_state, body.to_state) != (state, to_state):
        raise IntegrityError(
            f"Change {row['change_id']}: the pointer goes from {state[:16]} to {to_state[:16]}, not from "
            f"{body.from_state[:16]} to {body.to_state[:16]}. Read the pointer and try again."
        )


def _check_cascade(connection: Connection, entry: Entry, body: ChangeRolledBack, cause: str) -> None:
    other = change_row(connection, cause)
    same_place(entry, other["tenant"], other["deployment"])
    if cause == body.change_id:
        raise IntegrityError(f"Change {cause} is rolled back for its own sake: a cascade takes others with it.")


def _move_back(connection: Connection, entry: Entry, body: ChangeRolledBack, row: RowMapping) -> None:
    if later := later_active(connection, row):
        raise DependentsError(
            f"Change {row['change_id']} carries {len(later)} later active change(s): {', '.join(later)}. "
            "Roll those back first, or take them with it by --cascade."
        )
    activation = move_row(connection, row["activation_index"])
    if activation is None:
        raise IntegrityError(f"The activation of {row['change_id']} is missing. Run `mass-gov verify`.")
    pointer = pointer_row(connection, row["tenant"], row["deployment"])
    _check_swap(row, pointer, body, activation["from_state"])
    _move(connection, entry, body, row, pointer, "rollback", activation["to_change"], activation["from_change"])


def _move(
    connection: Connection,
    entry: Entry,
    body: ChangeActivated | ChangeRolledBack,
    row: RowMapping,
    pointer: RowMapping | None,
    cause: str,
    from_change: str | None,
    to_change: str | None,
) -> None:
    place = {"tenant": row["tenant"], "deployment": row["deployment"]}
    moved = {
        "index": entry.index,
        "cause": cause,
        "moved_by": row["change_id"],
        "from_head": body.expected_head,
        "from_state": body.from_state,
        "from_change": from_change,
        "to_state": body.to_state,
        "to_change": to_change,
        "base_model": row["base_model"],
    }
    put(connection, pointer_moves, place | moved)
    if pointer is not None:
        drop(connection, pointers, pointer)
    now = {
        "state": body.to_state,
        "change_id": to_change,
        "head_index": entry.index,
        "base_model": row["base_model"],
    }
    put(connection, pointers, place | now)


def _head(index: int | None) -> str:
    return "none (it never moved)" if index is None else str(index)
