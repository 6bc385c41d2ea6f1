"""`mass-gov incidents`: what went wrong, by when it has to be reported, and what became of it. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mass_gov.cli.incident_view import print_incidents, print_story
from mass_gov.cli.options import (
    AsOption,
    ClausesOption,
    DeploymentOption,
    JsonFlag,
    ReasonOption,
    clean_reason,
    identifier,
    moment,
    settings,
)
from mass_gov.cli.output import emit, out, say
from mass_gov.config_data import DEFAULT_CLAUSES
from mass_gov.errors import InputError
from mass_gov.tasks.text import MAX_DESCRIPTION_CHARS, MAX_TITLE_CHARS

if TYPE_CHECKING:
    from mass_gov.flows.incidents import About
    from mass_gov.ledger import IncidentView, Ledger

app = typer.Typer(help="Incidents: open, list, show, update and close.", no_args_is_help=True)
IncidentArgument = Annotated[str, typer.Argument(metavar="ID", help="Incident id, or enough of its first characters.")]
SeverityOption = Annotated[
    str, typer.Option("--severity", metavar="NAME", help="How grave, as the mapping names it; sets the deadline.")
]
ChangesOption = Annotated[
    list[str] | None, typer.Option("--change", metavar="ID", help="A change that it is about; may be repeated.")
]
ResponsesOption = Annotated[
    list[str] | None, typer.Option("--response", metavar="ID", help="An answer that it is about; may be repeated.")
]
EventsOption = Annotated[
    list[int] | None,
    typer.Option("--event", min=0, metavar="INDEX", help="Log index of what raised it (an alarm); may be repeated."),
]


@app.command("open")
def open_(
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="What happened, in a line; kept sealed.")],
    severity: SeverityOption,
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="What is known so far; kept sealed.")
    ] = "",
    aware_at: Annotated[
        str | None, typer.Option("--aware-at", metavar="TIME", help="When somebody first knew (default: now).")
    ] = None,
    change: ChangesOption = None,
    response: ResponsesOption = None,
    event: EventsOption = None,
    clauses: ClausesOption = DEFAULT_CLAUSES,
    deployment: DeploymentOption = None,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Open an incident: from here on its deadline runs, counted from when somebody first knew."""
    from mass_gov.flows.clause_files import find_clauses
    from mass_gov.flows.incidents import open_incident
    from mass_gov.records.artifacts import IncidentContent
    from mass_gov.wiring import acting, open_ledger

    chosen, mapping = settings(deployment=deployment, principal=principal), find_clauses(clauses)
    content = IncidentContent(
        title=clean_reason(title, "title", MAX_TITLE_CHARS, "--title"),
        description=description and clean_reason(description, "description", MAX_DESCRIPTION_CHARS, "--description"),
    )
    with open_ledger(chosen) as ledger:
        view = open_incident(
            ledger,
            acting(chosen, ledger, "incidents").actor,
            (chosen.tenant, chosen.deployment),
            content,
            severity,
            mapping,
            aware_at=moment(aware_at, "--aware-at") if aware_at is not None else None,
            about=_about(ledger, change, response, event),
        )
    _done(view, as_json, f"Incident {view.incident_id} is open since event {view.index}")


