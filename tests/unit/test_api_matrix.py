"""Every operation of the OpenAPI document, asked by nobody, in the wrong role, from the wrong tenant, about nothing.

Made from the document itself: an operation that is added is asked too, and one that cannot be filled in fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import Response

from mass_gov.api.problems import MEDIA_TYPE
from tests.fakes.api_world import ApiWorld, api_world, operations
from tests.fakes.ledger_world import SUBJECT

NOTHING = {
    "change_id": "01900000-0000-7000-8000-000000000000",
    "response_id": "01900000-0000-7000-8000-000000000000",
    "handle": "s-" + "0" * 32,
    "digest": "0" * 64,
    "index": str(2**40),
    "tenant": "nowhere",
    "deployment": "nothing",
    "incident_id": "01900000-0000-7000-8000-000000000000",
    "name": "article-99",
}
REQUIRED = {"index": "5", "from": "1"}
EVERYBODYS = {"/v1/policies/{digest}", "/v1/log/checkpoint", "/v1/log/consistency"}
"""What belongs to no tenant."""
LISTED = {"/v1/policies", "/v1/suites", "/v1/models", "/v1/reports"}
TO_SAY: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "default", "messages": [{"role": "user", "content": "1"}]},
    ":replay": {"start": "scratch"},
    ":record": {},
    ":update": {"note": "It was looked at."},
    "/incidents": {"title": "An answer was wrong", "severity": "serious"},
}
"""Bodies, by how a path ends; the others give a reason."""
POINTERS = {"/v1/pointers/{tenant}/{deployment}", "/v1/pointers/{tenant}/{deployment}/history"}
"""A deployment in which nothing was learned yet has a pointer too: it stands on the base model."""


OPERATIONS = operations()
ABOUT = [one for one in OPERATIONS if "{" in one[1]]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    with api_world(tmp_path_factory.mktemp("matrix")) as made:
        made.world.record("held", step_norm=0.7)
        made.world.record("applied")
        yield made


@pytest.fixture(scope="module")
def things(api: ApiWorld) -> dict[str, str]:
    """What there is, by the name of the path parameter that it stands for."""
    ledger = api.world.ledger
    return {
        "change_id": ledger.changes(status="held")[0].change_id,
        "response_id": ledger.responses()[-1].response_id,
        "handle": SUBJECT,
        "digest": api.world.policy.digest,
        "index": "2",
        "tenant": "acme",
        "deployment": "tutor",
        "incident_id": _incident(api),
        "name": "article-12",
    }


def _incident(api: ApiWorld) -> str:
    placed = {"tenant": "acme", "deployment": "tutor"}
    made = api.client().post("/v1/incidents", json=TO_SAY["/incidents"] | placed)
    return str(made.json()["incident"]["incident_id"])


def ask(api: ApiWorld, name: str | None, method: str, path: str, filled: dict[str, str]) -> Response:
    """Ask one operation with its parameters filled in."""
    operation = api.app.openapi()["paths"][path][method.lower()]
    query = {p["name"]: REQUIRED[p["name"]] for p in operation.get("parameters", []) if _wanted(p)}
    body: dict[str, Any] | None = None
    if "requestBody" in operation:
        body = next((said for end, said in TO_SAY.items() if path.endswith(end)), {"reason": "It was looked at."})
        placed = "/control" in path or path.endswith("/incidents")
        body = body | ({"tenant": filled["tenant"], "deployment": filled["deployment"]} if placed else {})
    url = path.format(**filled)
    return api.client(name).request(method, url, params=query, json=body, headers={"If-Match": '"x"'})


def _wanted(parameter: dict[str, Any]) -> bool:
    return bool(parameter["in"] == "query" and parameter.get("required"))


def test_there_is_something_to_ask() -> None:
    assert len(OPERATIONS) >= 28 and len(ABOUT) >= 14


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nobody_is_let_in_without_a_token(api: ApiWorld, things: dict[str, str], method: str, path: str) -> None:
    for filled in (things, NOTHING):
        answer = ask(api, None, method, path, filled)
        assert answer.status_code == 401 and answer.headers["Content-Type"] == MEDIA_TYPE


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_wrong_role_is_refused_alike_for_what_is_there_and_what_is_not(
    api: ApiWorld, things: dict[str, str], method: str, path: str
) -> None:
    if path == "/v1/models":
        return  # whoever may read and whoever may ask: there is no wrong role
    wrong = "dora" if "/chat/" in path else "ada"
    there, absent = ask(api, wrong, method, path, things), ask(api, wrong, method, path, NOTHING)
    assert (there.status_code, there.content) == (403, absent.content)
    if method == "POST" and not path.endswith((":replay", ":record")):
        assert ask(api, "dora", method, path, things).status_code == 403, "an auditor decides nothing"


@pytest.mark.parametrize(("method", "path"), [one for one in ABOUT if one[1] not in POINTERS])
def test_what_is_not_there_is_a_404(api: ApiWorld, method: str, path: str) -> None:
    answer = ask(api, "carl", method, path, NOTHING)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:mass-gov:problem:not-found")


@pytest.mark.parametrize(("method", "path"), [one for one in OPERATIONS if one[1] not in EVERYBODYS | LISTED])
def test_another_tenants_things_do_not_exist(api: ApiWorld, things: dict[str, str], method: str, path: str) -> None:
    there = ask(api, "zoe", method, path, things)
    absent = ask(api, "zoe", method, path, NOTHING)
    if path.startswith("/v1/reports/"):  # of the whole ledger: a name of no report is refused like one that there is
        assert (there.status_code, there.content) == (403, absent.content)
        return
    if "{" in path or path == "/v1/log/inclusion" or "/control:" in path or (method, path) == ("POST", "/v1/incidents"):
        assert (there.status_code, there.content) == (404, absent.content)
        return
    without_learner = (409,) if path == "/v1/chat/completions" else ()
    assert there.status_code in (200, 403, *without_learner) and "acme" not in there.text
    if there.status_code == 200:
        assert all(not listed for listed in there.json().values()), "a list of what one may not see is empty"


def test_an_operator_of_another_tenant_changed_nothing(api: ApiWorld, things: dict[str, str]) -> None:
    assert api.world.ledger.change(things["change_id"]).status == "held"
    assert api.world.ledger.frozen("acme", "tutor") is None
