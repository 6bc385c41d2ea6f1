"""The event catalogue, in one place: every type of log entry, its body, and the in-toto subjects it names.

An event is an in-toto Statement v1 whose predicate is `Predicate`; `mass_gov.evidence` signs it, the ledger keeps it.
Reserved types have a name (so that readers know it) and no body yet; nothing can write them.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from mass_gov.records.artifacts import ArtifactRef
from mass_gov.records.base import BigInteger, Count, Digest, Record, Slug, SubjectHandle, Timestamp, Uuid, not_said
from mass_gov.records.change import ChangeBody, Cost, RegressionSummary, Scope

PREDICATE_TYPE = "urn:mass-gov:event:v1"

RESERVED_TYPES: tuple[str, ...] = ("change.submitted",)
"""Names that later formats fill; a log that holds one of them needs a newer reader."""

Origin = Annotated[str, Field(pattern=r"^[A-Za-z0-9./_-]{1,200}$")]
"""Name of a log, as in its checkpoints."""

EVENT_FORMAT = 1
Purpose = Literal["log", "delta"]
"""What a key signs: events and checkpoints, or deltas."""
Role = Literal["requester", "operator", "auditor", "admin", "system"]
PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=]{1,400}$")]
"""SubjectPublicKeyInfo DER, base64."""
Signature = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=]{88}$")]
"""Ed25519 signature, base64."""
Stage = Literal["samples", "gates", "delta", "regression", "decision", "answer"]


class Actor(Record):
    """Who caused the event."""

    principal: Slug
    role: Role


class Predecessor(Record):
    """The sealed log that this one succeeds."""

    origin: Origin
    size: Count
    root: Digest


class LogOpened(Record):
    """First event of every log: its origin and the keys that speak for it."""

    type: Literal["log.opened"] = "log.opened"
    log_key: Digest
    log_public_key: str = Field(pattern=r"^[A-Za-z0-9+/=]{1,400}$")
    """SubjectPublicKeyInfo DER, base64."""
    delta_key: Digest
    delta_public_key: str = Field(pattern=r"^[A-Za-z0-9+/=]{1,400}$")
    predecessor: Predecessor | None
    software: str = Field(pattern=r"^mass-gov/[0-9A-Za-z.+-]{1,40}$")


class ModelRegistered(Record):
    """A base model that changes may be made from."""

    type: Literal["model.registered"] = "model.registered"
    model: Digest
    prompt_template: Digest
    parameters: BigInteger


class SuiteRegistered(Record):
    """A regression suite; the file is the artifact `suite`."""

    type: Literal["suite.registered"] = "suite.registered"
    suite: Digest
    name: Slug
    cases: Count


class PolicyActivated(Record):
    """The policy that decides from here on; the file is the artifact `policy`."""

    type: Literal["policy.activated"] = "policy.activated"
    policy: Digest
    name: Slug
    version: Count
    replaces: Digest | None
    """The policy in force before; None for the first one. Compare-and-swap, so that no activation is overlooked."""
    approvers: tuple[Slug, ...]
    self_approved: bool
    widens: Annotated[tuple[Slug, ...] | None, Field(exclude_if=not_said)] = None
    """What it lets pass that the policy before did not (`mass_gov.policy.widening`); None before that was looked at."""


class PolicyProposed(Record):
    """One person's yes to a policy that needs two: the other activates it. The file is the artifact `policy`."""

    type: Literal["policy.proposed"] = "policy.proposed"
    policy: Digest
    name: Slug
    version: Count
    replaces: Digest | None
    widens: tuple[Slug, ...]


class ChangeRecorded(Record):
    """One test-time update with its decision."""

    type: Literal["change.recorded"] = "change.recorded"
    change: ChangeBody


class ChangeApproved(Record):
    """A person's yes, bound to exactly what they saw."""

    type: Literal["change.approved"] = "change.approved"
    change_id: Uuid
    recorded: Digest
    """RFC 6962 leaf hash of the `change.recorded` event that is approved."""
    parent_state: Digest
    expected_head: Count | None
    policy: Digest
    suite: Digest
    meaning: Literal["apply", "promote"]
    self_approved: bool
    approvals: Count
    """How many approvals the change has with this one."""
    required: Count
    shown: Annotated[Digest | None, Field(exclude_if=not_said)] = None
    """Commitment to the behaviour diff that the approver was shown (HMAC-SHA256 of its canonical bytes)."""
    authenticated_at: Annotated[Timestamp | None, Field(exclude_if=not_said)] = None
    """When the approver last proved who they are."""
    signing_key: Annotated[Digest | None, Field(exclude_if=not_said)] = None
    """The approver's own key; its signature covers the canonical bytes of this body without `signature`."""
    signature: Annotated[Signature | None, Field(exclude_if=not_said)] = None