@app.command("list")
def list_incidents(
    status: Annotated[
        Literal["open", "closed"] | None, typer.Option("--status", help="Only those that are open, or closed.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, newest first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List incidents, newest first, with where each stands and by when it is to be reported."""
    from mass_gov.documents.incidents import incident_document
    from mass_gov.records.base import timestamp
    from mass_gov.wiring import now, read_ledger

    with read_ledger(settings()) as ledger:
        found = ledger.incidents(closed=None if status is None else status == "closed", limit=limit)
    at = timestamp(now())
    if as_json:
        emit({"incidents": [incident_document(one, at) for one in found]})
    elif not found:
        say("no incident" + (f" is {status}." if status else " was ever opened."))
    else:
        print_incidents(found, at)


@app.command()
def show(incident_id: IncidentArgument, as_json: JsonFlag = False) -> None:
    """Show an incident: what was said of it, and every change and answer that it reaches."""
    from mass_gov.documents.incidents import story_document
    from mass_gov.flows.incidents import story
    from mass_gov.records.base import timestamp
    from mass_gov.wiring import now, read_ledger

    with read_ledger(settings()) as ledger:
        found = story(ledger, identifier(incident_id, "incident"))
    at = timestamp(now())
    if as_json:
        emit(story_document(found, at))
    else:
        print_story(found, at)


@app.command()
def update(
    incident_id: IncidentArgument,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What is new, in your own words; kept sealed.")],
    acknowledge: Annotated[bool, typer.Option("--acknowledge", help="Somebody is looking into it.")] = False,
    severity: Annotated[
        str | None, typer.Option("--severity", metavar="NAME", help="It is as grave as this; moves the deadline.")
    ] = None,
    reported_at: Annotated[
        str | None, typer.Option("--reported-at", metavar="TIME", help="When whoever has to know was told.")
    ] = None,
    change: ChangesOption = None,
    response: ResponsesOption = None,
    event: EventsOption = None,
    clauses: ClausesOption = DEFAULT_CLAUSES,
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what became of an open incident: acknowledged, reported, graver than thought, or a note."""
    from mass_gov.flows.clause_files import find_clauses
    from mass_gov.flows.incidents import update as update_incident
    from mass_gov.wiring import acting, open_ledger

    chosen, text = settings(principal=principal), clean_reason(note, "note", option="--note")
    with open_ledger(chosen) as ledger:
        view = update_incident(
            ledger,
            identifier(incident_id, "incident"),
            acting(chosen, ledger, "incidents").actor,
            text,
            acknowledge=acknowledge,
            reported_at=moment(reported_at, "--reported-at") if reported_at is not None else None,
            regrade=(severity, find_clauses(clauses)) if severity is not None else None,
            about=_about(ledger, change, response, event),
        )
    _done(view, as_json, f"Incident {view.incident_id} is {view.status}")


@app.command()
def close(
    incident_id: IncidentArgument,
    reason: ReasonOption,
    outcome: Annotated[
        Literal["resolved", "unfounded"], typer.Option("--outcome", help="What it came to.")
    ] = "resolved",
    principal: AsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Close an incident for good; what comes up later is a new one."""
    from mass_gov.flows.incidents import close as close_incident
    from mass_gov.wiring import acting, open_ledger

    chosen, why = settings(principal=principal), clean_reason(reason)
    with open_ledger(chosen) as ledger:
        who = acting(chosen, ledger, "incidents").actor
        view = close_incident(ledger, identifier(incident_id, "incident"), who, why, outcome)
    _done(view, as_json, f"Incident {view.incident_id} is closed by event {view.closed_index}: {view.outcome}")


def _about(ledger: Ledger, change: list[str] | None, response: list[str] | None, event: list[int] | None) -> About:
    from mass_gov.flows.incidents import About

    named = (change or [], response or [], event or [])
    if any(len(one) > 64 for one in named):
        raise InputError("an incident names at most 64 changes, answers or events at once. Add the others by updates.")
    return About(
        changes=tuple(ledger.change(identifier(one)).change_id for one in named[0]),
        responses=tuple(ledger.response(identifier(one, "answer")).response_id for one in named[1]),
        events=tuple(named[2]),
    )


def _done(view: IncidentView, as_json: bool, what: str) -> None:
    from mass_gov.documents.incidents import incident_document
    from mass_gov.records.base import timestamp
    from mass_gov.wiring import now

    if as_json:
        emit({"incident": incident_document(view, timestamp(now()))})
        return
    due = f"; to be reported by {view.due_at}" if view.due_at and not view.reported_at and not view.outcome else ""
    out().print(f"{what}{due}.", soft_wrap=True)
