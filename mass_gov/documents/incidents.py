"""Incidents as JSON, the same at every door."""

from __future__ import annotations

from typing import Any

from mass_gov.flows.incidents import Story
from mass_gov.ledger import IncidentView


def incident_document(view: IncidentView, at: str) -> dict[str, Any]:
    """An incident as JSON, with whether its deadline was missed by the time `at`."""
    return {
        "incident_id": view.incident_id,
        "index": view.index,
        "tenant": view.tenant,
        "deployment": view.deployment,
        "status": view.status,
        "severity": view.severity,
        "opened_by": view.opened_by,
        "opened_at": view.opened_at,
        "aware_at": view.aware_at,
        "due_at": view.due_at,
        "reported_at": view.reported_at,
        "overdue": view.overdue(at),
        "acknowledged_index": view.acknowledged_index,
        "reported_index": view.reported_index,
        "closed_index": view.closed_index,
        "outcome": view.outcome,
    }


def story_document(story: Story, at: str) -> dict[str, Any]:
    """Everything about an incident as JSON. `title` and `description` are null where they cannot be opened."""
    content = story.content
    return {
        "incident": incident_document(story.view, at)
        | {
            "title": content.title if content is not None else None,
            "description": content.description if content is not None else None,
            "clauses": story.clauses,
        },
        "names": {
            "changes": list(story.about.changes),
            "responses": list(story.about.responses),
            "events": list(story.about.events),
        },
        "history": [
            {"index": one.index, "time": one.time, "step": one.step, "author": one.author, "text": one.text}
            for one in story.told
        ],
        "reaches": {
            "changes": [
                {"change_id": one.change_id, "index": one.index, "status": one.status} for one in story.reached.changes
            ],
            "responses": [
                {"response_id": one.response_id, "index": one.index, "served": one.served}
                for one in story.reached.responses
            ],
        },
    }
