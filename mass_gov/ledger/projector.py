"""From the log to what readers query: one entry in, rows out, or a refusal that undoes the whole transaction.

Rules that a log must keep, checked when an event is written and again by `verify`, which replays them into a copy:

- the first event, and no other, opens the log
- ids of changes and responses are used once, and so is a task (tenant, deployment, request commitment)
- a change names a registered model and suite, the policy that was active, and a state that its pointer really had;
  its own state follows from base and delta; its event stands under its own tenant and deployment
- a response serves a state of its change, and an adapted answer only while the change is applied or active
- what becomes of a change afterwards: `transitions`

This module does not know signatures, hashes or artifacts: an entry that reaches it is already believed.
"""

from __future__ import annotations

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from mass_gov.errors import IntegrityError, NotFoundError, RefusedError, StaleChangeError
from mass_gov.evidence.state import state_digest
from mass_gov.ledger import transitions
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import (
    active_policy,
    change_row,
    exists,
    known_target,
    move_row,
    registration_index,
)
from mass_gov.ledger.schema import changes, registrations, responses
from mass_gov.ledger.views import Status
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import (
    AccessDenied,
    ChangeActivated,
    ChangeApproved,
    ChangeRecorded,
    ChangeRejected,
    ChangeRolledBack,
    LogOpened,
    ModelRegistered,
    PolicyActivated,
    ReplayPerformed,
    ResponseServed,
    SuiteRegistered,
    Unadapted,
)


def apply(connection: Connection, entry: Entry) -> None:
    """Write what `entry` means into the projections.

    Raises:
        RefusedError: the rules above, or those of `transitions`, do not allow it now; StaleChangeError when they did
            at the time the caller looked.
        IntegrityError: the event contradicts itself, whatever the ledger holds.
        NotFoundError: it is about a change that is not in this ledger.
    """
    _check_opening(entry)
    match entry.predicate.body:
        case LogOpened() | AccessDenied():
            pass  # nothing to query: they are read from the log itself
        case ModelRegistered() as body:
            _register(connection, entry, "model", body.model, None)
        case SuiteRegistered() as body:
            _register(connection, entry, "suite", body.suite, body.name)
        case PolicyActivated() as body:
            _register(connection, entry, "policy", body.policy, body.name)
        case ChangeRecorded() as body:
            _record(connection, entry, body.change)
        case ChangeApproved() as body:
            transitions.approve(connection, entry, body)
        case ChangeRejected() as body:
            transitions.reject(connection, entry, body)
        case ChangeActivated() as body:
            transitions.activate(connection, entry, body)
        case ChangeRolledBack() as body:
            transitions.roll_back(connection, entry, body)
        case ResponseServed() as body:
            _serve(connection, entry, body)
        case ReplayPerformed() as body:
            _replayed(connection, body)


def _check_opening(entry: Entry) -> None:
    if isinstance(entry.predicate.body, LogOpened) != (entry.index == 0):
        raise IntegrityError(f"Event {entry.index}: a log is opened by its first event and by no other. Restore it.")


def _register(connection: Connection, entry: Entry, kind: str, digest: str, name: str | None) -> None:
    row = {"index": entry.index, "kind": kind, "digest": digest, "name": name}
    connection.execute(insert(registrations), row)


def _record(connection: Connection, entry: Entry, change: ChangeBody) -> None:
    identity, parents = change.identity, change.parents
    transitions.same_place(entry, identity.tenant, identity.deployment)
    _check_states(change)
    _check_fresh(connection, change)
    _check_parents(connection, change)
    connection.execute(
        insert(changes),
        {
            "change_id": identity.change_id,
            "index": entry.index,
            "leaf_hash": entry.leaf_hash,
            "tenant": identity.tenant,
            "deployment": identity.deployment,
            "scope": identity.scope,
            "requester": identity.requester,
            "request_commitment": identity.request_commitment,
            "base_model": parents.base_model,
            "parent_state": parents.parent_state,
            "pointer_head": parents.pointer_head,
            "policy": parents.policy,
            "suite": parents.suite,
            "state": change.update.state,
            "delta": change.update.delta,
            "status": _first_status(change),
        },
    )


def _first_status(change: ChangeBody) -> Status:
    if change.decision.verdict == "apply":
        return "applied" if change.identity.scope == "instance" else "pending"
    return "held" if change.decision.verdict == "hold" else "rejected"


def _check_states(change: ChangeBody) -> None:
    """A state is named by its base and its delta; where nothing was learned it is the parent's."""
    parents, update = change.parents, change.update
    named = state_digest(parents.base_model, update.delta) if update.delta else parents.parent_state
    if update.state != named:
        raise IntegrityError(
            f"Change {change.identity.change_id}: its state is not that of its base and delta. Make it again."
        )
    if parents.pointer_head is None and parents.parent_state != state_digest(parents.base_model, None):
        raise IntegrityError(
            f"Change {change.identity.change_id}: it names no pointer head, and its parent is not the bare base. "
            "Make it again from the pointer's state."
        )


