"""Decisions over HTTP: blind and stale ones are refused, and the same request twice is done once."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.flows.audit import verify
from mass_gov.ledger import replies as replies_module
from mass_gov.ledger.replies import Replies, Reply
from mass_gov.records.base import timestamp
from tests.fakes.api_world import ApiWorld, api_world
from tests.fakes.ledger_world import BOTH_SCOPES, LedgerWorld
from tests.fakes.tamper import editing

TYPE = "urn:mass-gov:problem:"
WHY = {"reason": "It was looked at."}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiWorld]:
    with api_world(tmp_path, BOTH_SCOPES) as made:
        yield made


def held(api: ApiWorld, task: str = "held", **options: str) -> str:
    """A change that waits for a person."""
    return api.world.record(task, step_norm=0.7, **options).change_id


def looked(api: ApiWorld, change_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and body of a decision by somebody who looked."""
    diff = api.client("bob").get(f"/v1/changes/{change_id}/diff")
    return {"If-Match": diff.headers["ETag"]}, {**WHY, "shown": diff.json()["shown"]}


@pytest.mark.parametrize("tag", [None, "*", ""])
def test_nobody_decides_without_saying_what_they_saw(api: ApiWorld, tag: str | None) -> None:
    change_id = held(api)
    headers = {} if tag is None else {"If-Match": tag}
    answer = api.client("bob").post(f"/v1/changes/{change_id}:reject", json=WHY, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (428, f"{TYPE}etag-required")
    assert api.world.ledger.change(change_id).status == "held"


def test_nobody_decides_on_what_changed_since(api: ApiWorld) -> None:
    change_id = held(api)
    headers, body = looked(api, change_id)
    api.world.ledger.append([api.world.rejection(api.world.ledger.change(change_id))])
    answer = api.client("bob").post(f"/v1/changes/{change_id}:approve", json=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (412, f"{TYPE}stale")


def test_a_pointer_that_moved_makes_an_approval_stale(api: ApiWorld) -> None:
    change_id = held(api, scope="deployment")
    headers, body = looked(api, change_id)
    api.world.promote(api.world.record("other"))
    answer = api.client("bob").post(f"/v1/changes/{change_id}:approve", json=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (412, f"{TYPE}stale")
    assert api.world.ledger.change(change_id).status == "held"


def test_approve_promote_and_roll_back_over_http_verify(api: ApiWorld) -> None:
    bob, change_id = api.client("bob"), held(api)
    headers, body = looked(api, change_id)
    approved = bob.post(f"/v1/changes/{change_id}:approve", json=body, headers=headers)
    assert approved.status_code == 200, approved.text
    assert approved.json()["status"] == "applied" and approved.headers["ETag"] != headers["If-Match"]
    headers, body = looked(api, change_id)
    assert bob.post(f"/v1/changes/{change_id}:promote", json=body, headers=headers).json()["status"] == "active"
    pointer = bob.get("/v1/pointers/acme/tutor").json()
    assert (pointer["change_id"], len(pointer["stack"])) == (change_id, 2)
    headers, _ = looked(api, change_id)
    undone = bob.post(f"/v1/changes/{change_id}:rollback", json=WHY, headers=headers).json()
    assert undone["rolled_back"] == [change_id]
    causes = [move["cause"] for move in bob.get("/v1/pointers/acme/tutor/history").json()["moves"]]
    assert causes == ["promotion", "rollback"]
    assert verify(api.world.ledger).ok


def test_the_same_request_twice_is_done_once_and_answered_alike(api: ApiWorld) -> None:
    bob, change_id = api.client("bob"), held(api)
    headers, _ = looked(api, change_id)
    named = headers | {"Idempotency-Key": "a-1"}
    first, again = (bob.post(f"/v1/changes/{change_id}:reject", json=WHY, headers=named) for _ in range(2))
    assert (first.status_code, first.content) == (200, again.content) and again.status_code == 200
    size = api.world.ledger.size
    other = bob.post(f"/v1/changes/{change_id}:reject", json={"reason": "Another."}, headers=named)
    assert (other.status_code, other.json()["type"]) == (422, f"{TYPE}key-reused")
    without = bob.post(f"/v1/changes/{change_id}:reject", json=WHY, headers=headers)
    assert without.status_code == 412, "without the key it is another request, and stale"
    assert api.world.ledger.size == size


def test_a_key_is_its_principals_own(api: ApiWorld) -> None:
    change_id = held(api)
    headers, _ = looked(api, change_id)
    named = headers | {"Idempotency-Key": "a-1"}
    assert api.client("bob").post(f"/v1/changes/{change_id}:reject", json=WHY, headers=named).status_code == 200
    assert api.client("carl").post(f"/v1/changes/{change_id}:reject", json=WHY, headers=named).status_code == 412


def test_a_key_outlives_the_server(api: ApiWorld) -> None:
    from mass_gov.api import Service, create_app
    from tests.fakes.api_world import PLENTY

    body = {**WHY, "tenant": "acme", "deployment": "tutor"}
    named = {"Idempotency-Key": "freeze-1"}
    first = api.client("bob").post("/v1/control:freeze", json=body, headers=named)
    api.app = create_app(Service.of(api.world.ledger, limits=PLENTY))
    assert api.client("bob").post("/v1/control:freeze", json=body, headers=named).content == first.content
    assert first.json()["already"] is False


def test_a_claim_that_a_crash_left_behind_is_free_after_a_minute(api: ApiWorld) -> None:
    replies, now = api.world.ledger.replies, api.world.ledger.now()
    assert replies.claim("bob", "k", "digest", now) == "claimed"
    assert replies.claim("bob", "k", "digest", now) == "under way"
    assert replies.claim("bob", "k", "digest", now + dt.timedelta(minutes=2)) == "claimed"


def test_whoever_works_longer_than_a_minute_keeps_their_claim(api: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay may wait for a learner: asked again meanwhile it is under way, and is done once."""
    monkeypatch.setattr(replies_module, "RENEWED", dt.timedelta(milliseconds=20))
    replies, begun = api.world.ledger.replies, api.world.ledger.now()
    later = begun + dt.timedelta(minutes=5)
    assert replies.claim("bob", "long", "digest", begun) == "claimed"
    with replies.working("bob", "long", lambda: later):
        deadline = time.monotonic() + 20
        while replies.claim("bob", "long", "digest", begun + dt.timedelta(seconds=59)) != "under way":
            assert time.monotonic() < deadline
        while kept_at(api, "long") != timestamp(later):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert replies.claim("bob", "long", "digest", later + dt.timedelta(seconds=30)) == "under way"
    replies.settle("bob", "long", Reply(200, None, "{}"))
    assert replies.claim("bob", "long", "digest", later) == Reply(200, None, "{}")


def test_nobody_settles_a_claim_that_another_has_by_now(api: ApiWorld) -> None:
    """Whoever was taken for crashed ends after all: neither their failure nor their answer is the other's."""
    slow, now = api.world.ledger.replies, api.world.ledger.now()
    quick = Replies(api.world.ledger._database, api.world.keys)
    assert slow.claim("bob", "taken", "digest", now) == "claimed"
    assert quick.claim("bob", "taken", "digest", now + dt.timedelta(minutes=2)) == "claimed"
    slow.settle("bob", "taken", None)
    slow.settle("bob", "taken", Reply(500, None, "{}"))
    assert slow.claim("bob", "taken", "digest", now + dt.timedelta(minutes=2)) == "under way"
    quick.settle("bob", "taken", Reply(200, None, "{}"))
    assert slow.claim("bob", "taken", "digest", now + dt.timedelta(minutes=2)) == Reply(200, None, "{}")


def kept_at(api: ApiWorld, key: str) -> str:
    with editing(api.world.ledger.address) as connection:
        return str(connection.execute("SELECT asked_at FROM replies WHERE key = ?", (key,)).fetchone()[0])


def test_an_answer_that_nobody_gave_is_given_to_nobody(api: ApiWorld) -> None:
    """Whoever writes the database plants an answer, moves one, or brings one back after its day."""
    ledger = api.world.ledger
    replies, now = ledger.replies, ledger.now()
    planted, done = Reply(200, None, '{"frozen": true}'), Reply(200, '"7"', '{"frozen": "secret words"}')
    with editing(ledger.address) as connection:
        for number, asked in enumerate(("digest", "hmac-sha256:digest")):
            row = ("bob", f"planted-{number}", asked, timestamp(now), planted.status, None, planted.body)
            connection.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    assert replies.claim("bob", "planted-0", "digest", now) == "claimed"  # as older releases kept them
    assert replies.claim("bob", "planted-1", "digest", now) == "other"

    for key in ("k", "l"):
        assert replies.claim("bob", key, "digest", now) == "claimed"
    replies.settle("bob", "k", done)
    assert replies.claim("bob", "k", "digest", now) == done
    with editing(ledger.address) as connection:
        kept = connection.execute("SELECT * FROM replies WHERE key = 'k'").fetchone()
        assert not any("secret words" in str(value) or value == "digest" for value in kept)
        connection.execute("UPDATE replies SET status = 200, body = ? WHERE key = 'l'", (kept[-1],))
    assert replies.claim("bob", "l", "digest", now) == "claimed"  # what was kept for another key is none of this one

    later = now + dt.timedelta(days=2)
    assert replies.claim("bob", "k", "digest", later) == "claimed"
    with editing(ledger.address) as connection:
        connection.execute("UPDATE replies SET status = 200, body = ? WHERE key = 'k'", (kept[-1],))
    assert replies.claim("bob", "k", "digest", later) == "claimed"


def test_what_is_older_than_a_day_goes_when_the_ledger_is_opened(api: ApiWorld) -> None:
    ledger = api.world.ledger
    for key, ago in (("old", dt.timedelta(hours=25)), ("young", dt.timedelta(hours=23))):
        ledger.replies.claim("bob", key, "digest", ledger.now() - ago)
        ledger.replies.settle("bob", key, Reply(200, None, "{}"))
    LedgerWorld.make(api.world.folder).close()
    with editing(ledger.address) as connection:
        assert connection.execute("SELECT key FROM replies").fetchall() == [("young",)]


@pytest.mark.parametrize("reason", ["", "   ", "a\x00b", "x" * 2001, None, 7])
def test_a_reason_is_something_to_read(api: ApiWorld, reason: object) -> None:
    change_id = held(api)
    answer = api.client("bob").post(f"/v1/changes/{change_id}:reject", json={"reason": reason})
    assert (answer.status_code, answer.json()["type"]) == (422, f"{TYPE}invalid")


def test_what_may_not_be_decided_says_why(api: ApiWorld) -> None:
    applied = api.world.record("applied").change_id
    headers, _ = looked(api, applied)
    answer = api.client("bob").post(f"/v1/changes/{applied}:reject", json=WHY, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (409, f"{TYPE}conflict")
    assert "promoted or rolled back" in answer.json()["detail"]


def test_without_a_learner_a_replay_says_so(api: ApiWorld) -> None:
    change_id = held(api)
    answer = api.client("dora").post(f"/v1/changes/{change_id}:replay", json={})
    assert (answer.status_code, answer.json()["type"]) == (409, f"{TYPE}no-learner")


def test_freezing_everything_is_not_for_whoever_sees_one_tenant(api: ApiWorld) -> None:
    body = {**WHY, "tenant": "elsewhere", "deployment": "tutor", "everywhere": True}
    assert api.client("zoe").post("/v1/control:freeze", json=body).status_code == 403
    assert api.client("zoe").post("/v1/control:freeze", json=body | {"everywhere": False}).status_code == 200
    frozen = api.client("bob").get("/v1/control").json()["freezes"]
    assert [one["tenant"] for one in frozen] == ["elsewhere"]
    assert api.client("zoe").post("/v1/control:unfreeze", json=body | {"everywhere": False}).json()["frozen"] is False


def test_a_freeze_of_everything_does_not_say_under_which_other_tenant_it_was_made(api: ApiWorld) -> None:
    body = {**WHY, "tenant": "acme", "deployment": "tutor", "everywhere": True}
    assert api.client("bob").post("/v1/control:freeze", json=body).json()["freeze"]["tenant"] == "acme"
    zoe = api.client("zoe")
    (listed,) = zoe.get("/v1/control").json()["freezes"]
    shown = zoe.get("/v1/pointers/elsewhere/tutor").json()["freeze"]
    own = {**WHY, "tenant": "elsewhere", "deployment": "tutor"}
    still = zoe.post("/v1/control:unfreeze", json=own).json()["still"]
    for one in (listed, shown, still):
        assert (one["extent"], one["tenant"], one["deployment"]) == ("everywhere", None, None)
    assert api.client("bob").post("/v1/control:unfreeze", json=body).status_code == 200
