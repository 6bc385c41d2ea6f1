"""Incidents and reports by the commands: what is refused, one incident to its end, and a report made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_cli_contract import sections
from tests.e2e.conftest import Command, OneChange
from tests.e2e.test_cli_json import first_table


@pytest.fixture
def change(one_change: OneChange) -> str:
    """A home with one applied change of ada's."""
    return one_change()


OPEN = ("incidents", "open", "--title", "A wrong sum reached a pupil")


@pytest.mark.parametrize(
    ("arguments", "status", "match"),
    [
        ((*OPEN, "--severity", "grave"), 2, "no severity 'grave'"),
        ((*OPEN, "--severity", "serious", "--aware-at", "2099-01-01"), 2, "nobody can have known"),
        ((*OPEN, "--severity", "serious", "--aware-at", "yesterday"), 2, "--aware-at 'yesterday' is no time"),
        ((*OPEN, "--severity", "serious", "--aware-at", "2026-11-01T10:00"), 2, "time zone"),
        ((*OPEN, "--severity", "serious", "--event", "999"), 5, "does not come before it"),
        ((*OPEN, "--severity", "serious", "--clauses", "us-ai-act"), 2, "no mapping 'us-ai-act'"),
        (("incidents", "open", "--title", " ", "--severity", "serious"), 2, "the title is empty"),
        (("incidents", "show", "0123456789ab"), 2, "no incident"),
        (("report", "article-99"), 2, "has no report"),
        (("report", "all", "--size", "2", "--unrecorded"), 2, "no signed head"),
        (("report", "all", "--clauses", "missing.yaml"), 2, "missing.yaml"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_no_event(
    cli: Command, change: str, arguments: tuple[str, ...], status: int, match: str
) -> None:
    before = cli("log", "checkpoint", "--json").json["size"]
    ran = cli(*arguments)
    assert ran.status == status and match in ran.err
    assert cli("log", "checkpoint", "--json").json["size"] == before


def test_an_incident_from_its_opening_to_its_end(cli: Command, change: str) -> None:
    opened = cli(*OPEN, "--severity", "serious", "--change", change[:13], "--as", "bob", "--json").json["incident"]
    assert (opened["status"], opened["opened_by"], opened["overdue"]) == ("open", "bob", False)
    name = opened["incident_id"]
    shown = cli("incidents", "show", name[:13], "--json").json
    assert set(shown) == first_table(sections()["mass-gov incidents show"])
    assert shown["incident"]["title"] == "A wrong sum reached a pupil"
    assert [one["change_id"] for one in shown["reaches"]["changes"]] == [change]
    assert len(shown["reaches"]["responses"]) == 1
    update = ("incidents", "update", name, "--note", "Looked at.", "--json")
    assert cli(*update, "--acknowledge").json["incident"]["status"] == "acknowledged"
    assert cli(*update, "--acknowledge").status == 5
    graver = cli(*update, "--severity", "death").json["incident"]
    assert graver["due_at"] < opened["due_at"]
    assert cli(*update, "--severity", "serious", "--acknowledge").status == 2
    told = cli(*update, "--reported-at", opened["aware_at"]).json["incident"]
    assert told["reported_at"] == opened["aware_at"]
    assert [one["incident_id"] for one in cli("incidents", "list", "--status", "open", "--json").json["incidents"]] == [
        name
    ]
    closed = cli("incidents", "close", name, "--reason", "Undone.", "--json").json["incident"]
    assert (closed["status"], closed["outcome"]) == ("closed", "resolved")
    assert cli("incidents", "close", name, "--reason", "Again.").status == 5
    assert "no incident is open" in cli("incidents", "list", "--status", "open").err
    page = cli("incidents", "show", name).out
    assert "Looked at." in page and "It reaches 1 change(s) and 1 answer(s)." in page
    assert cli("verify").status == 0


def test_a_report_is_recorded_and_made_again_to_the_byte(cli: Command, change: str, tmp_path: Path) -> None:
    first = cli("report", "article-14", "--deployment", "tutor", "--verify", "--json").json
    log = first["report"]["log"]
    assert first["recorded_index"] == log["size"]
    event = json.loads(cli("log", "prove", str(first["recorded_index"]), "--json").json["leaf"])
    assert event["payloadType"] == "application/vnd.in-toto+json"
    again = cli(
        *("report", "article-14", "--deployment", "tutor", "--verify", "--size", str(log["size"])),
        *("--at", first["report"]["at"], "--unrecorded", "--json"),
    ).json
    assert (again["content"], again["recorded_index"]) == (first["content"], None)
    assert again["report"] == first["report"]
    assert again["report"]["facts"]["log.verified"] == 1


def test_a_report_as_a_page_says_the_same_as_its_document(cli: Command, change: str, tmp_path: Path) -> None:
    asked = ("report", "all", "--unrecorded", "--at", "2026-11-28")
    document: dict[str, Any] = cli(*asked, "--format", "json").json
    page = tmp_path / "report.html"
    assert f"{document['report']['summary']['gaps']} gap(s)" in cli(*asked, "--format", "html", "-o", page).err
    text = cli(*asked).out
    for words in (document["content"], document["report"]["log"]["root"], "Article 14: human oversight"):
        assert words in text and words in page.read_text("utf-8")
