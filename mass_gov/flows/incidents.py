"""Incidents: opened, acknowledged, regraded, reported and closed by people, each step an event; read back as a story.

Rules: what people write (title, description, notes, reasons) is sealed, and never stands in a leaf. The grade is the
mapping file's (`policy.clauses`), which is kept with the event, so that `verify` finds the deadline again. An incident
names changes, answers and events; what else it reaches is not written down but follows from the log: every later change
that stands on a named one, and every answer that any of their states gave. Needs no model and no torch.

What this does not know: whether an authority was told. `reported` says that somebody said so, and when.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from uuid6 import uuid7

from mass_gov.errors import InputError, MassGovError
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.evidence.keystore import SYSTEM_SUBJECT
from mass_gov.flows.approve import reason_artifact
from mass_gov.flows.authority import authorise
from mass_gov.flows.lineage import Reached, reached_from
from mass_gov.ledger import IncidentView, Ledger, UpdateView
from mass_gov.policy.clauses import Clauses
from mass_gov.records.artifacts import IncidentContent, ReasonContent
from mass_gov.records.base import timestamp
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import Actor, Body, Grade, IncidentClosed, IncidentOpened, IncidentUpdated


@dataclass(frozen=True, slots=True)
class About:
    """What an incident, or an update of one, names: ids of changes and of answers, indices of events."""

    changes: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()
    events: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that was said of an incident; `text` is None where it cannot be opened here."""

    index: int
    time: str
    step: Literal["opened", "acknowledged", "noted", "regraded", "reported", "closed"]
    author: str
    text: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """An incident with everything that was said of it, and what it reaches.

    Attributes:
        content: title and description; None where they cannot be opened here.
        clauses: digest of the mapping file that the present grade comes from.
        about: everything that it names, the first event's and the updates'.
    """

    view: IncidentView
    content: IncidentContent | None
    clauses: str
    about: About
    told: tuple[Told, ...]
    reached: Reached = field(repr=False)


def open_incident(
    ledger: Ledger,
    actor: Actor,
    place: tuple[str, str],
    content: IncidentContent,
    severity: str,
    clauses: Clauses,
    *,
    aware_at: str | None = None,
    about: About | None = None,
) -> IncidentView:
    """Open an incident.

    Arguments:
        place: tenant and deployment.
        severity: one of the mapping file's; it sets the deadline.
        aware_at: when somebody first knew; None for now.

    Raises:
        PermissionRefusedError: the actor may not.
        InputError: the mapping file knows no such severity, or somebody is said to have known in the future.
        RefusedError: it names a change or an answer that is not there.
    """
    authorise(ledger, actor, "incidents", place)
    now = timestamp(ledger.now())
    if aware_at is not None and aware_at > now:
        raise InputError(f"nobody can have known at {aware_at}: it is {now}. Say when it was noticed.")
    body = IncidentOpened(
        incident_id=str(uuid7()),
        aware_at=aware_at or now,
        grade=_grade(clauses, severity),
        **asdict(about or About()),
    )
    words = ArtifactDraft("incident", canonical_bytes(content.document()), SYSTEM_SUBJECT)
    ledger.append([EventDraft(actor, *place, body, (words, _file(clauses)))])
    return ledger.incident(body.incident_id)


def update(
    ledger: Ledger,
    incident_id: str,
    actor: Actor,
    note: str,
    *,
    acknowledge: bool = False,
    reported_at: str | None = None,
    regrade: tuple[str, Clauses] | None = None,
    about: About | None = None,
) -> IncidentView:
    """Say what became of an open incident: one step at a time, or a note alone.

    Raises:
        PermissionRefusedError: the actor may not.
        InputError: several steps at once, or it was reported before anybody knew, or in the future.
        RefusedError: it is closed, or that step was taken before.
    """
    view = ledger.incident(incident_id)
    authorise(ledger, actor, "incidents", (view.tenant, view.deployment))
    steps = {"acknowledged": acknowledge, "reported": reported_at is not None, "regraded": regrade is not None}
    taken = [step for step, wanted in steps.items() if wanted]
    if len(taken) > 1:
        raise InputError(f"an update takes one step, and these are {' and '.join(taken)}. Make one after the other.")
    now = timestamp(ledger.now())
    if reported_at is not None and not view.aware_at <= reported_at <= now:
        raise InputError(
            f"nobody can have been told at {reported_at}: it was known of since {view.aware_at}, and it is {now}. Say "
            "when it was reported."
        )
    body = IncidentUpdated(
        incident_id=view.incident_id,
        opened=view.opened,
        step=taken[0] if taken else "noted",
        grade=_grade(regrade[1], regrade[0]) if regrade is not None else None,
        reported_at=reported_at,
        **asdict(about or About()),
    )
    files = (_file(regrade[1]),) if regrade is not None else ()
    _append(ledger, view, actor, body, reason_artifact(note), *files)
    return ledger.incident(view.incident_id)


