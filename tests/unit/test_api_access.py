"""Who is let in over HTTP, and what everybody is told: denials first."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.api import Limits, Service, create_app
from mass_gov.api.health import LedgerProbe, readiness
from mass_gov.api.rates import Rates
from mass_gov.api.watch import JsonLines
from tests.fakes.api_world import ApiWorld, api_world
from tests.fakes.clock import Clock

NO_CHANGE = "01900000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    with api_world(tmp_path_factory.mktemp("api")) as made:
        made.world.record("one")
        yield made


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer mgv_wrong", "Basic Y2FybDo=", "Bearer \xff"])
def test_without_a_good_token_nobody_is_let_in(api: ApiWorld, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = api.client(None).get(f"/v1/changes/{NO_CHANGE}", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["type"] == "urn:mass-gov:problem:unauthenticated"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_role_that_may_not_is_told_so_and_noted(api: ApiWorld) -> None:
    answer = api.client("ada").get(f"/v1/changes/{NO_CHANGE}")
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:mass-gov:problem:forbidden")
    noted = [entry.predicate for entry in api.world.ledger.entries() if entry.predicate.body.type == "access.denied"]
    assert "ada" in {one.actor.principal for one in noted}


def test_nobody_is_let_in_before_somebody_is_registered(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from tests.fakes.ledger_world import LedgerWorld

    world = LedgerWorld.make(tmp_path / "home")
    client = TestClient(create_app(Service.of(world.ledger)))
    assert client.get(f"/v1/changes/{NO_CHANGE}", headers={"Authorization": "Bearer x"}).status_code == 401
    world.close()


def test_a_body_that_is_too_large_is_not_read(api: ApiWorld) -> None:
    client = api.client()
    long = b"x" * (1024 * 1024 + 1)
    assert client.post("/v1/changes/x", content=long).status_code == 413
    said = client.post("/v1/changes/x", headers={"Content-Length": "9" * 30})
    assert said.json()["type"] == "urn:mass-gov:problem:too-large"


def test_a_body_of_nobody_is_not_even_read(api: ApiWorld) -> None:
    said = api.client(None).post("/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"})
    assert said.status_code == 401 and said.json()["error"]["code"] == "unauthenticated"
    assert api.client().post("/v1/control:freeze", content=b"{").status_code == 422


def test_what_comes_without_a_length_ends_at_the_limit_too(api: ApiWorld) -> None:
    endless = (b" " * 65536 for _ in range(10_000))
    said = api.client().post("/v1/control:freeze", content=endless, headers={"Content-Type": "application/json"})
    assert (said.status_code, said.json()["type"]) == (413, "urn:mass-gov:problem:too-large")


def test_a_body_that_never_ends_is_not_waited_for(api: ApiWorld) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not receive.begun:  # type: ignore[attr-defined]
            receive.begun = True  # type: ignore[attr-defined]
            return {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError("it was waited for")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    receive.begun = False  # type: ignore[attr-defined]
    hasty = create_app(Service.of(api.world.ledger, limits=Limits(body_seconds=0.1)))
    headers = [(b"authorization", f"Bearer {api.tokens['carl']}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/control:freeze", "raw_path": b"", "query_string": b""}
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "scheme": "http"}
    asyncio.run(hasty(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]


def test_a_defect_says_nothing_of_itself_and_is_guarded_like_every_answer(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret words of a defect")

    monkeypatch.setattr("mass_gov.api.health.readiness", broken)
    answer = api.client().get("/readyz")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:mass-gov:problem:defect")
    assert answer.headers["X-Request-Id"] and answer.headers["X-Content-Type-Options"] == "nosniff"
    (record,) = [one for one in caplog.records if one.name == "mass_gov.defects"]
    line = json.loads(JsonLines().format(record))
    assert line["request_id"] == answer.headers["X-Request-Id"] and line["exception"] == "RuntimeError"
    assert "secret words" not in answer.text and "secret words" not in json.dumps(line)


def test_a_ledger_on_a_full_disk_does_not_count_as_writable(api: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LedgerProbe(api.world.ledger.insist_writable)() == "ok"
    full = shutil.disk_usage(api.world.folder)._replace(free=4096)
    monkeypatch.setattr("mass_gov.ledger.sqlite.shutil.disk_usage", lambda _: full)
    assert LedgerProbe(api.world.ledger.insist_writable)() == "LedgerUnavailableError"


def test_what_somebody_writes_into_a_path_or_a_header_makes_no_line_and_no_header(
    api: ApiWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("/v1/x%0d%0aX-Evil: 1", "/v1/changes/%0aINFO forged", "/v1/reports/%0d%0aSet-Cookie: a"):
        answer = api.client().get(path, headers={"X-Request-Id": "chosen", "X-Forwarded-For": "forged"})
        assert not {"x-evil", "set-cookie"} & {name.lower() for name in answer.headers}
        assert answer.headers["X-Request-Id"] != "chosen"
    lines = [JsonLines().format(one) for one in caplog.records if one.name.startswith("mass_gov")]
    assert lines and not [line for line in lines if "Evil" in line or "forged" in line or "\n" in line]
    assert api.tokens["carl"] not in caplog.text


def test_every_answer_has_an_id_and_tells_browsers_to_keep_out(api: ApiWorld) -> None:
    answers = [api.client().get("/v1/openapi.json"), api.client(None).get("/v1/nothing"), api.client().get("/")]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert answers[1].json()["type"] == "urn:mass-gov:problem:not-found"


def test_who_asks_too_often_is_told_how_long_to_wait(tmp_path: Path) -> None:
    with api_world(tmp_path, limits=Limits(per_second=0.01, burst=3)) as made:
        bob, carl = made.client("bob"), made.client("carl")
        answers = [bob.get(f"/v1/changes/{NO_CHANGE}") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
        assert int(answers[-1].headers["Retry-After"]) > 60
        assert carl.get(f"/v1/changes/{NO_CHANGE}").status_code == 404, "another principal has a bucket of their own"


def test_a_bucket_fills_again(clock: Clock) -> None:
    moment = [0.0]
    rates = Rates(2.0, 2, clock=lambda: moment[0])
    assert [rates.wait("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    moment[0] = 0.5
    assert [rates.wait("a"), rates.wait("b")] == [0.0, 0.0]


def test_a_change_over_http_is_the_change_of_the_command_line(api: ApiWorld) -> None:
    from mass_gov.documents.changes import change_document
    from mass_gov.documents.contents import read_contents

    ledger = api.world.ledger
    (change,) = ledger.changes()
    document = change_document(change, read_contents(ledger, change), ledger.responses(), full_samples=False)
    assert api.client("dora").get(f"/v1/changes/{change.change_id}").json() == document


@pytest.mark.parametrize(("folder", "named"), [("checkpoints", "ledger"), ("keys", "keys")])
def test_a_folder_that_is_gone_is_not_ready(api: ApiWorld, folder: str, named: str) -> None:
    """A volume that is no longer mounted: no append can be made, or nothing sealed."""
    service = replace(Service.of(api.world.ledger), probe=LedgerProbe(api.world.ledger.insist_writable))
    assert readiness(service).checks.model_dump()[named] == "ok"
    (api.world.folder / folder).rename(api.world.folder / "gone")
    service = replace(service, probe=LedgerProbe(api.world.ledger.insist_writable))
    assert readiness(service).checks.model_dump()[named] not in ("ok", "")
    assert not readiness(service).ready
    (api.world.folder / "gone").rename(api.world.folder / folder)