class ChangeRejected(Record):
    """A no: a person's, or that of the time in which nobody said yes."""

    type: Literal["change.rejected"] = "change.rejected"
    change_id: Uuid
    recorded: Digest
    cause: Annotated[Literal["person", "expired", "rebased"] | None, Field(exclude_if=not_said)] = None
    """None before approvals could expire: a person's. `rebased`: another change took its place."""


class ChangeActivated(Record):
    """The pointer moved to the change's state; compare-and-swap on `expected_head`."""

    type: Literal["change.activated"] = "change.activated"
    change_id: Uuid
    expected_head: Count | None
    from_state: Digest
    to_state: Digest
    cause: Literal["envelope", "approval", "promotion"]


class ChangeRolledBack(Record):
    """The change was undone: the pointer moved back, or an instance-scope answer was withdrawn."""

    type: Literal["change.rolled_back"] = "change.rolled_back"
    change_id: Uuid
    moved_pointer: bool
    expected_head: Count | None
    from_state: Digest
    to_state: Digest
    cascade_of: Uuid | None
    """The change whose rollback took this one with it."""
    affected_responses: Count
    cause: Annotated[Literal["person", "regression", "erasure"] | None, Field(exclude_if=not_said)] = None
    """None before anything but a person could cause one."""


class PointerRebased(Record):
    """The pointer moved to another base model, explicitly and after a regression test; no delta carries over."""

    type: Literal["pointer.rebased"] = "pointer.rebased"
    expected_head: Count | None
    from_model: Digest
    from_state: Digest
    to_model: Digest
    to_state: Digest
    """The new model's base state."""
    policy: Digest
    suite: Digest
    regression: RegressionSummary
    """New base against the pointer's state (previous) and against the old base."""


class RegressionPerformed(Record):
    """A suite was run on the pointer's state after it was activated."""

    type: Literal["regression.performed"] = "regression.performed"
    state: Digest
    pointer_head: Count | None
    policy: Digest
    suite: Digest
    regression: RegressionSummary
    """The state against the one before its newest change (previous) and against the base."""
    passed: bool


class ControlFrozen(Record):
    """Learning stops, serving goes on. Why is the artifact `reason`."""

    type: Literal["control.frozen"] = "control.frozen"
    extent: Literal["deployment", "everywhere"]
    cause: Literal["operator", "monitor", "regression"]
    monitor: Slug | None
    """The window gate that raised the alarm."""
    policy: Digest
    """The policy in force."""


class ControlUnfrozen(Record):
    """Learning may go on. Why is the artifact `reason`."""

    type: Literal["control.unfrozen"] = "control.unfrozen"
    extent: Literal["deployment", "everywhere"]
    frozen: Count
    """Log index of the freeze that ends."""
    policy: Digest


class PrincipalRegistered(Record):
    """Who may act, as what, and asking for which scopes; a later one of the same name takes its place."""

    type: Literal["principal.registered"] = "principal.registered"
    principal: Slug
    roles: tuple[Role, ...]
    """None of them: the principal may do nothing any more."""
    scopes: tuple[Scope, ...]
    """What it may ask for, within what its roles may."""
    public_key: PublicKey | None
    """Its own Ed25519 key, by which it signs approvals."""
    policy: Digest
    tenants: Annotated[tuple[Slug, ...] | None, Field(exclude_if=not_said)] = None
    """The tenants that it is let into; None for all of them, as everybody was before it could be said."""


class TokenIssued(Record):
    """A bearer token of 256 random bits, by its hash."""

    type: Literal["token.issued"] = "token.issued"
    token_id: Uuid
    principal: Slug
    token_hash: Digest
    """SHA-256 of the token."""
    expires_at: Timestamp | None


class TokenRevoked(Record):
    """A bearer token that is not accepted any more."""

    type: Literal["token.revoked"] = "token.revoked"
    token_id: Uuid
    token_hash: Digest


class Unadapted(Record):
    """What an answer with no change behind it was made from; its request and answer are this event's artifacts."""

    base_model: Digest
    pointer_head: Count | None
    config: Digest
    prompt_template: Digest
    policy: Digest
    fingerprint: Digest
    subject: SubjectHandle
    requested_at: Timestamp
    cost: Cost


