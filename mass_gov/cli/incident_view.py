"""An incident for people: what was said of it, its deadline, and what it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mass_gov.cli.output import facts, grid, one_line, out, panel, styled

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mass_gov.flows.incidents import Story
    from mass_gov.ledger import IncidentView

SHOWN = 10
"""Changes and answers that a person is shown; `--json` has all of them."""


def print_incidents(found: Sequence[IncidentView], at: str) -> None:
    """A table of incidents, newest first."""
    table = grid("incident", "where", "severity", "status", "report by", "reported")
    table.columns[0].no_wrap = True
    for one in found:
        due = (one.due_at or "-")[:16] + (" overdue" if one.overdue(at) else "")
        where = f"{one.tenant}/{one.deployment}"
        table.add_row(one.incident_id, where, one.severity, styled(one.status), due, (one.reported_at or "-")[:16])
    out().print(table)


def print_story(story: Story, at: str) -> None:
    """An incident for a person."""
    view, content = story.view, story.content
    due = "nobody has to be told" if view.due_at is None else view.due_at + (" (overdue)" if view.overdue(at) else "")
    rows: dict[str, RenderableType] = {
        "where": f"{view.tenant}/{view.deployment}",
        "status": styled(view.status),
        "severity": view.severity,
        "known since": view.aware_at,
        "report by": due,
        "reported": view.reported_at or "no",
        "description": one_line(content.description) if content is not None else "sealed: open it with the key store",
    }
    title = one_line(content.title) if content is not None else "(sealed)"
    console = out()
    console.print(panel(f"{view.incident_id}  {title}", facts(rows)))
    table = grid("event", "time", "step", "who", "what was said")
    for told in story.told:
        table.add_row(str(told.index), told.time[:16], told.step, told.author, one_line(told.text or "(sealed)"))
    console.print(table)
    changes, responses = story.reached.changes, story.reached.responses
    console.print(f"It reaches {len(changes)} change(s) and {len(responses)} answer(s).", soft_wrap=True)
    for change in changes[:SHOWN]:
        console.print(f"  change {change.change_id}  {change.status}", soft_wrap=True)
    for answer in responses[:SHOWN]:
        console.print(f"  answer {answer.response_id}  event {answer.index}", soft_wrap=True)
    if max(len(changes), len(responses)) > SHOWN:
        console.print("  ... `--json` has all of them", soft_wrap=True)
