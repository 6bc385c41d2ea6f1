"""Mappings of clauses: what is refused with its line, and what each rule finds and does not find."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from mass_gov.config_data import data_folder
from mass_gov.errors import InputError, PolicyError
from mass_gov.ledger.notebook import Notebook
from mass_gov.policy.clause_rules import DIFFERENT, EXAMPLES, GapCheck, Seen, Tally
from mass_gov.policy.clauses import Clauses, Gap, Records, load_clauses

SHIPPED = (data_folder("policies") / "clauses" / "eu-ai-act.yaml").read_text("utf-8")
DAY = "2026-11-{:02d}T00:00:00.000000Z"


def line_of(text: str) -> int:
    return SHIPPED[: SHIPPED.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "at", "match"),
    [
        ("body.meaning,", "body.meanin,", "{type: change.approved, fields: [body.meaning,", "there is no `meanin`"),
        ("type: key.revoked", "type: key.revked", "{type: key.revoked", "no event type 'key.revked'"),
        ("{body.shown: any}", "{body.shwn: any}", "- rule: each\n            says: A change was approved", "`shwn`"),
        ("within_days: 1\n", "within_weeks: 1\n", "within_days: 1\n", "unknown key `within_weeks`"),
        ("rule: fact", "rule: feeling", "- rule: fact", "'feeling'"),
        ("version: 1\n", "version: one\n", "version: 1\n", "valid integer"),
        ("fact: retention.days\n            at_least: 184", "fact: retention.days", None, "at_least or at_most"),
        ("fact: log.unwitnessed", "fact: log.unseen", "fact: log.unwitnessed", "log.verified"),
        ("report_within_days: 15", "report_within_days: -15", "report_within_days: 15", "greater than or equal"),
        ("- ref: 15(1)\n        asks:", "- asks:", "- ref: 15(1)", "`ref` is missing"),
        ("name: eu-ai-act", "name: eu-ai-act\nname: other", None, "second time"),
    ],
)
def test_a_mapping_with_a_mistake_is_refused_with_its_line(old: str, new: str, at: str | None, match: str) -> None:
    assert old in SHIPPED
    with pytest.raises(PolicyError, match=r"^file, line \d+.*" + re.escape(match)) as refused:
        load_clauses(SHIPPED.replace(old, new, 1).encode(), "file")
    if at is not None:
        assert f"line {line_of(at)}:" in str(refused.value)


def test_the_shipped_mapping_says_what_it_is_and_what_it_is_not() -> None:
    clauses = load_clauses(SHIPPED.encode())
    framework = clauses.framework
    assert {f"article-{n}" for n in (12, 14, 15, 19, 26)} | {"incidents", "retention"} == set(framework.reports)
    assert "not legal advice" in framework.notice and "2024/1689" in framework.source.document
    days = {name: one.report_within_days for name, one in framework.incidents.items()}
    assert days == {"minor": None, "serious": 15, "widespread": 2, "death": 10}
    with pytest.raises(InputError, match="no severity 'grave'"):
        clauses.severity("grave")


def test_another_framework_is_another_file() -> None:
    other = load_clauses(OTHER.encode())
    assert isinstance(other, Clauses) and other.label == "house-rules/v3"


OTHER = """
format: 1
name: house-rules
version: 3
date: "2026-11-28"
title: Our own rules
notice: Ours.
source: {document: A memo, published: nowhere, url: "https://example.org/memo", checked: "2026-11-28", how: read}
reports:
  freezes:
    title: Freezes
    clauses:
      - ref: "1"
        asks: Somebody may stop learning.
        records: [{type: control.frozen}]
incidents:
  any: {report_within_days: 1, ref: "2", means: Anything.}