class ResponseServed(Record):
    """An answer left the system, and from which state."""

    type: Literal["response.served"] = "response.served"
    response_id: Uuid
    change_id: Uuid | None
    """The change behind the answer; None when the pointer's state answered with no update."""
    state: Digest
    served: Literal["adapted", "parent", "base", "unadapted"]
    """Whose answer was served. `parent` and `base` mean that the change did not apply."""
    unadapted: Unadapted | None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        plain = self.served == "unadapted"
        if plain != (self.change_id is None) or plain != (self.unadapted is not None):
            raise ValueError("an answer has a change behind it, or says what else it was made from")
        return self


class AccessDenied(Record):
    """A refusal, aggregated so that a flood cannot fill the log."""

    type: Literal["access.denied"] = "access.denied"
    action: Slug
    policy: Digest
    """The policy that refused."""
    change_id: Uuid | None
    count: Count


class ReplayPerformed(Record):
    """Somebody replayed a change or a response, and what came out."""

    type: Literal["replay.performed"] = "replay.performed"
    target: Uuid
    start: Literal["delta", "samples", "scratch"]
    verdict: Literal["equal", "equal, other fingerprint", "differs", "not replayable"]
    first_difference: Stage | None
    fingerprint: Digest


class KeyRotated(Record):
    """One key took over from another. The old and the new key both sign the event, after the log's key."""

    type: Literal["key.rotated"] = "key.rotated"
    purpose: Purpose
    old_key: Digest
    new_key: Digest
    new_public_key: str = Field(pattern=r"^[A-Za-z0-9+/=]{1,400}$")
    """SubjectPublicKeyInfo DER, base64. It is valid from the next event on."""


class KeyRevoked(Record):
    """A key that is not in use any more will not be believed as before. Why is the artifact `reason`."""

    type: Literal["key.revoked"] = "key.revoked"
    purpose: Purpose
    key: Digest
    compromised: bool
    """Somebody else may have had it: what it signed is believed up to `trusted_size` only."""
    trusted_size: Count
    """Size of the newest head that enough witnesses cosigned; 0 where none did. Of a key that is not compromised, the
    size of the log before this event."""


class SubjectErased(Record):
    """A subject's key was destroyed. Who asked for it, and why, is the artifact `reason`."""

    type: Literal["subject.erased"] = "subject.erased"
    subject: SubjectHandle
    artifacts: Count
    """How many artifacts were sealed for the subject."""
    deltas: Count
    """How many deltas were trained on the subject's data, or on a state that was."""
    rolled_back: Count
    """How many changes of that lineage stand rolled back, for whatever reason; the others were rejected."""


class SubjectHeld(Record):
    """A legal hold: the subject cannot be erased until it is released. Why is the artifact `reason`."""

    type: Literal["subject.held"] = "subject.held"
    subject: SubjectHandle


class SubjectReleased(Record):
    """The legal hold on a subject ended. Why is the artifact `reason`."""

    type: Literal["subject.released"] = "subject.released"
    subject: SubjectHandle


class ExportMade(Record):
    """Somebody took a copy out of the log, and of what it was made."""

    type: Literal["export.made"] = "export.made"
    kind: Literal["log", "change", "report"]
    name: Slug
    """Of a report, which one."""
    size: Count
    """How many events of the log it was made of: the head that it names."""
    content: Digest
    """SHA-256 of what left; of a report, of its canonical JSON, whatever form it was read in."""


class Grade(Record):
    """How grave an incident is, and by when that has to be reported."""

    severity: Slug
    """As the mapping file names it."""
    report_within_days: Count | None
    """Days from `aware_at`; None where nobody has to be told."""
    clauses: Digest
    """SHA-256 of the mapping file that says so (`policies/clauses/`); the file is the artifact `clauses`."""


Named = Annotated[tuple[Uuid, ...], Field(max_length=64)]
NamedEvents = Annotated[tuple[Count, ...], Field(max_length=64)]


class IncidentOpened(Record):
    """Something went wrong, or may have. What, in whose words, is the artifact `incident`."""

    type: Literal["incident.opened"] = "incident.opened"
    incident_id: Uuid
    aware_at: Timestamp
    """When somebody first knew: deadlines run from here."""
    grade: Grade
    changes: Named
    """What it is about. What else is affected follows from the log, and is not said here."""
    responses: Named
    events: NamedEvents
    """Log indices of what raised it: an alarm, a rollback."""


class IncidentUpdated(Record):
    """What became of an open incident. Why, or what was found, is the artifact `reason`."""

    type: Literal["incident.updated"] = "incident.updated"
    incident_id: Uuid
    opened: Digest
    """RFC 6962 leaf hash of its `incident.opened`."""
    step: Literal["acknowledged", "noted", "regraded", "reported"]
    grade: Grade | None
    """Of `regraded` alone: the grade from here on."""
    reported_at: Timestamp | None
    """Of `reported` alone: when whoever has to know was told."""
    changes: Named
    """What it turned out to be about besides."""
    responses: Named
    events: NamedEvents


