"""Lists, cursors, fields, exports and proofs over HTTP: what is refused first, then that nothing is lost or twice."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import sqlalchemy
from starlette.testclient import TestClient

from mass_gov.api import lists
from mass_gov.documents.changes import summary
from mass_gov.evidence.checkpoint import open_note
from mass_gov.evidence.export_lines import ExportReader
from mass_gov.evidence.merkle import Frontier
from mass_gov.flows.log_export import export_log
from mass_gov.policy.measures import KINDS
from mass_gov.records.change import Measure
from mass_gov.records.events import ChangeRecorded
from tests.fakes.api_world import ApiWorld, api_world

TYPE = "urn:mass-gov:problem:"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    with api_world(tmp_path_factory.mktemp("lists")) as made:
        for number, norm in enumerate((0.05, 0.7, 0.9, 0.05, 0.7, 0.7)):
            made.world.record(f"t{number}", step_norm=norm)
        yield made


@pytest.fixture
def carl(api: ApiWorld) -> TestClient:
    return api.client("carl")


def walk(client: TestClient, name: str, **asked: str) -> list[dict[str, object]]:
    """Every thing of a list, page by page."""
    found, cursor = [], None
    for _ in range(100):
        page = client.get(f"/v1/{name}", params=asked | ({"cursor": cursor} if cursor else {}))
        assert page.status_code == 200, page.text
        found += page.json()[name]
        cursor = page.json()["next"]
        if cursor is None:
            return found
    raise AssertionError("the list has no end")


def test_a_cursor_that_was_altered_or_made_up_is_refused(carl: TestClient) -> None:
    cursor = carl.get("/v1/changes", params={"limit": 2}).json()["next"]
    whole = bytearray(base64.urlsafe_b64decode(cursor))
    altered = []
    for at in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[at] ^= 1
        altered.append(base64.urlsafe_b64encode(spoiled).decode())
    for bad in (*altered, "x", "é", "AAAA", cursor[:-2], cursor + "=", "%00", "1" * 200):
        answer = carl.get("/v1/changes", params={"limit": 2, "cursor": bad})
        assert (answer.status_code, answer.json()["type"]) == (400, f"{TYPE}bad-cursor"), bad


def test_a_cursor_belongs_to_its_list_its_filters_its_order_and_its_tenants(api: ApiWorld, carl: TestClient) -> None:
    cursor = carl.get("/v1/changes", params={"limit": 2}).json()["next"]
    for name, more in (("events", {}), ("changes", {"status": "held"}), ("changes", {"sort": "index"})):
        assert carl.get(f"/v1/{name}", params={"cursor": cursor, **more}).status_code == 400
    assert api.client("zoe").get("/v1/changes", params={"cursor": cursor}).status_code == 400
    assert carl.get("/v1/changes", params={"cursor": cursor, "limit": 1}).status_code == 200, "a page may be shorter"


@pytest.mark.parametrize(
    "asked",
    [
        {"status": "levitating"},
        {"colour": "blue"},
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "9" * 5000},
        {"since": "yesterday"},
        {"since": "9999-12-31T23:59:59-23:59"},
        {"since": "2026-11-28T10:00:00"},
        {"from_index": "-1"},
        {"tenant": "a\x00b"},
        {"failed": "A B"},
        {"subject": "somebody"},
        {"sort": "status"},
    ],
)
def test_a_filter_that_is_not_known_or_not_typed_is_refused(carl: TestClient, asked: dict[str, str]) -> None:
    answer = carl.get("/v1/changes", params=asked)
    assert (answer.status_code, answer.json()["type"]) == (422, f"{TYPE}invalid")
    assert answer.json()["errors"]


@pytest.mark.parametrize("sort", ["index", "-index"])
@pytest.mark.parametrize("filters", [{}, {"status": "held"}, {"failed": "update.step_norm"}, {"status": "active"}])
def test_pages_have_everything_once_and_in_order(
    api: ApiWorld, carl: TestClient, sort: str, filters: dict[str, str]
) -> None:
    every = [summary(change) for change in api.world.ledger.changes(newest_first=sort == "-index")]
    failed = {
        change.change_id: {gate.name for gate in change.body.gates if gate.verdict == "fail"}
        for change in api.world.ledger.changes()
    }
    wanted = [one for one in every if filters.get("status", one["status"]) == one["status"]]
    if "failed" in filters:
        wanted = [one for one in wanted if filters["failed"] in failed[str(one["change_id"])]]
    assert walk(carl, "changes", sort=sort, limit="2", **filters) == json.loads(json.dumps(wanted))


def test_the_domains_that_a_leaf_can_name_are_those_that_can_be_asked_for() -> None:
    assert set(get_args(lists.Domain)) == {name.rpartition(".")[2] for name in KINDS}


def test_a_change_is_found_by_the_domain_of_its_practice(api: ApiWorld, carl: TestClient) -> None:
    assert walk(carl, "changes", domain="linear") == [], "no policy asked for domains, so no leaf names any"
    drafts = api.world.change_drafts("of two domains", step_norm=0.9)
    body = drafts[0].body
    assert isinstance(body, ChangeRecorded)
    kinds = tuple(Measure(name=f"window.kinds.{name}", value=3.0, n=2) for name in ("linear", "nested"))
    change = body.change.model_copy(update={"measures": kinds})
    api.world.ledger.append([replace(drafts[0], body=ChangeRecorded(change=change)), *drafts[1:]])
    (found,) = walk(carl, "changes", domain="nested", verdict=change.decision.verdict)
    assert (found["change_id"], found["domains"]) == (change.identity.change_id, ["linear", "nested"])
    assert walk(carl, "changes", domain="operator") == []
    assert carl.get("/v1/changes", params={"domain": "poetry"}).status_code == 422


def test_answers_are_found_by_the_weights_that_gave_them(api: ApiWorld, carl: TestClient) -> None:
    change = api.world.ledger.changes(status="applied")[0]
    found = walk(carl, "responses", state=change.body.update.state)
    assert [one["response_id"] for one in found] == [
        one.response_id for one in api.world.ledger.responses(state=change.body.update.state)
    ]
    assert found and walk(carl, "responses", state="0" * 64) == []


def test_subjects_come_in_pages_that_miss_none(api: ApiWorld, carl: TestClient) -> None:
    for number in range(3):
        api.world.record(f"whose {number}", subject=f"s-{number:032x}")
    every = carl.get("/v1/subjects", params={"limit": 200}).json()["subjects"]
    assert len(every) == 4 and walk(carl, "subjects", limit="1") == every
    cursor = carl.get("/v1/subjects", params={"limit": 1}).json()["next"]
    answer = carl.get("/v1/subjects", params={"standing": "held", "cursor": cursor})
    assert answer.json()["type"] == f"{TYPE}bad-cursor"


def test_a_filter_that_stands_twice_is_refused(carl: TestClient) -> None:
    answer = carl.get("/v1/changes?requester=ada&requester=bob")
    assert (answer.status_code, answer.json()["type"]) == (422, f"{TYPE}invalid")


def test_a_date_is_its_first_moment_in_utc(carl: TestClient) -> None:
    one, other = (walk(carl, "changes", since=when) for when in ("2026-01-01", "2026-01-01T00:00:00Z"))
    assert one == other != []
    for when in ("2026-02-30", "20260101", "2026-W01-1", "1767225600"):
        assert carl.get("/v1/changes", params={"since": when}).status_code == 422, when


def test_stretches_of_the_log_and_of_time(api: ApiWorld, carl: TestClient) -> None:
    indices = [one["index"] for one in walk(carl, "events", from_index="3", to_index="7", sort="index")]
    assert indices == [3, 4, 5, 6, 7]
    time = api.world.ledger.entry(5).predicate.time
    assert walk(carl, "events", since=time, until=time, sort="index")[0]["index"] == 5
    assert walk(carl, "events", since="2999-01-01T00:00:00Z") == []


def test_a_ledger_that_is_asked_too_much_at_once_says_so_and_when_to_come_back(
    api: ApiWorld, carl: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = api.world.ledger._database._engine.pool
    monkeypatch.setattr(pool, "_timeout", 0.01)
    taken = []
    with contextlib.suppress(sqlalchemy.exc.TimeoutError):
        while True:
            taken.append(pool.connect())
    refused = carl.get("/v1/events")
    for one in taken:
        one.close()
    assert (refused.status_code, refused.json()["type"]) == (503, f"{TYPE}unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert carl.get("/v1/events").status_code == 200


def test_only_the_fields_that_were_asked_for(carl: TestClient) -> None:
    page = carl.get("/v1/changes", params={"fields": "change_id,status", "limit": 1}).json()["changes"]
    assert [sorted(one) for one in page] == [["change_id", "status"]]
    answer = carl.get("/v1/changes", params={"fields": "change_id,shoe_size"})
    assert answer.status_code == 400 and "shoe_size" in answer.json()["detail"]


def test_an_answer_is_traced_to_base_deltas_samples_policy_and_approvers(api: ApiWorld, carl: TestClient) -> None:
    change = api.world.ledger.changes(status="applied")[0]
    (response,) = api.world.ledger.responses(change_id=change.change_id)
    traced = carl.get(f"/v1/responses/{response.response_id}").json()
    assert traced["base_model"] == change.body.parents.base_model
    assert [one["delta_digest"] for one in traced["deltas"]] == [change.body.update.delta]
    assert traced["change"]["samples"]["kept"] == change.body.synthesis.kept
    assert traced["policy"] == {"digest": change.body.parents.policy, "name": "default"}
    assert traced["change"]["approvers"] == []


def test_the_stream_is_the_file_of_the_command_line(api: ApiWorld, carl: TestClient, tmp_path: Path) -> None:
    streamed = carl.get("/v1/log/export").content
    export_log(api.world.ledger, tmp_path / "log.ndjson")
    assert streamed == (tmp_path / "log.ndjson").read_bytes()
    reader = ExportReader(io.BytesIO(streamed))
    assert len(list(reader)) == api.world.ledger.size and reader.closing is not None


def test_the_table_gives_the_root_that_its_last_line_says(api: ApiWorld, carl: TestClient) -> None:
    rows = list(csv.DictReader(io.StringIO(carl.get("/v1/log/export", params={"format": "csv"}).text, newline="")))
    frontier = Frontier()
    for row in rows[:-1]:
        frontier.append(bytes.fromhex(row["proof"]))
    closing = json.loads(rows[-1]["proof"])
    assert rows[-1]["index"] == "closing" and closing["count"] == len(rows) - 1 == api.world.ledger.size
    assert frontier.root().hex() == closing["root"]
    assert open_note(closing["checkpoint"].encode())[0].splitlines()[1] == str(closing["count"])


def test_an_export_that_is_not_what_was_signed_ends_without_its_closing_line(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mass_gov.errors import IntegrityError
    from mass_gov.flows import log_export

    real = log_export._events
    monkeypatch.setattr(log_export, "_events", lambda *given: list(real(*given))[:-1])
    lines = log_export.export_lines(api.world.ledger)
    with pytest.raises(IntegrityError, match="not those that the head"):
        list(lines)


def test_a_pointer_at_another_moment(api: ApiWorld, carl: TestClient) -> None:
    size = api.world.ledger.size
    assert carl.get("/v1/pointers/acme/tutor", params={"at": 1}).json()["state_digest"] is None
    assert carl.get("/v1/pointers/acme/tutor", params={"at": size + 5}).status_code == 404
    early = carl.get("/v1/pointers/acme/tutor", params={"at": "2026-01-01T00:00:00Z"}).json()
    assert (early["head_index"], early["stack"]) == (None, None)
    assert carl.get("/v1/pointers/acme/tutor", params={"at": "then"}).status_code == 422
    assert carl.get("/v1/pointers/acme/tutor", params={"as_of": 1}).status_code == 422, "what is not known is refused"


def test_a_bundle_verifies_from_what_came_over_the_wire(api: ApiWorld, carl: TestClient) -> None:
    from mass_gov.evidence.trust import TrustRoot
    from mass_gov.flows.bundle_verify import verify_bundle

    change = api.world.ledger.changes(status="applied")[0]

    archive = carl.get(f"/v1/changes/{change.change_id}/bundle").content
    assert verify_bundle(archive, public_key=TrustRoot(api.world.ledger.log_key)).ok
