"""Reports: what is refused, what each says of a log with things missing, and that it can be made again to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mass_gov.documents.report_pages import html, markdown
from mass_gov.errors import IntegrityError, NotFoundError, PermissionRefusedError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.flows.audit import verify
from mass_gov.flows.clause_files import shipped_clauses
from mass_gov.flows.freeze import freeze
from mass_gov.flows.incidents import About, close, open_incident, update
from mass_gov.flows.principals import register
from mass_gov.flows.reports import Asked, Report, make_report, record_report
from mass_gov.policy.clauses import load_clauses
from mass_gov.records.artifacts import IncidentContent
from mass_gov.records.base import timestamp
from mass_gov.records.events import Actor, ExportMade
from tests.fakes.ledger_world import ADA, BOB, BOTH_SCOPES, LedgerWorld, digest
from tests.fakes.tamper import tampering

pytestmark = pytest.mark.both_engines

CLAUSES = shipped_clauses("eu-ai-act")
AUDITOR = Actor(principal="audra", role="auditor")
WORDS = IncidentContent(title="Wrong sums", description="")
LONG_AGO, AHEAD = "2020-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    """A held change that nobody decided about, an applied one, and one that moved the pointer."""
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    for task, options in (("held", {"step_norm": 0.7}), ("applied", {}), ("moved", {"scope": "deployment"})):
        made.record(task, **options)
    yield made
    made.close()


def made(world: LedgerWorld, name: str = "all", **asked: Any) -> Report:
    return make_report(world.ledger, CLAUSES, Asked(name, **asked), retention_days=184)


def clause(report: Report, ref: str) -> dict[str, Any]:
    return next(one for section in report.document["reports"] for one in section["clauses"] if one["ref"] == ref)


def gap(report: Report, ref: str, words: str) -> dict[str, Any]:
    return next(one for one in clause(report, ref)["gaps"] if words in one["says"])


def counts(report: Report, ref: str) -> dict[str, int]:
    return {one["type"]: one["count"] for one in clause(report, ref)["records"]}


def test_a_report_that_the_mapping_does_not_have_is_refused(world: LedgerWorld) -> None:
    with pytest.raises(NotFoundError, match="has no report 'article-99'"):
        made(world, "article-99")
    with pytest.raises(NotFoundError, match="no signed head of size 2"):
        made(world, size=2)


def test_no_report_is_made_of_a_log_that_was_altered(world: LedgerWorld) -> None:
    with tampering(world.ledger.address) as database:
        database.execute(
            'UPDATE log_events SET leaf = (SELECT leaf FROM log_events WHERE "index" = 5) WHERE "index" = 6'
        )
    with pytest.raises(IntegrityError):
        made(world)


def test_an_export_of_what_is_not_there_is_refused(world: LedgerWorld) -> None:
    body = ExportMade(kind="log", name="log", size=world.ledger.size + 1, content=digest("x"))
    with pytest.raises(IntegrityError, match="come later"):
        world.ledger.append([world.draft(body, AUDITOR)])


def test_a_requester_takes_no_report_once_somebody_is_registered(world: LedgerWorld) -> None:
    carl = Actor(principal="carl", role="admin")
    register(world.ledger, "carl", Actor(principal="local", role="admin"), roles=["admin"], scopes=[])
    register(world.ledger, "ada", carl, roles=["requester"], scopes=["instance"])
    register(world.ledger, "audra", carl, roles=["auditor"], scopes=[])
    report, place = made(world, "retention"), (world.tenant, world.deployment)
    with pytest.raises(PermissionRefusedError, match="take a copy"):
        record_report(world.ledger, ADA, report, place)
    assert gap(made(world), "26(2)", "Nobody is registered")["verdict"] == "none"
    assert record_report(world.ledger, AUDITOR, report, place).index == world.ledger.size - 1


def test_an_auditor_records_a_report_by_the_digest_of_what_left(world: LedgerWorld) -> None:
    report = made(world, "article-12")
    entry = record_report(world.ledger, AUDITOR, report, (world.tenant, world.deployment))
    body = entry.predicate.body
    assert isinstance(body, ExportMade)
    assert (body.kind, body.name, body.size) == ("report", "article-12", entry.index)
    assert body.content == report.content == sha256_hex(canonical_bytes(report.document))
    assert verify(world.ledger).ok


def test_a_hold_that_nobody_decided_is_a_gap_until_somebody_does(world: LedgerWorld) -> None:
    held = world.ledger.changes(status="held")[0]
    before = gap(made(world), "14(1)", "nobody decided")
    assert (before["verdict"], before["found"]) == ("gap", 1)
    assert before["examples"] == [{"index": held.index, "time": held.entry.predicate.time, "id": held.change_id}]
    world.ledger.append([world.rejection(held)])
    after = gap(made(world), "14(1)", "nobody decided")
    assert (after["verdict"], after["looked_at"]) == ("none", 1)


def test_an_alarm_without_an_incident_an_early_log_and_an_unwitnessed_head_are_gaps(world: LedgerWorld) -> None:
    report = made(world)
    for ref, words in (("12(1)", "not verified whole"), ("12(1)", "cosigned"), ("26(2)", "Nobody is registered")):
        assert gap(report, ref, words)["verdict"] == "gap"
    short = make_report(world.ledger, CLAUSES, Asked("retention"), retention_days=183)
    assert gap(short, "19(1), 26(6)", "less than six months")["note"] == "retention.days is 183, wanted at least 184"
    checked = make_report(world.ledger, CLAUSES, Asked("article-12"), verified=verify(world.ledger))
    assert gap(checked, "12(1)", "not verified whole")["verdict"] == "none"
    bad = make_report(world.ledger, CLAUSES, Asked("article-12"), verified=replace(verify(world.ledger), ok=False))
    assert gap(bad, "12(1)", "not verified whole")["verdict"] == "gap"


def test_records_are_counted_within_period_and_place(world: LedgerWorld) -> None:
    assert counts(made(world), "12(1)")["change.recorded"] == 3
    elsewhere = counts(made(world, deployment="other"), "12(1)")
    assert (elsewhere["change.recorded"], elsewhere["log.opened"]) == (0, 1)
    assert counts(made(world, until=LONG_AGO), "12(1)")["change.recorded"] == 0
    last = world.ledger.changes(limit=1)[0]
    since = counts(made(world, since=last.entry.predicate.time), "12(1)")
    assert (since["change.recorded"], since["response.served"]) == (1, 1)
    assert gap(made(world, since=last.entry.predicate.time), "12(2)(a)", "under a change")["verdict"] == "none"


def test_a_freeze_by_an_operator_has_its_reason_and_calls_for_no_incident(world: LedgerWorld) -> None:
    freeze(world.ledger, BOB, "It looks wrong.", world.tenant, world.deployment)
    report = made(world)
    assert gap(report, "14(4)(e)", "stopped without")["verdict"] == "none"
    assert gap(report, "12(2)(a)", "alarm")["verdict"] == "nothing to look at"


def test_the_same_log_at_the_same_size_and_time_gives_the_same_bytes(world: LedgerWorld) -> None:
    at = timestamp(world.ledger.now())
    first = made(world, at=at)
    world.record("later")
    assert made(world, at=at).content != first.content
    again = made(world, at=at, size=first.document["log"]["size"])
    assert (again.content, again.document) == (first.content, first.document)


def test_incidents_are_listed_as_they_stood_with_their_deadlines(world: LedgerWorld) -> None:
    place, moved = (world.tenant, world.deployment), world.ledger.changes(status="active")[0]
    about = About(changes=(moved.change_id,))
    old = open_incident(world.ledger, BOB, place, WORDS, "serious", CLAUSES, aware_at=LONG_AGO, about=about)
    size = world.ledger.size
    world.record("under it")
    done = open_incident(world.ledger, BOB, place, WORDS, "widespread", CLAUSES)
    update(world.ledger, done.incident_id, BOB, "Told.", reported_at=done.aware_at)
    close(world.ledger, done.incident_id, BOB, "Mended.", "resolved")
    (section,) = made(world, "incidents").document["reports"]
    late, settled = section["incidents"]
    assert (late["incident_id"], late["due_at"]) == (old.incident_id, "2020-01-16T00:00:00.000000Z")
    assert (late["overdue"], late["closed_at"], late["changes_reached"]) == (True, None, 2)
    assert (settled["overdue"], settled["outcome"]) == (False, "resolved")
    report = made(world)
    assert (report.document["facts"]["incidents.overdue"], report.document["facts"]["incidents.open"]) == (1, 1)
    assert gap(report, "26(5)", "after its deadline")["verdict"] == "gap"
    assert gap(report, "73(6)", "nobody closed")["found"] == 1
    (earlier,) = made(world, "incidents", size=size).document["reports"][0]["incidents"]
    assert (earlier["changes_reached"], earlier["closed_at"]) == (1, None)
    assert made(world, "incidents", since=AHEAD).document["reports"][0]["incidents"][1:] == []


class Outline(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note every tag, and whatever would load or run something."""
        self.tags.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset") or name.startswith("on")]