"""


@pytest.fixture
def notes() -> Iterator[Notebook]:
    notebook = Notebook()
    yield notebook
    notebook.close()


def seen(index: int, kind: str, day: int = 1, *, here: bool = True, now: bool = True, **body: Any) -> Seen:
    predicate = {"time": DAY.format(day), "artifacts": [], "body": {"type": kind} | body}
    return Seen(index, predicate | {"artifacts": [{"role": "reason"}] if body.get("why") else []}, here, now)


def gap_of(text: str) -> Gap:
    source = OTHER.replace("records: [{type: control.frozen}]", f"gaps: [{text}]")
    return load_clauses(source.encode()).framework.reports["freezes"].clauses[0].gaps[0]


def judged(notes: Notebook, text: str, *events: Seen, at: str = DAY.format(28), **facts: int | None) -> dict[str, Any]:
    check = GapCheck(gap_of(text), notes)
    for event in events:
        if event.type in check.types():
            check.look(event)
    return check.document({name.replace("_", "."): value for name, value in facts.items()}, at)


FROZEN = "{rule: each, says: x, of: {type: control.frozen}, needs: {artifacts.role: reason}}"


def test_each_finds_the_one_that_lacks_what_it_needs(notes: Notebook) -> None:
    found = judged(notes, FROZEN, seen(4, "control.frozen", why=True), seen(7, "control.frozen"))
    assert (found["verdict"], found["looked_at"], found["found"]) == ("gap", 2, 1)
    assert [one["index"] for one in found["examples"]] == [7]
    assert judged(notes, FROZEN, seen(4, "control.frozen", why=True))["verdict"] == "none"
    assert judged(notes, FROZEN)["verdict"] == "nothing to look at"


def test_what_lies_outside_place_and_period_is_looked_at_only_where_the_mapping_says_so(notes: Notebook) -> None:
    outside = (seen(4, "control.frozen", here=False), seen(5, "control.frozen", now=False))
    assert judged(notes, FROZEN, *outside)["looked_at"] == 0
    wider = FROZEN.replace("type: control.frozen", "type: control.frozen, everywhere: true, ever: true")
    assert judged(notes, wider, *outside)["found"] == 2


def test_true_is_not_one_and_none_is_no_value(notes: Notebook) -> None:
    rule = "{rule: each, says: x, of: {type: regression.performed}, needs: {body.passed: true}}"
    events = [seen(n, "regression.performed", passed=value) for n, value in enumerate((True, 1, "true", None))]
    assert judged(notes, rule, *events)["found"] == 3
    absent = rule.replace("body.passed: true", "body.pointer_head: none")
    heads = [seen(n, "regression.performed", pointer_head=value) for n, value in enumerate((None, 0))]
    assert judged(notes, absent, *heads)["found"] == 1


WAITS = (
    "{rule: followed, says: x, of: {type: control.frozen, key: index}, "
    "by: [{type: control.unfrozen, key: body.frozen}], within_days: 3}"
)


@pytest.mark.parametrize(
    ("unfrozen", "at", "verdict"),
    [((9, 6), 28, "gap"), (None, 28, "gap"), (None, 4, "gap"), ((9, 4), 28, "none"), (None, 3, "none")],
)
def test_followed_finds_what_came_too_late_or_not_at_all(
    notes: Notebook, unfrozen: tuple[int, int] | None, at: int, verdict: str
) -> None:
    events = [seen(4, "control.frozen", day=1)]
    events += [seen(unfrozen[0], "control.unfrozen", day=unfrozen[1], frozen=4, here=False)] if unfrozen else []
    late = DAY.format(at).replace("T00", "T01") if at == 4 else DAY.format(at)
    assert judged(notes, WAITS, *events, at=late)["verdict"] == verdict


def test_followed_with_no_limit_finds_what_waits_and_the_order_counts(notes: Notebook) -> None:
    rule = WAITS.replace(", within_days: 3", "")
    before = judged(notes, rule, seen(3, "control.unfrozen", frozen=4), seen(4, "control.frozen"))
    assert (before["verdict"], before["examples"][0]["index"]) == ("gap", 4)
    after = judged(notes, rule, seen(4, "control.frozen"), seen(5, "control.unfrozen", day=20, frozen=4))
    assert after["verdict"] == "none"


def test_known_finds_what_nothing_before_it_names(notes: Notebook) -> None:
    rule = (
        "{rule: known, says: x, of: {type: change.activated, key: body.change_id}, "
        "by: [{type: change.recorded, key: body.change.identity.change_id}]}"
    )
    recorded = seen(3, "change.recorded", change={"identity": {"change_id": "a"}}, now=False)
    fine = judged(notes, rule, recorded, seen(4, "change.activated", change_id="a"))
    wrong = judged(notes, rule, recorded, seen(4, "change.activated", change_id="b"), seen(5, "change.activated"))
    assert (fine["verdict"], wrong["found"]) == ("none", 2)


def test_some_is_asked_only_where_something_calls_for_it(notes: Notebook) -> None:
    rule = "{rule: some, says: x, of: {type: principal.registered}, at_least: 2, when: {type: change.approved}}"
    one = seen(3, "principal.registered")
    assert judged(notes, rule, one)["verdict"] == "nothing to look at"
    assert judged(notes, rule, one, seen(4, "change.approved"))["note"] == "1 of at least 2"
    assert judged(notes, rule, one, seen(4, "change.approved"), seen(5, "principal.registered"))["verdict"] == "none"


@pytest.mark.parametrize(("days", "verdict"), [(None, "gap"), (183, "gap"), (184, "none")])
def test_a_fact_that_nobody_knows_is_a_gap(notes: Notebook, days: int | None, verdict: str) -> None:
    rule = "{rule: fact, says: x, fact: retention.days, at_least: 184}"
    assert judged(notes, rule, retention_days=days)["verdict"] == verdict


def test_a_tally_counts_all_and_names_few() -> None:
    tally = Tally(Records(type="control.frozen", fields=("body.cause", "actor.principal", "body.monitor")))
    for index in range(20):
        one = seen(index, "control.frozen", cause="operator" if index else "monitor", monitor=None)
        tally.look(Seen(index, {**one.predicate, "actor": {"principal": f"p{index}"}}))
    said = tally.document()
    assert (said["count"], said["first_index"], said["last_index"], len(said["examples"])) == (20, 0, 19, EXAMPLES)
    cause, who, monitor = said["fields"]
    assert cause["values"] == [{"value": "monitor", "events": 1}, {"value": "operator", "events": 19}]
    assert (who["values"], who["events"], monitor["events"]) == (None, 20, 0)
    assert len(tally.values["actor.principal"]) <= DIFFERENT + 1