def _check_fresh(connection: Connection, change: ChangeBody) -> None:
    identity = change.identity
    if exists(connection, changes.c.change_id == identity.change_id):
        raise RefusedError(f"Change {identity.change_id} is recorded already. Give a new change a new id.")
    same_task = (
        (changes.c.tenant == identity.tenant)
        & (changes.c.deployment == identity.deployment)
        & (changes.c.request_commitment == identity.request_commitment)
    )
    if exists(connection, same_task):
        raise RefusedError(
            "This task has a recorded change already. Read that one, or give the task another id to learn from it anew."
        )


def _check_parents(connection: Connection, change: ChangeBody) -> None:
    parents = change.parents
    for kind, digest in (("model", parents.base_model), ("suite", parents.suite), ("policy", parents.policy)):
        if registration_index(connection, kind, digest) is None:
            raise RefusedError(f"The {kind} {digest[:16]} is not registered in this ledger. Register it first.")
    if active_policy(connection) != parents.policy:
        raise StaleChangeError(
            f"Change {change.identity.change_id} was decided by policy {parents.policy[:16]}, which was replaced "
            "since. Run it again under the active policy."
        )
    if parents.pointer_head is not None:
        _check_pointer_read(connection, change, parents.pointer_head)


def _check_pointer_read(connection: Connection, change: ChangeBody, head: int) -> None:
    identity, parents = change.identity, change.parents
    move = move_row(connection, head)
    read = move and (move["tenant"], move["deployment"], move["to_state"])
    if move is None or read != (identity.tenant, identity.deployment, parents.parent_state):
        raise IntegrityError(
            f"Change {identity.change_id}: the pointer {identity.tenant}/{identity.deployment} did not have its "
            f"parent state at head {head}. Make it again from the pointer's state."
        )
    if change_row(connection, move["moved_by"])["base_model"] != parents.base_model:
        raise RefusedError(
            f"Change {identity.change_id} was made from another base model than its pointer's. A pointer keeps its "
            "base; use another deployment for this model."
        )


def _serve(connection: Connection, entry: Entry, body: ResponseServed) -> None:
    if exists(connection, responses.c.response_id == body.response_id):
        raise RefusedError(f"Response {body.response_id} is recorded already. Give a new response a new id.")
    if body.unadapted is not None:
        _check_unadapted(connection, entry, body, body.unadapted)
    else:
        _check_behind(connection, entry, body, body.change_id or "")
    place = {"index": entry.index, "tenant": entry.predicate.tenant, "deployment": entry.predicate.deployment}
    document = body.document() | place
    connection.execute(insert(responses), {column.name: document[column.name] for column in responses.columns})


def _check_behind(connection: Connection, entry: Entry, body: ResponseServed, change_id: str) -> None:
    """An answer with a change behind it comes from one of that change's states."""
    row = change_row(connection, change_id)
    transitions.same_place(entry, row["tenant"], row["deployment"])
    if body.served == "adapted" and row["status"] not in ("applied", "active"):
        raise transitions.not_allowed(row, "serve its adapted answer")
    states = {
        "adapted": row["state"],
        "parent": row["parent_state"],
        "base": state_digest(row["base_model"], None),
    }
    if body.state != states[body.served]:
        raise IntegrityError(
            f"Response {body.response_id} does not name the {body.served} state of change {body.change_id}. Serve that."
        )


def _check_unadapted(connection: Connection, entry: Entry, body: ResponseServed, origin: Unadapted) -> None:
    """An answer with no change behind it comes from the state that its pointer had."""
    for kind, digest in (("model", origin.base_model), ("policy", origin.policy)):
        if registration_index(connection, kind, digest) is None:
            raise RefusedError(f"The {kind} {digest[:16]} is not registered in this ledger. Register it first.")
    place = (entry.predicate.tenant, entry.predicate.deployment)
    if origin.pointer_head is None:
        true_origin = body.state == state_digest(origin.base_model, None)
    else:
        move = move_row(connection, origin.pointer_head)
        true_origin = (
            move is not None
            and (move["tenant"], move["deployment"], move["to_state"]) == (*place, body.state)
            and change_row(connection, move["moved_by"])["base_model"] == origin.base_model
        )
    if not true_origin:
        raise IntegrityError(
            f"Response {body.response_id}: the pointer {'/'.join(place)} did not have its state. Serve it again."
        )


def _replayed(connection: Connection, body: ReplayPerformed) -> None:
    if not known_target(connection, body.target):
        raise NotFoundError(f"There is no change or response {body.target} in this ledger. Check the id.")