class IncidentClosed(Record):
    """Nothing is left to do about an incident. Why is the artifact `reason`."""

    type: Literal["incident.closed"] = "incident.closed"
    incident_id: Uuid
    opened: Digest
    """RFC 6962 leaf hash of its `incident.opened`."""
    outcome: Literal["resolved", "unfounded"]


Body = Annotated[
    LogOpened
    | ModelRegistered
    | SuiteRegistered
    | PolicyActivated
    | ChangeRecorded
    | ChangeApproved
    | ChangeRejected
    | ChangeActivated
    | ChangeRolledBack
    | ResponseServed
    | AccessDenied
    | ReplayPerformed
    | KeyRotated
    | KeyRevoked
    | SubjectErased
    | SubjectHeld
    | SubjectReleased
    | PolicyProposed
    | PointerRebased
    | RegressionPerformed
    | ControlFrozen
    | ControlUnfrozen
    | PrincipalRegistered
    | TokenIssued
    | TokenRevoked
    | ExportMade
    | IncidentOpened
    | IncidentUpdated
    | IncidentClosed,
    Field(discriminator="type"),
]


EVENT_TYPES: frozenset[str] = frozenset(str(one.model_fields["type"].default) for one in get_args(get_args(Body)[0]))
"""The types that this release reads and writes."""


class Predicate(Record):
    """Everything that one log entry says."""

    format: Literal[1]
    event_id: Uuid
    origin: Origin
    time: Timestamp
    actor: Actor
    tenant: Slug
    deployment: Slug
    body: Body
    artifacts: tuple[ArtifactRef, ...]


class Subject(Record):
    """An in-toto subject: what the event is about, by digest."""

    name: str
    sha256: Digest


def subjects_of(body: Body) -> tuple[Subject, ...]:  # noqa: PLR0911, PLR0912 - one line per type: a table
    """Return the in-toto subjects of an event: the digests it is about (DESIGN section 5, last line)."""
    match body:
        case LogOpened():
            return (
                Subject(name="log-key", sha256=body.log_key),
                Subject(name="delta-key", sha256=body.delta_key),
            )
        case ModelRegistered():
            return (Subject(name="model", sha256=body.model),)
        case SuiteRegistered():
            return (Subject(name="suite", sha256=body.suite),)
        case PolicyActivated() | PolicyProposed() | ControlFrozen() | ControlUnfrozen() | PrincipalRegistered():
            return (Subject(name="policy", sha256=body.policy),)
        case ChangeRecorded():
            return _change_subjects(body.change)
        case ChangeApproved() | ChangeRejected():
            return (Subject(name="change", sha256=body.recorded),)
        case ChangeActivated() | ChangeRolledBack():
            return (Subject(name="state", sha256=body.to_state),)
        case ResponseServed() | RegressionPerformed():
            return (Subject(name="state", sha256=body.state),)
        case PointerRebased():
            return (Subject(name="state", sha256=body.to_state), Subject(name="model", sha256=body.to_model))
        case TokenIssued() | TokenRevoked():
            return (Subject(name="token", sha256=body.token_hash),)
        case AccessDenied():
            return (Subject(name="policy", sha256=body.policy),)
        case ReplayPerformed():
            return (Subject(name="fingerprint", sha256=body.fingerprint),)
        case ExportMade():
            return (Subject(name="export", sha256=body.content),)
        case IncidentOpened():
            return (Subject(name="clauses", sha256=body.grade.clauses),)
        case IncidentUpdated() | IncidentClosed():
            return (Subject(name="incident", sha256=body.opened),)
        case KeyRotated():
            return (Subject(name="old-key", sha256=body.old_key), Subject(name="new-key", sha256=body.new_key))
        case KeyRevoked():
            return (Subject(name="key", sha256=body.key),)
        case SubjectErased() | SubjectHeld() | SubjectReleased():
            # A random handle: its digest gives nothing away.
            return (Subject(name="subject", sha256=hashlib.sha256(body.subject.encode("ascii")).hexdigest()),)


def _change_subjects(change: ChangeBody) -> tuple[Subject, ...]:
    named = {
        "state": change.update.state,
        "delta": change.update.delta,
        "parent-state": change.parents.parent_state,
        "base-model": change.parents.base_model,
        "policy": change.parents.policy,
        "suite": change.parents.suite,
        "config": change.parents.config,
    }
    return tuple(Subject(name=name, sha256=digest) for name, digest in named.items() if digest is not None)
