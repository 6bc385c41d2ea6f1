"""Incidents and reports over HTTP: denials first, then the same documents as the command line's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from mass_gov.api import Service, create_app
from mass_gov.api.access import Identity
from mass_gov.documents.incidents import story_document
from mass_gov.flows.clause_files import shipped_clauses
from mass_gov.flows.incidents import story
from mass_gov.flows.reports import Asked, make_report
from tests.fakes.api_world import PLENTY, ApiWorld, api_world

NOT_HERE = "01900000-0000-7000-8000-000000000000"
NONE = {"incidents": [], "next": None}
OPENING = {"tenant": "acme", "deployment": "tutor", "title": "A wrong sum", "severity": "serious"}
ROUTES = [
    ("GET", "/v1/incidents", None),
    ("GET", f"/v1/incidents/{NOT_HERE}", None),
    ("POST", "/v1/incidents", OPENING),
    ("POST", f"/v1/incidents/{NOT_HERE}:update", {"note": "x"}),
    ("POST", f"/v1/incidents/{NOT_HERE}:close", {"reason": "x"}),
    ("GET", "/v1/reports", None),
    ("GET", "/v1/reports/retention", None),
    ("POST", "/v1/reports/retention:record", {}),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    with api_world(tmp_path_factory.mktemp("api")) as made:
        made.world.record("one")
        yield made


@dataclass(frozen=True)
class Elsewhere:
    """Whoever asks is an admin of another tenant."""

    def authenticate(self, token: str | None) -> Identity:
        """Let everybody in."""
        return Identity("carl", ("admin",), ("other",), None)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_neither_a_stranger_nor_a_requester_gets_anything(
    api: ApiWorld, method: str, path: str, body: dict[str, Any] | None
) -> None:
    size = api.world.ledger.size
    assert api.client(None).request(method, path, json=body).status_code == 401
    assert api.client("ada").request(method, path, json=body).status_code == 403
    denied = [entry.predicate.body.type for entry in api.world.ledger.entries(size)]
    assert set(denied) <= {"access.denied"}


def test_an_auditor_reads_and_reports_and_opens_nothing(api: ApiWorld) -> None:
    dora = api.client("dora")
    assert [dora.request(*route[:2], json=route[2]).status_code for route in ROUTES[2:5]] == [403, 403, 403]
    assert dora.get("/v1/incidents").status_code == 200
    assert dora.get("/v1/reports/retention").status_code == 200


def test_what_is_of_another_tenant_is_not_there(api: ApiWorld) -> None:
    opened = api.client("bob").post("/v1/incidents", json=OPENING).json()["incident"]["incident_id"]
    service = Service.of(api.world.ledger, limits=PLENTY, authenticator=Elsewhere())
    other = TestClient(create_app(service), headers={"Authorization": "Bearer x"})
    denied = other.get(f"/v1/incidents/{opened}")
    absent = other.get(f"/v1/incidents/{NOT_HERE}")
    assert (denied.status_code, denied.content) == (404, absent.content)
    assert other.post(f"/v1/incidents/{opened}:close", json={"reason": "x"}).content == absent.content
    assert other.post("/v1/incidents", json=OPENING).content == absent.content
    assert other.get("/v1/incidents").json() == other.get("/v1/incidents?tenant=acme").json() == NONE
    assert other.get("/v1/reports/retention").json()["type"] == "urn:mass-gov:problem:forbidden"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/incidents", OPENING | {"severity": "grave"}, 400),
        ("/v1/incidents", OPENING | {"clauses": "../eu-ai-act"}, 422),
        ("/v1/incidents", OPENING | {"clauses": "us-ai-act"}, 404),
        ("/v1/incidents", OPENING | {"title": "a\u0007"}, 422),
        ("/v1/incidents", OPENING | {"aware_at": "2026-11-28T10:00:00"}, 422),
        ("/v1/incidents", OPENING | {"aware_at": "2099-01-01T00:00:00Z"}, 400),
        ("/v1/incidents", OPENING | {"changes": [NOT_HERE]}, 409),
        ("/v1/incidents", OPENING | {"owner": "bob"}, 422),
        (f"/v1/incidents/{NOT_HERE}:close", {"reason": "x"}, 404),
    ],
)
def test_a_body_that_cannot_be_is_a_problem_and_no_event(
    api: ApiWorld, path: str, body: dict[str, Any], status: int
) -> None:
    size = api.world.ledger.size
    answer = api.client("bob").post(path, json=body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert api.world.ledger.size == size


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("since=yesterday", 422),
        ("since=2026-11-28T00:00:00", 422),
        ("size=2", 404),
        ("clauses=../x", 422),
        ("size=0", 422),
    ],
)
def test_a_report_that_cannot_be_is_a_problem_and_no_event(api: ApiWorld, query: str, status: int) -> None:
    size, body = api.world.ledger.size, dict([query.split("=")])
    assert api.client().get(f"/v1/reports/all?{query}").status_code == status
    assert api.client().post("/v1/reports/all:record", json=body).status_code == status
    assert api.client().get("/v1/reports/article-99").status_code == 404
    assert api.world.ledger.size == size


def test_one_report_is_made_at_a_time(api: ApiWorld) -> None:
    with api.app.state.service.reporting:
        answer = api.client("dora").get("/v1/reports/retention")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
    assert api.client("dora").get("/v1/reports/retention").status_code == 200


def test_who_only_looks_at_a_report_leaves_nothing_in_the_log(api: ApiWorld) -> None:
    size = api.world.ledger.size
    said = api.client("dora").get("/v1/reports/article-14", params={"since": "2026-11-24", "verify": True}).json()
    assert (said["recorded_index"], api.world.ledger.size) == (None, size)
    assert said["report"]["facts"]["log.verified"] == 1
    assert said["report"]["period"]["since"] == "2026-11-24T00:00:00.000000Z"


def test_an_incident_over_http_is_that_of_the_command_line(api: ApiWorld) -> None:
    bob, ledger = api.client("bob"), api.world.ledger
    (change,) = ledger.changes()
    answer = bob.post("/v1/incidents", json=OPENING | {"changes": [change.change_id]})
    name = answer.json()["incident"]["incident_id"]
    assert answer.status_code == 201
    done = bob.post(f"/v1/incidents/{name}:update", json={"note": "On it.", "acknowledge": True}).json()
    assert done["incident"]["status"] == "acknowledged"
    for when in ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"):
        told = bob.post(f"/v1/incidents/{name}:update", json={"note": "Told.", "reported_at": when})
        assert told.status_code == 400 and "nobody can have been told" in told.json()["detail"]
    assert bob.get(f"/v1/incidents/{name[:13]}").status_code == 422, "what a beginning finds may be somebody else's"
    twice = bob.post(f"/v1/incidents/{name}:update", json={"note": "On it.", "acknowledge": True})
    assert twice.json()["type"] == "urn:mass-gov:problem:conflict"
    assert bob.post(f"/v1/incidents/{name}:close", json={"reason": "Mended."}).json()["incident"]["status"] == "closed"
    shown = api.client("dora").get(f"/v1/incidents/{name}").json()
    assert shown == story_document(story(ledger, name), shown["incident"]["opened_at"])
    assert [one["incident_id"] for one in bob.get("/v1/incidents?status=closed").json()["incidents"]] == [name]


def test_a_request_with_a_key_opens_one_incident(api: ApiWorld) -> None:
    bob, size = api.client("bob"), api.world.ledger.size
    bob.headers["Idempotency-Key"] = "one"
    first, again = (bob.post("/v1/incidents", json=OPENING) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201) and first.content == again.content
    assert api.world.ledger.size == size + 1
    other = bob.post("/v1/incidents", json=OPENING | {"title": "Another"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:mass-gov:problem:key-reused")


def test_incidents_come_in_pages_that_miss_none(api: ApiWorld) -> None:
    dora = api.client("dora")
    for _ in range(3):
        api.client("bob").post("/v1/incidents", json=OPENING)
    found, after = [], ""
    while after is not None:
        page = dora.get("/v1/incidents", params={"limit": 2} | ({"cursor": after} if after else {})).json()
        found, after = found + page["incidents"], page["next"]
    assert found == dora.get("/v1/incidents?limit=200").json()["incidents"] and len(found) >= 3
    first = dora.get("/v1/incidents?limit=2").json()["next"]
    elsewhere = dora.get("/v1/incidents", params={"limit": 2, "cursor": first, "status": "closed"})
    assert elsewhere.json()["type"] == "urn:mass-gov:problem:bad-cursor"


def test_a_report_over_http_is_that_of_the_command_line_and_is_recorded(api: ApiWorld) -> None:
    dora, ledger = api.client("dora"), api.world.ledger
    said = dora.post("/v1/reports/article-14:record", json={"tenant": "acme"}).json()
    log, at = said["report"]["log"], said["report"]["at"]
    again = make_report(
        ledger, shipped_clauses("eu-ai-act"), Asked("article-14", tenant="acme", size=log["size"], at=at)
    )
    assert (again.document, again.content) == (said["report"], said["content"])
    event = ledger.entry(said["recorded_index"]).predicate
    assert (event.actor.principal, event.body.type, event.tenant) == ("dora", "export.made", "acme")
    listed = [one["name"] for one in dora.get("/v1/reports").json()["reports"]]
    assert {"article-12", "incidents", "all"} <= set(listed)


def test_a_page_over_http_brings_its_style_and_nothing_else(api: ApiWorld) -> None:
    page = api.client("dora").get("/v1/reports/retention?format=html")
    assert page.headers["Content-Type"].startswith("text/html") and "<script" not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    text = api.client("dora").get("/v1/reports/retention?format=md")
    assert text.headers["Content-Type"].startswith("text/markdown") and text.text.startswith("# ")
