"""Reports by clauses: which events of a log answer what a mapping file asks, what is missing, and how to check it.

The procedure, by the same numbers in docs/reference/reports.md:

    (1) take a signed head: the newest, or that of a size that was asked for
    (2) read every event below it once, in order, each verified under the keys of its index
    (3) hand each to the tallies and rules of the mapping (`policy.clause_rules`), and incidents to their list
    (4) compare the root over all leaves with the head's: another one, and there is no report
    (5) write down what was asked, the head, the facts and the answers; the same inputs give the same bytes
    (6) where asked, record that the report was made: `export.made`, with the digest of its canonical JSON

Rules: a report counts and names records, and never says that anything conforms. It holds ids, counts and words of the
mapping, and nothing that a person or a model wrote. Memory does not grow with the log, but for incidents. No torch.

What this does not know: whether projections and decisions follow from the log. `verify` knows, and its word is a fact
here (`log.verified`), asked for or not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mass_gov import __version__
from mass_gov.errors import NotFoundError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.merkle import Frontier
from mass_gov.flows.audit_report import VerificationReport
from mass_gov.flows.authority import authorise
from mass_gov.flows.heads import insist_on_root
from mass_gov.flows.report_incidents import IncidentList
from mass_gov.ledger import Entry, Head, Ledger
from mass_gov.ledger.notebook import Notebook
from mass_gov.policy.clause_rules import GapCheck, Seen, Tally
from mass_gov.policy.clauses import Clause, Clauses, ReportSpec
from mass_gov.records.base import timestamp
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ExportMade

ALL = "all"
"""The name under which every report of a mapping is made at once."""
Progress = Callable[[int, int], None]
"""(events read, events in all)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is about. Times are those that events state: RFC 3339, UTC, microseconds.

    Attributes:
        name: one of the mapping's reports, or `all`.
        since, until: from this moment on, and before that one; None for no bound.
        tenant, deployment: None for every one.
        size: how many events of the log to read, of which there must be a signed head; None for the newest.
        at: the moment as of which deadlines are judged; None for now.
    """

    name: str
    since: str | None = None
    until: str | None = None
    tenant: str | None = None
    deployment: str | None = None
    size: int | None = None
    at: str | None = None

    def here(self, tenant: str, deployment: str) -> bool:
        """Whether an event's place is the one asked about."""
        return self.tenant in (None, tenant) and self.deployment in (None, deployment)

    def now(self, time: str) -> bool:
        """Whether an event's time lies in the period."""
        return (self.since is None or self.since <= time) and (self.until is None or time < self.until)


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was made: its document, and the digest of that document's canonical bytes."""

    document: Mapping[str, Any] = field(repr=False)
    content: str

    @property
    def gaps(self) -> int:
        """How many rules found something missing."""
        return int(self.document["summary"]["gaps"])


@dataclass
class _Answer:
    """One clause while the log is read."""

    clause: Clause
    tallies: list[Tally]
    checks: list[GapCheck]

    def document(self, facts: Mapping[str, int | None], at: str) -> dict[str, Any]:
        return {
            "ref": self.clause.ref,
            "asks": self.clause.asks,
            "records": [tally.document() for tally in self.tallies],
            "gaps": [check.document(facts, at) for check in self.checks],
            "verify": list(self.clause.verify),
            "beyond": self.clause.beyond,
        }


