"""The incidents of a period, gathered while the log is read: as they stood at the head that a report was made of.

Rules: an incident belongs to a period if it was open at some time in it. What it reaches is followed through the
projections and cut off at that head. Memory holds one small entry an incident, whatever else the log holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mass_gov.flows.lineage import reached_from
from mass_gov.ledger import Entry, Ledger
from mass_gov.ledger.incident_reader import is_overdue
from mass_gov.ledger.incident_rules import due
from mass_gov.records.events import Grade, IncidentClosed, IncidentOpened, IncidentUpdated


@dataclass
class _Incident:
    index: int
    opened_at: str
    aware_at: str
    grade: Grade
    changes: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    acknowledged_at: str | None = None
    reported_at: str | None = None
    closed_at: str | None = None
    outcome: str | None = None


class IncidentList:
    """Looks at events in the order of the log."""

    def __init__(self, since: str | None, until: str | None) -> None:
        self._since, self._until = since, until
        self._found: dict[str, _Incident] = {}

    def look(self, entry: Entry) -> None:
        """Take an event into account, whatever it is about."""
        time, body = entry.predicate.time, entry.predicate.body
        match body:
            case IncidentOpened():
                one = _Incident(entry.index, time, body.aware_at, body.grade)
                self._found[body.incident_id] = one
                self._name(one, body)
            case IncidentUpdated() if body.incident_id in self._found:
                one = self._found[body.incident_id]
                one.grade = body.grade or one.grade
                one.reported_at = body.reported_at or one.reported_at
                one.acknowledged_at = time if body.step == "acknowledged" else one.acknowledged_at
                self._name(one, body)
            case IncidentClosed() if body.incident_id in self._found:
                one = self._found[body.incident_id]
                one.closed_at, one.outcome = time, body.outcome

    def documents(self, ledger: Ledger, size: int, at: str) -> list[dict[str, Any]]:
        """The period's incidents as JSON, in the order of the log; deadlines are judged as of the time `at`."""
        inside = [(name, one) for name, one in self._found.items() if self._inside(one)]
        return [_document(ledger, name, one, size, at) for name, one in inside]

    def _inside(self, one: _Incident) -> bool:
        begun = self._until is None or one.opened_at < self._until
        return begun and (self._since is None or one.closed_at is None or one.closed_at >= self._since)

    @staticmethod
    def _name(one: _Incident, body: IncidentOpened | IncidentUpdated) -> None:
        one.changes += body.changes
        one.responses += body.responses


def _document(ledger: Ledger, name: str, one: _Incident, size: int, at: str) -> dict[str, Any]:
    days = one.grade.report_within_days
    due_at = None if days is None else due(one.aware_at, days)
    reached = reached_from(ledger, one.changes, one.responses)
    return {
        "incident_id": name,
        "index": one.index,
        "severity": one.grade.severity,
        "aware_at": one.aware_at,
        "opened_at": one.opened_at,
        "acknowledged_at": one.acknowledged_at,
        "due_at": due_at,
        "reported_at": one.reported_at,
        "overdue": is_overdue(due_at, one.reported_at, one.outcome, at),
        "closed_at": one.closed_at,
        "outcome": one.outcome,
        "changes_reached": sum(change.index < size for change in reached.changes),
        "responses_reached": sum(answer.index < size for answer in reached.responses),
    }
