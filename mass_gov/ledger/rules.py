"""What an event must be, whatever became of changes before it: who caused it, whose data it holds, what it registers.

Rules:

- an auditor looks: replays, exports and denials are all that one can cause; an export names a log that was there
- artifacts are sealed under the handle that the leaf names, so that erasing a person reaches all that is theirs; what
  belongs to nobody (policies, suites, reasons) is sealed under the system's handle
- a suite's name and digest belong together for good; a model may be registered again, with another prompt template
- a policy is proposed, and activated by one of its approvers, in place of the one that was in force (compare-and-swap);
  every other approver proposed that file for that place. Whether a policy widens, and may be put in force by one person
  alone, is for those to say who can read policies: the flow that activates one, and `verify`
- a replay that found nothing different names no difference, and any other replay that differs names one

This module does not know changes.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

from mass_gov.errors import IntegrityError, PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.evidence.keystore import SYSTEM_SUBJECT
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import active_policy, exists, proposers
from mass_gov.ledger.rows import put
from mass_gov.ledger.schema import registrations
from mass_gov.records.events import (
    AccessDenied,
    ChangeRecorded,
    ExportMade,
    ModelRegistered,
    PolicyActivated,
    PolicyProposed,
    Predicate,
    ReplayPerformed,
    ResponseServed,
    SuiteRegistered,
)

_AN_AUDITORS = ReplayPerformed | AccessDenied | ExportMade


def check_event(entry: Entry) -> None:
    """Check who caused an event, and whose its artifacts are.

    Raises:
        PermissionRefusedError: an auditor did something.
        IntegrityError: an artifact is sealed under another handle than the event's.
    """
    predicate = entry.predicate
    kind = predicate.body.type
    if predicate.actor.role == "auditor" and not isinstance(predicate.body, _AN_AUDITORS):
        raise PermissionRefusedError(
            f"Event {entry.index}: {predicate.actor.principal} acts as an auditor, who can replay and export, and not "
            f"cause a {kind}. Let an operator do it."
        )
    if isinstance(predicate.body, ExportMade) and predicate.body.size > entry.index:
        raise IntegrityError(f"Event {entry.index}: an export cannot be made of events that come later. Make it again.")
    for ref in predicate.artifacts:
        if ref.subject != subject_of(predicate):
            raise IntegrityError(
                f"Event {entry.index}: its artifact {ref.role} is sealed under {ref.subject}, and the event is about "
                f"{subject_of(predicate)}. Erasing that person would not reach it; write it again."
            )


def subject_of(predicate: Predicate) -> str:
    """The handle whose key seals the artifacts of an event."""
    body = predicate.body
    if isinstance(body, ChangeRecorded):
        return body.change.identity.subject
    if isinstance(body, ResponseServed) and body.unadapted is not None:
        return body.unadapted.subject
    return SYSTEM_SUBJECT


def register_model(connection: Connection, entry: Entry, body: ModelRegistered) -> None:
    """Keep the digest of a model with that of the template by which problems are put to it."""
    _register(connection, entry, "model", body.model, body.prompt_template)


def register_suite(connection: Connection, entry: Entry, body: SuiteRegistered) -> None:
    """Bind a suite's name to its digest.

    Raises:
        RefusedError: one of the two is bound to something else.
    """
    same = (registrations.c.digest == body.suite, registrations.c.name == body.name)
    half = (registrations.c.kind == "suite") & ((same[0] & ~same[1]) | (~same[0] & same[1]))
    if exists(connection, half):
        raise RefusedError(
            f"The suite {body.name} ({body.suite[:16]}) cannot be registered: its name or its file is registered as "
            "another suite. A changed suite gets a name of its own."
        )
    _register(connection, entry, "suite", body.suite, body.name)


def activate_policy(connection: Connection, entry: Entry, body: PolicyActivated) -> None:
    """Put a policy in the place of the one in force.

    Raises:
        IntegrityError: it is activated by nobody, by somebody else, or does not say truly whether by one alone.
        RefusedError: one of its approvers never proposed it.
        StaleChangeError: another policy is in force than the one that it replaces.
    """
    actor = entry.predicate.actor.principal
    if actor not in body.approvers or len(set(body.approvers)) != len(body.approvers):
        raise IntegrityError(
            f"Event {entry.index}: {actor} activates the policy {body.name} and is not among its approvers, or one of "
            "them is named twice. Name everybody who approved it, once."
        )
    if body.self_approved != (set(body.approvers) == {actor}):
        raise IntegrityError(f"Event {entry.index}: it does not say truly whether the policy is self-approved. Say so.")
    _check_replaces(connection, body)
    if silent := sorted(set(body.approvers) - {actor} - set(proposers(connection, body.policy))):
        raise RefusedError(
            f"{silent[0]} is named as an approver of the policy {body.name} and did not propose it in the place of the "
            "one in force. Let them run `mass-gov policy activate` first."
        )
    _register(connection, entry, "policy", body.policy, body.name)


def propose_policy(connection: Connection, entry: Entry, body: PolicyProposed) -> None:
    """Count one person's yes to a policy, for as long as the one in force stays there.

    Raises:
        StaleChangeError: another policy is in force than the one that it would replace.
        RefusedError: it is in force, or the same person proposed it already.
    """
    _check_replaces(connection, body)
    if body.replaces is None or body.replaces == body.policy:
        raise RefusedError(f"The policy {body.name} is in force, or is the first: activate it, nothing is proposed.")
    principal = entry.predicate.actor.principal
    if principal in proposers(connection, body.policy):
        raise RefusedError(f"{principal} proposed the policy {body.name} already. Another person has to activate it.")
    _register(connection, entry, "proposal", body.policy, principal)


def _check_replaces(connection: Connection, body: PolicyActivated | PolicyProposed) -> None:
    in_force = active_policy(connection)
    if body.replaces != in_force:
        raise StaleChangeError(
            f"The policy {body.name} was to replace {_short(body.replaces)}, and {_short(in_force)} is in force. "
            "Look at the policy in force and decide again."
        )


def check_replay(entry: Entry, body: ReplayPerformed) -> None:
    """Check that a replay's verdict and its first difference say the same.

    Raises:
        IntegrityError: they do not.
    """
    if body.verdict != "not replayable" and (body.verdict == "differs") != (body.first_difference is not None):
        raise IntegrityError(
            f"Event {entry.index}: a replay that came out {body.verdict!r} has the first difference "
            f"{body.first_difference}. Replay it again."
        )


def _register(connection: Connection, entry: Entry, kind: str, digest: str, name: str) -> None:
    row = {"index": entry.index, "kind": kind, "digest": digest, "name": name}
    put(connection, registrations, row)


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:16]
