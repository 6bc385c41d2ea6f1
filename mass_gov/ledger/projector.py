"""From the log to what readers query: one entry in, rows out, or a refusal that undoes the whole transaction.

Rules that a log must keep, checked when an event is written and again by `verify`, which replays them into a copy:

- the first event, and no other, opens the log
- ids of changes and responses are used once, and so is a task (tenant, deployment, request commitment), but for a
  change that takes the place of a stale one
- a change agrees with itself (`policy.consistent`); it names a registered suite, a registered model with its prompt
  template, the policy in force and the state that its pointer has at that moment, so that nothing is learned from
  weights that were rolled back meanwhile; its own state follows from base and delta; its event stands under its own
  tenant and deployment
- a response serves a state of its change, and an adapted answer only while the change is applied or active; one with no
  change behind it serves its pointer's state under the policy in force
- who may cause an event, whose its artifacts are, what it registers: `rules`; principals and tokens: `principal_rules`
- which keys sign: `key_rules`; whose data is held or erased, and that nothing is made or served from what was erased:
  `subject_rules`
- whether learning goes on, and that nothing is recorded while it does not: `control_rules`
- what becomes of a change afterwards: `transitions`; of an incident: `incident_rules`

This module does not know signatures, hashes or artifacts: an entry that reaches it is already believed.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import IntegrityError, NotFoundError, RefusedError, StaleChangeError
from mass_gov.evidence.state import state_digest
from mass_gov.ledger import (
    control_rules,
    incident_rules,
    key_rules,
    marks,
    pointer_rules,
    principal_rules,
    rules,
    subject_rules,
    transitions,
)
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import (
    active_policy,
    change_row,
    exists,
    known_target,
    move_row,
    newest_of_task,
    pointer_row,
    registered_name,
    registration_index,
)
from mass_gov.ledger.rows import put
from mass_gov.ledger.schema import changes, responses
from mass_gov.policy import consistent
from mass_gov.records.change import ChangeBody
from mass_gov.records.events import (
    AccessDenied,
    ChangeActivated,
    ChangeApproved,
    ChangeRecorded,
    ChangeRejected,
    ChangeRolledBack,
    ControlFrozen,
    ControlUnfrozen,
    ExportMade,
    IncidentClosed,
    IncidentOpened,
    IncidentUpdated,
    KeyRevoked,
    KeyRotated,
    LogOpened,
    ModelRegistered,
    PointerRebased,
    PolicyActivated,
    PolicyProposed,
    PrincipalRegistered,
    RegressionPerformed,
    ReplayPerformed,
    ResponseServed,
    SubjectErased,
    SubjectHeld,
    SubjectReleased,
    SuiteRegistered,
    TokenIssued,
    TokenRevoked,
    Unadapted,
)


def apply(connection: Connection, entry: Entry) -> None:
    """Write what `entry` means into the projections.

    Raises:
        RefusedError: the rules above do not allow it now; StaleChangeError when they did at the time the caller looked.
        IntegrityError: the event contradicts itself, whatever the ledger holds.
        NotFoundError: it is about a change that is not in this ledger.
    """
    _check_opening(entry)
    rules.check_event(entry)
    principal_rules.check_actor(connection, entry)
    match entry.predicate.body:
        case ModelRegistered() as body:
            rules.register_model(connection, entry, body)
        case SuiteRegistered() as body:
            rules.register_suite(connection, entry, body)
        case PolicyActivated() as body:
            rules.activate_policy(connection, entry, body)
        case PolicyProposed() as body:
            rules.propose_policy(connection, entry, body)
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
            rules.check_replay(entry, body)
            _check_target(connection, body)
        case _:
            _control(connection, entry)


def _control(connection: Connection, entry: Entry) -> None:
    """Events that are about no change: keys, pointers, incidents, and whether learning goes on."""
    match entry.predicate.body:
        case LogOpened() as body:
            key_rules.open_with(connection, entry, body)
        case KeyRotated() as body:
            key_rules.rotate(connection, entry, body)
        case KeyRevoked() as body:
            key_rules.revoke(connection, entry, body)
        case ControlFrozen() as body:
            control_rules.freeze(connection, entry, body)
        case ControlUnfrozen() as body:
            control_rules.unfreeze(connection, entry, body)
        case PointerRebased() as body:
            pointer_rules.rebase(connection, entry, body)
        case RegressionPerformed() as body:
            pointer_rules.note_test(connection, entry, body)
        case IncidentOpened() as body:
            incident_rules.open_(connection, entry, body)
        case IncidentUpdated() as body:
            incident_rules.update_(connection, entry, body)
        case IncidentClosed() as body:
            incident_rules.close(connection, entry, body)
        case _:
            _people(connection, entry)


def _people(connection: Connection, entry: Entry) -> None:
    """Events that are about people: whose data it is, and who may act."""
    match entry.predicate.body:
        case SubjectHeld() as body:
            subject_rules.hold(connection, entry, body)
        case SubjectReleased() as body:
            subject_rules.release(connection, entry, body)
        case SubjectErased() as body:
            subject_rules.erase(connection, entry, body)
        case PrincipalRegistered() as body:
            principal_rules.register(connection, entry, body)
        case TokenIssued() as body:
            principal_rules.issue(connection, entry, body)
        case TokenRevoked() as body:
            principal_rules.revoke(connection, entry, body)
        case AccessDenied() | ExportMade():
            pass  # nothing to query: they are read from the log itself


def _check_opening(entry: Entry) -> None:
    if isinstance(entry.predicate.body, LogOpened) != (entry.index == 0):
        raise IntegrityError(f"Event {entry.index}: a log is opened by its first event and by no other. Restore it.")


def _record(connection: Connection, entry: Entry, change: ChangeBody) -> None:
    identity, parents = change.identity, change.parents
    transitions.same_place(entry, identity.tenant, identity.deployment)
    control_rules.refuse_frozen(connection, identity.tenant, identity.deployment, f"Change {identity.change_id}")
    subject_rules.refuse_erased(connection, identity.subject, f"Change {identity.change_id}")
    consistent(change)
    key_rules.check_delta(connection, entry.index, change.update.delta_key)
    _check_states(change)
    _check_fresh(connection, change)
    _check_parents(connection, change)
    put(
        connection,
        changes,
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
            "status": marks.first_status(change),
            "subject": identity.subject,
        },
    )


def _check_states(change: ChangeBody) -> None:
    """A state is named by its base and its delta; where nothing was learned it is the parent's."""
    parents, update = change.parents, change.update
    named = state_digest(parents.base_model, update.delta) if update.delta else parents.parent_state
    if update.state != named:
        raise IntegrityError(
            f"Change {change.identity.change_id}: its state is not that of its base and delta. Make it again."
        )