def test_a_page_escapes_what_a_mapping_says_and_loads_and_runs_nothing(world: LedgerWorld) -> None:
    hostile = CLAUSES.source.decode().replace(
        "asks: The system records", "asks: <script>x</script> | # The system records"
    )
    report = make_report(world.ledger, load_clauses(hostile.encode()), Asked("all"))
    page = html(report.document, report.content)
    outline = Outline()
    outline.feed(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(outline.tags) and not outline.loads
    assert "&lt;script&gt;x&lt;/script&gt;" in page and 'lang="en"' in page
    assert outline.tags.count("h1") == outline.tags.count("main") == 1
    assert outline.tags.count("table") == outline.tags.count("caption")
    text = markdown(report.document, report.content)
    assert "\\<script\\>x" in text and "<script>" not in text
    for words in (report.content, report.document["log"]["root"], "not legal advice", "GAP: 1"):
        assert words in text and words in page


def test_a_report_holds_nothing_that_a_person_wrote(world: LedgerWorld) -> None:
    words = IncidentContent(title="Zanzibar", description="Zanzibar again")
    open_incident(world.ledger, BOB, (world.tenant, world.deployment), words, "minor", CLAUSES)
    freeze(world.ledger, BOB, "Because of Zanzibar.", world.tenant, world.deployment)
    report = made(world)
    everything = canonical_bytes(report.document).decode() + html(report.document, report.content)
    assert "anzibar" not in everything and "It was looked at" not in everything