def make_report(
    ledger: Ledger,
    clauses: Clauses,
    asked: Asked,
    *,
    retention_days: int | None = None,
    verified: VerificationReport | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Read the log once and say which of its records answer what.

    Arguments:
        retention_days: the setting, where it is known.
        verified: what `audit.verify` found in this ledger, where it was asked.

    Raises:
        NotFoundError: the mapping has no such report, or no head of that size was signed.
        IntegrityError: an event does not verify, or the events are not those that the head was signed for.
    """
    specs = _specs(clauses, asked.name)
    head = ledger.latest_checkpoint() if asked.size is None else ledger.head(asked.size)  # (1)
    at = asked.at or timestamp(ledger.now())
    notes = Notebook()
    try:
        answers = {name: [_answer(clause, notes) for clause in spec.clauses] for name, spec in specs.items()}
        incidents = IncidentList(asked.since, asked.until)
        inside = _read(ledger, head, asked, answers, incidents, progress)  # (2), (3), (4)
        listed = incidents.documents(ledger, head.size, at)
        facts = _facts(head, retention_days, verified, listed)
        sections = [_section(name, specs[name], answers[name], facts, at, listed) for name in specs]
    finally:
        notes.close()
    document = _document(clauses, asked, head, at, inside, facts, sections)  # (5)
    return Report(document, sha256_hex(canonical_bytes(document)))


def record_report(ledger: Ledger, actor: Actor, report: Report, place: tuple[str, str]) -> Entry:
    """Note in the log that a report left it, (6).

    Raises:
        PermissionRefusedError: the actor may not take copies.
        KeyUnavailableError: this ledger was opened for reading.
    """
    authorise(ledger, actor, "export", place)
    size = int(report.document["log"]["size"])
    body = ExportMade(kind="report", name=report.document["report"], size=size, content=report.content)
    (entry,) = ledger.append([EventDraft(actor, *place, body)])
    return entry


def _specs(clauses: Clauses, name: str) -> dict[str, ReportSpec]:
    specs = clauses.framework.reports
    if name == ALL:
        return dict(specs)
    if name not in specs:
        known = ", ".join((*specs, ALL))
        raise NotFoundError(f"{clauses.label} has no report {name[:60]!r}. Use one of {known}.")
    return {name: specs[name]}


def _answer(clause: Clause, notes: Notebook) -> _Answer:
    tallies = [Tally(records) for records in clause.records]
    return _Answer(clause, tallies, [GapCheck(gap, notes) for gap in clause.gaps])


def _read(
    ledger: Ledger,
    head: Head,
    asked: Asked,
    answers: Mapping[str, list[_Answer]],
    incidents: IncidentList,
    progress: Progress,
) -> int:
    looking = _by_type([one for several in answers.values() for one in several])
    frontier, inside = Frontier(), 0
    for entry in ledger.entries(0, head.size):
        frontier.append(bytes.fromhex(entry.leaf_hash))
        predicate = entry.predicate
        here, now = asked.here(predicate.tenant, predicate.deployment), asked.now(predicate.time)
        inside += here and now
        if wanted := looking.get(predicate.body.type):
            seen = Seen(entry.index, predicate.document(), here, now)
            for look in wanted:
                look(seen)
        if here:
            incidents.look(entry)
        progress(entry.index + 1, head.size)
    insist_on_root(head, frontier)
    return inside


def _by_type(answers: list[_Answer]) -> dict[str, list[Callable[[Seen], None]]]:
    looking: dict[str, list[Callable[[Seen], None]]] = {}
    for answer in answers:
        for tally in answer.tallies:
            looking.setdefault(tally.spec.type, []).append(tally.look)
        for check in answer.checks:
            for kind in check.types():
                looking.setdefault(kind, []).append(check.look)
    return looking


def _facts(
    head: Head, retention_days: int | None, verified: VerificationReport | None, listed: list[dict[str, Any]]
) -> dict[str, int | None]:
    witnessed = verified.witnessed if verified is not None else None
    return {
        "log.verified": None if verified is None else int(verified.ok),
        "log.unwitnessed": None if witnessed is None else max(0, head.size - witnessed.size),
        "retention.days": retention_days,
        "incidents.open": sum(one["closed_at"] is None for one in listed),
        "incidents.overdue": sum(one["overdue"] for one in listed),
    }


def _section(
    name: str,
    spec: ReportSpec,
    answers: list[_Answer],
    facts: Mapping[str, int | None],
    at: str,
    listed: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "name": name,
        "title": spec.title,
        "clauses": [answer.document(facts, at) for answer in answers],
        "incidents": listed if spec.incidents else None,
    }


def _document(
    clauses: Clauses,
    asked: Asked,
    head: Head,
    at: str,
    inside: int,
    facts: Mapping[str, int | None],
    sections: list[dict[str, Any]],
) -> dict[str, Any]:
    framework = clauses.framework
    every = [clause for section in sections for clause in section["clauses"]]
    return {
        "report": asked.name,
        "framework": {
            "name": framework.name,
            "version": framework.version,
            "date": framework.date,
            "title": framework.title,
            "notice": framework.notice,
            "source": framework.source.model_dump(),
            "digest": clauses.digest,
        },
        "period": {"since": asked.since, "until": asked.until},
        "tenant": asked.tenant,
        "deployment": asked.deployment,
        "at": at,
        "log": {"origin": head.origin, "size": head.size, "root": head.root, "checkpoint": head.note.decode("utf-8")},
        "software": f"mass-gov/{__version__}",
        "events_inside": inside,
        "facts": dict(facts),
        "summary": {
            "clauses": len(every),
            "without_records": sum(not any(one["count"] for one in clause["records"]) for clause in every),
            "gaps": sum(gap["verdict"] == "gap" for clause in every for gap in clause["gaps"]),
        },
        "reports": sections,
    }