def _check_fresh(connection: Connection, change: ChangeBody) -> None:
    identity = change.identity
    if exists(connection, changes.c.change_id == identity.change_id):
        raise RefusedError(f"Change {identity.change_id} is recorded already. Give a new change a new id.")
    newest = newest_of_task(connection, identity.tenant, identity.deployment, identity.request_commitment)
    if identity.rebased_from is not None:
        transitions.check_rebased(connection, identity, newest)
    elif newest is not None:
        raise RefusedError(
            "This task has a recorded change already. Read that one, or give the task another id to learn from it anew."
        )


def _check_parents(connection: Connection, change: ChangeBody) -> None:
    identity, parents = change.identity, change.parents
    what = f"Change {identity.change_id}"
    if registration_index(connection, "suite", parents.suite) is None:
        raise RefusedError(f"The suite {parents.suite[:16]} is not registered in this ledger. Register it first.")
    _check_model(connection, parents.base_model, parents.prompt_template)
    _check_policy(connection, parents.policy, what)
    place = (identity.tenant, identity.deployment)
    _check_pointer(connection, place, parents.pointer_head, parents.parent_state, parents.base_model, what)


def _check_model(connection: Connection, model: str, template: str) -> None:
    registered = registered_name(connection, "model", model)
    if registered is None:
        raise RefusedError(f"The model {model[:16]} is not registered in this ledger. Register it first.")
    if registered != template:
        raise RefusedError(
            f"The model {model[:16]} is registered with the prompt template {registered[:16]}, not with "
            f"{template[:16]}. Register it with the template that it is used with."
        )