def close(
    ledger: Ledger, incident_id: str, actor: Actor, reason: str, outcome: Literal["resolved", "unfounded"]
) -> IncidentView:
    """Close an incident for good.

    Raises:
        PermissionRefusedError: the actor may not.
        RefusedError: it is closed already.
    """
    view = ledger.incident(incident_id)
    authorise(ledger, actor, "incidents", (view.tenant, view.deployment))
    body = IncidentClosed(incident_id=view.incident_id, opened=view.opened, outcome=outcome)
    _append(ledger, view, actor, body, reason_artifact(reason))
    return ledger.incident(view.incident_id)


def story(ledger: Ledger, incident_id: str) -> Story:
    """Read everything about an incident, and follow what it names through the log.

    Raises:
        NotFoundError: there is none.
    """
    view = ledger.incident(incident_id)
    updates = ledger.incident_updates(view.incident_id)
    bodies = [ledger.entry(index).predicate.body for index in (view.index, *(one.index for one in updates))]
    said = [body for body in bodies if isinstance(body, IncidentOpened | IncidentUpdated)]
    about = About(
        changes=tuple(dict.fromkeys(one for body in said for one in body.changes)),
        responses=tuple(dict.fromkeys(one for body in said for one in body.responses)),
        events=tuple(dict.fromkeys(one for body in said for one in body.events)),
    )
    return Story(
        view=view,
        content=_content(ledger, view.index),
        clauses=next(body.grade.clauses for body in reversed(said) if body.grade is not None),
        about=about,
        told=tuple(_told(ledger, view, updates)),
        reached=reached_from(ledger, about.changes, about.responses),
    )


def _append(ledger: Ledger, view: IncidentView, actor: Actor, body: Body, *artifacts: ArtifactDraft) -> None:
    ledger.append([EventDraft(actor, view.tenant, view.deployment, body, artifacts)])


def _grade(clauses: Clauses, severity: str) -> Grade:
    days = clauses.severity(severity).report_within_days
    return Grade(severity=severity, report_within_days=days, clauses=clauses.digest)


def _file(clauses: Clauses) -> ArtifactDraft:
    return ArtifactDraft("clauses", clauses.source, SYSTEM_SUBJECT)


def _content(ledger: Ledger, index: int) -> IncidentContent | None:
    try:
        return IncidentContent.model_validate(parse_canonical(ledger.artifact(ledger.entry(index), "incident")))
    except MassGovError:
        return None


def _told(ledger: Ledger, view: IncidentView, updates: list[UpdateView]) -> list[Told]:
    content = _content(ledger, view.index)
    told = [Told(view.index, view.opened_at, "opened", view.opened_by, content.title if content else None)]
    for one in updates:
        told.append(
            Told(one.index, ledger.entry(one.index).predicate.time, one.step, one.author, _why(ledger, one.index))
        )
    if view.closed_index is not None:
        last = ledger.entry(view.closed_index).predicate
        told.append(Told(view.closed_index, last.time, "closed", last.actor.principal, _why(ledger, view.closed_index)))
    return told


def _why(ledger: Ledger, index: int) -> str | None:
    try:
        return ReasonContent.model_validate(parse_canonical(ledger.artifact(ledger.entry(index), "reason"))).text
    except MassGovError:
        return None
