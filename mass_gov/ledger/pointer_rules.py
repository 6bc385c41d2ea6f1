"""What moves or judges a pointer itself, and not one change: a move to another base model, a test after activation.

Rules:

- a pointer moves to the base state of another registered model, by compare-and-swap on its head, never while learning
  is frozen, and only by an operator or an admin. No delta carries over: the changes that were active are retired, which
  means that they cannot be undone one by one any more. The way back is another move
- a test after activation is of the state that the pointer has now
- a failed test and the undoing of the state that failed it stand in one append, each never without the other; the
  undoing is the system's

Whether the recorded counts passed under the policy is derived again by `mass_gov.flows.audit_decisions`: a policy's
limits are no part of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import IntegrityError, PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.evidence.state import state_digest
from mass_gov.ledger.control_rules import check_policy_in_force, refuse_frozen
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import pointer_row, registration_index
from mass_gov.ledger.marks import restate
from mass_gov.ledger.rows import alter, drop, put
from mass_gov.ledger.schema import changes, pointer_moves, pointers
from mass_gov.records.events import ChangeRolledBack, PointerRebased, RegressionPerformed


def rebase(connection: Connection, entry: Entry, body: PointerRebased) -> None:
    """Move a pointer to the base state of another model.

    Raises:
        PermissionRefusedError: by neither an operator nor an admin.
        FrozenError: learning is frozen there.
        StaleChangeError: the pointer is not where the event expects it, or the policy is not in force any more.
        RefusedError: a model or the suite is not registered.
        IntegrityError: the states are not those of the models.
    """
    actor = entry.predicate.actor
    if actor.role not in ("operator", "admin"):
        raise PermissionRefusedError(
            f"{actor.principal} acts as {actor.role} and cannot move a pointer to another model. Let an operator do it."
        )
    place = (entry.predicate.tenant, entry.predicate.deployment)
    refuse_frozen(connection, *place, f"The move of {'/'.join(place)} to another base model")
    check_policy_in_force(connection, entry, body.policy)
    for kind, digest in (("model", body.from_model), ("model", body.to_model), ("suite", body.suite)):
        if registration_index(connection, kind, digest) is None:
            raise RefusedError(f"The {kind} {digest[:16]} is not registered in this ledger. Register it first.")
    pointer = pointer_row(connection, *place)
    _check_head(pointer, body.expected_head, "/".join(place))
    _check_models(pointer, body)
    _move(connection, entry, body, pointer)
    active = (changes.c.tenant == place[0]) & (changes.c.deployment == place[1]) & (changes.c.status == "active")
    for row in connection.execute(select(changes).where(active)).mappings().all():
        alter(connection, changes, row, {"status": "retired"})
        restate(connection, row["index"], "active", "retired")


def note_test(connection: Connection, entry: Entry, body: RegressionPerformed) -> None:
    """Take note of a test of the state that a pointer has.

    Raises:
        PermissionRefusedError: by a requester.
        StaleChangeError: the pointer moved meanwhile, or the policy is not in force any more.
        RefusedError: the suite is not registered.
    """
    actor = entry.predicate.actor
    if actor.role not in ("operator", "admin", "system"):
        raise PermissionRefusedError(
            f"{actor.principal} acts as {actor.role} and cannot record a test of a pointer. Let an operator do it."
        )
    check_policy_in_force(connection, entry, body.policy)
    if registration_index(connection, "suite", body.suite) is None:
        raise RefusedError(f"The suite {body.suite[:16]} is not registered in this ledger. Register it first.")
    place = (entry.predicate.tenant, entry.predicate.deployment)
    pointer = pointer_row(connection, *place)
    _check_head(pointer, body.pointer_head, "/".join(place))
    if pointer is None:
        raise RefusedError(f"Nothing was ever activated in {'/'.join(place)}, so there is nothing to test there.")
    if pointer["state"] != body.state:
        raise IntegrityError(f"Event {entry.index} is a test of another state than its pointer's. Run it again.")


def settle_regressions(entries: Sequence[Entry]) -> None:
    """Check, at the end of an append, that a failed test and what it undoes stand beside each other.

    Raises:
        IntegrityError: an undoing names a failed test and there is none of its state, or a person caused it.
        RefusedError: a test failed, and the state that failed it goes on serving.
    """
    failed = {
        (entry.predicate.tenant, entry.predicate.deployment, entry.predicate.body.state)
        for entry in entries
        if isinstance(entry.predicate.body, RegressionPerformed) and not entry.predicate.body.passed
    }
    undone: set[tuple[str, str, str]] = set()
    for entry in entries:
        said, body = entry.predicate, entry.predicate.body
        if not isinstance(body, ChangeRolledBack) or body.cause != "regression":
            continue
        undone.add((said.tenant, said.deployment, body.from_state))
        if said.actor.role != "system" or (said.tenant, said.deployment, body.from_state) not in failed:
            raise IntegrityError(
                f"Change {body.change_id} is rolled back for a failed test, and no test of its state failed here, or a "
                "person did it. Append both together, as the system."
            )
    if failed - undone:
        raise RefusedError(
            "A test of a pointer failed, and the state that failed it is not undone. Append both together."
        )


def _check_head(pointer: RowMapping | None, expected: int | None, name: str) -> None:
    head = pointer["head_index"] if pointer is not None else None
    if head != expected:
        raise StaleChangeError(
            f"The pointer {name} was expected at head {expected} and is at {head}: it moved meanwhile. Run it again."
        )


def _check_models(pointer: RowMapping | None, body: PointerRebased) -> None:
    if body.from_model == body.to_model:
        raise RefusedError(f"The pointer stands on the model {body.to_model[:16]} already. Name another one.")
    model = pointer["base_model"] if pointer is not None else body.from_model
    state = pointer["state"] if pointer is not None else state_digest(body.from_model, None)
    if (body.from_model, body.from_state) != (model, state):
        raise IntegrityError("The move does not start from the pointer's own model and state. Read it and try again.")
    if body.to_state != state_digest(body.to_model, None):
        raise IntegrityError("The move does not end on the new model's base state: no delta carries over. Try again.")


def _move(connection: Connection, entry: Entry, body: PointerRebased, pointer: RowMapping | None) -> None:
    place = {"tenant": entry.predicate.tenant, "deployment": entry.predicate.deployment}
    moved = {
        "index": entry.index,
        "cause": "rebase",
        "moved_by": None,
        "from_head": body.expected_head,
        "from_state": body.from_state,
        "from_change": pointer["change_id"] if pointer is not None else None,
        "to_state": body.to_state,
        "to_change": None,
        "base_model": body.to_model,
    }
    put(connection, pointer_moves, place | moved)
    if pointer is not None:
        drop(connection, pointers, pointer)
    now = {"state": body.to_state, "change_id": None, "head_index": entry.index, "base_model": body.to_model}
    put(connection, pointers, place | now)