def _check_policy(connection: Connection, policy: str, what: str) -> None:
    if registration_index(connection, "policy", policy) is None:
        raise RefusedError(f"The policy {policy[:16]} is not registered in this ledger. Register it first.")
    if active_policy(connection) != policy:
        raise StaleChangeError(
            f"{what} was decided by policy {policy[:16]}, which was replaced since. Run it again under the active "
            "policy."
        )


def _check_pointer(
    connection: Connection, place: tuple[str, str], head: int | None, state: str, base_model: str, what: str
) -> None:
    """What is written now comes from the state that the pointer has now, and from the pointer's base model."""
    move = move_row(connection, head) if head is not None else None
    if not _had(move, place, state) if head is not None else state != state_digest(base_model, None):
        raise IntegrityError(
            f"{what}: the pointer {'/'.join(place)} did not have its state at head {head}. Make it again from the "
            "pointer's state."
        )
    now = pointer_row(connection, *place)
    if head != (now["head_index"] if now else None):
        raise StaleChangeError(
            f"{what}: the pointer {'/'.join(place)} moved after its state was read (head {head}). Run it again from "
            "the current state."
        )
    if move is not None and move["base_model"] != base_model:
        raise RefusedError(
            f"{what} was made from another base model than its pointer's. A pointer keeps its base until `mass-gov "
            "pointers rebase` moves it; or use another deployment for this model."
        )


def _had(move: RowMapping | None, place: tuple[str, str], state: str) -> bool:
    return move is not None and (move["tenant"], move["deployment"], move["to_state"]) == (*place, state)


def _serve(connection: Connection, entry: Entry, body: ResponseServed) -> None:
    if exists(connection, responses.c.response_id == body.response_id):
        raise RefusedError(f"Response {body.response_id} is recorded already. Give a new response a new id.")
    if body.unadapted is not None:
        _check_unadapted(connection, entry, body, body.unadapted)
    else:
        _check_behind(connection, entry, body, body.change_id or "")
    place = {"index": entry.index, "tenant": entry.predicate.tenant, "deployment": entry.predicate.deployment}
    document = body.document() | place | {"subject": body.unadapted.subject if body.unadapted is not None else None}
    put(connection, responses, {column.name: document[column.name] for column in responses.columns})


def _check_behind(connection: Connection, entry: Entry, body: ResponseServed, change_id: str) -> None:
    """An answer with a change behind it comes from one of that change's states."""
    row = change_row(connection, change_id)
    transitions.same_place(entry, row["tenant"], row["deployment"])
    subject_rules.refuse_erased(connection, row["subject"], f"Response {body.response_id}")
    if body.served == "parent":
        subject_rules.refuse_erased_parent(connection, row, f"Response {body.response_id}")
    if body.served == "adapted" and row["status"] not in ("applied", "active", "retired"):
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
    """An answer with no change behind it comes from the state that its pointer has."""
    what = f"Response {body.response_id}"
    subject_rules.refuse_erased(connection, origin.subject, what)
    _check_model(connection, origin.base_model, origin.prompt_template)
    _check_policy(connection, origin.policy, what)
    place = (entry.predicate.tenant, entry.predicate.deployment)
    _check_pointer(connection, place, origin.pointer_head, body.state, origin.base_model, what)


def _check_target(connection: Connection, body: ReplayPerformed) -> None:
    if not known_target(connection, body.target):
        raise NotFoundError(f"There is no change or response {body.target} in this ledger. Check the id.")
