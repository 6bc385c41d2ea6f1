"""A real server, the shipped core and the real `openai` client: each answer with its change. Denial first."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from mass_gov.config import load_settings
from mass_gov.evidence.trust import TrustRoot
from mass_gov.flows.audit import verify
from mass_gov.flows.bundle_verify import verify_bundle
from mass_gov.ledger import Ledger
from mass_gov.wiring import open_keys, read_ledger
from tests.fakes.http_server import Server, furnish, serving, wait_for
from tests.fakes.policies import lean_policy

TASK = "03 14 21 32 45 56 60: FFF"
ABSENT = "01900000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    home = folder / "home"
    tokens = furnish(home, lean_policy(folder, while_pending="none", scopes=("instance",)))
    with serving(home, tokens, serve_queue=2, busy_timeout=1, serve_outage="unrecorded") as made:
        made.ready()
        yield made


def client(server: Server, name: str = "ada", token: str | None = None, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=token or server.tokens[name], max_retries=retries, timeout=120
    )


def ask(who: openai.OpenAI, question: str = TASK + "5", seed: int | None = 1, **wanted: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return who.chat.completions.create(
        model="default", messages=messages, seed=seed, extra_body={"mass_gov": wanted} if wanted else None
    )


def ledger(server: Server) -> Ledger:
    return read_ledger(load_settings(home=server.home))


def test_the_client_raises_what_it_raises_for_openai(server: Server) -> None:
    asks = {
        openai.AuthenticationError: lambda: ask(client(server, token="mgv_nobody")),
        openai.PermissionDeniedError: lambda: ask(client(server, "dora")),
        openai.UnprocessableEntityError: lambda: ask(client(server), scope="everything"),
        openai.BadRequestError: lambda: ask(client(server), question="\x07"),
        openai.NotFoundError: lambda: client(server).chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "1"}]
        ),
    }
    for kind, asked in asks.items():
        with pytest.raises(kind) as caught:
            asked()
        document = caught.value.response.json()
        assert document["type"].startswith("urn:mass-gov:problem:") and document["error"]["message"]


def test_it_says_in_json_where_it_listens(server: Server) -> None:
    said = next(json.loads(line) for line in server.log.read_text("utf-8").splitlines() if line.startswith('{"url"'))
    assert said == {"url": server.url, "model": "default", "pid": server.process.pid}


def test_a_scope_that_is_not_ones_own_is_refused(server: Server) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="scope deployment"):
        ask(client(server, "eve"), scope="deployment")


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": "1"}, {"role": "user", "content": "2"}]},
        {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]},
    ],
    ids=["tools", "two choices", "json", "two questions", "a conversation"],
)
def test_what_would_be_something_else_than_one_answer_in_text_is_refused(server: Server, more: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "1"}]} | more
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client(server).chat.completions.create(model="default", **asked)
    assert caught.value.response.json()["errors"]


@pytest.fixture(scope="module")
def adapted(server: Server) -> Any:
    """An adapted answer, and the headers it came with."""
    messages: Any = [{"role": "user", "content": TASK + "5"}]
    raw = client(server).chat.completions.with_raw_response.create(
        model="default", messages=messages, seed=1, temperature=0.7, extra_headers={"Idempotency-Key": "first"}
    )
    return raw.headers, raw.parse()


def test_an_adapted_answer_and_its_change_verify_from_the_bundle_alone(server: Server, adapted: Any) -> None:
    headers, said = adapted
    governed = said.mass_gov
    assert (governed["served"], governed["status"], governed["verdict"]) == ("adapted", "applied", "apply")
    assert headers["X-Mass-Gov-Change"] == governed["change_id"] and said.id == f"chatcmpl-{governed['change_id']}"
    assert governed["ignored"] == ["temperature"] and said.usage.total_tokens > said.usage.completion_tokens > 0
    with server.client("dora") as auditor:
        bundle = auditor.get(f"/v1/changes/{governed['change_id']}/bundle")
    key = open_keys(load_settings(home=server.home)).public_keys("log")[0]
    report = verify_bundle(bundle.content, public_key=TrustRoot(key))
    assert report.first_wrong is None and report.document()["ok"]


def test_the_change_says_who_asked_and_what_was_served(server: Server, adapted: Any) -> None:
    with ledger(server) as read:
        change = read.change(adapted[1].mass_gov["change_id"])
        (response,) = read.responses(change_id=change.change_id)
        assert change.body.identity.requester == "ada"
        assert response.served == "adapted" and response.state == adapted[1].mass_gov["state"]


def test_the_same_key_finds_the_recorded_change_and_another_persons_does_not(server: Server, adapted: Any) -> None:
    again = {"extra_headers": {"Idempotency-Key": "first"}}
    messages: Any = [{"role": "user", "content": TASK + "5"}]
    mine = client(server).chat.completions.create(model="default", messages=messages, extra_body={}, **again)
    assert mine.mass_gov["repeated"] and mine.mass_gov["change_id"] == adapted[1].mass_gov["change_id"]
    assert mine.choices[0].message.content == adapted[1].choices[0].message.content
    with pytest.raises(openai.UnprocessableEntityError, match="another question"):
        client(server).chat.completions.create(
            model="default", messages=[{"role": "user", "content": TASK + "4"}], **again
        )
    theirs = client(server, "eve").chat.completions.create(model="default", messages=messages, seed=1, **again)
    assert theirs.mass_gov["change_id"] != adapted[1].mass_gov["change_id"]


def test_a_stream_is_the_same_answer_in_pieces(server: Server, adapted: Any) -> None:
    messages: Any = [{"role": "user", "content": TASK + "5"}]
    chunks = list(client(server).chat.completions.create(model="default", messages=messages, seed=1, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == adapted[1].choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    governed: Any = chunks[-1].mass_gov  # type: ignore[attr-defined]  # the client keeps what it does not know
    with ledger(server) as read:
        assert (
            read.change(governed["change_id"]).body.update == read.change(adapted[1].mass_gov["change_id"]).body.update
        )


def test_an_answer_without_an_update_is_recorded_too(server: Server) -> None:
    said = ask(client(server), adaptation="none")
    governed = said.mass_gov
    assert governed["change_id"] is None and governed["served"] == "unadapted"
    with ledger(server) as read:
        assert read.response(governed["response_id"]).state == governed["state"]


def test_the_models_are_the_deployments(server: Server) -> None:
    (model,) = client(server).models.list().data
    assert (model.id, model.owned_by) == ("default", "local")


def test_what_waits_is_202_with_where_to_ask_again_and_what_is_undone_is_told(server: Server) -> None:
    with server.client() as ada, server.client("bob") as bob, server.client("eve") as eve:
        held = ada.post("/v1/chat/completions", json=_body(TASK + "6", mass_gov={"scope": "deployment"}))
        assert held.status_code == 202 and held.json()["choices"] == []
        where, change = held.headers["Location"], held.json()["mass_gov"]["change_id"]
        assert ada.get(where).status_code == 202
        assert eve.get(where).status_code == 404, "another's change is not there"
        shown = bob.get(f"/v1/changes/{change}")
        decided = {"headers": {"If-Match": shown.headers["ETag"]}, "json": {"reason": "It looks right."}}
        approved = bob.post(f"/v1/changes/{change}:approve", **decided)
        assert approved.status_code == 200, approved.text
        assert ada.get(where).json()["mass_gov"]["served"] == "adapted"
        shown = bob.get(f"/v1/changes/{change}")
        undone = bob.post(
            f"/v1/changes/{change}:rollback", json={"reason": "A trial."}, headers={"If-Match": shown.headers["ETag"]}
        )
        assert undone.status_code == 200, undone.text
        gone = ada.get(where)
        assert (gone.status_code, gone.json()["error"]["code"]) == (409, "no-answer")


def test_a_replay_is_asked_over_http(server: Server, adapted: Any) -> None:
    change = adapted[1].mass_gov["change_id"]
    with server.client("dora") as dora:
        shown = dora.get(f"/v1/changes/{change}")
        headers = {"If-Match": shown.headers["ETag"]}
        answer = dora.post(f"/v1/changes/{change}:replay", json={"start": "delta"}, headers=headers)
    assert answer.status_code == 200 and answer.json()["verdict"] == "equal", answer.text


def test_a_full_queue_is_429_and_who_goes_away_takes_their_order_along(server: Server) -> None:
    with ledger(server) as read:
        before = read.latest_checkpoint().size
    statuses: list[int] = []

    def one(number: int) -> None:
        with server.client() as ada:
            statuses.append(ada.post("/v1/chat/completions", json=_body(f"{TASK}{number % 7}")).status_code)

    os.kill(learner(server), signal.SIGSTOP)
    try:
        threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
        with server.client() as gone:
            gone.timeout = 1.0
            with pytest.raises(Exception, match="timed out"):
                gone.post("/v1/chat/completions", json=_body(TASK + "3"))
        for thread in threads:
            thread.start()
        wait_for(lambda: metric(server, "mass_gov_queue_waiting") == 2, 20, server.tail)
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client(server))
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        with server.client(None) as anybody:
            assert anybody.get("/healthz").status_code == 200
    finally:
        os.kill(learner(server), signal.SIGCONT)
    for thread in threads:
        thread.join(120)
    assert set(statuses) <= {200, 202}
    assert metric(server, 'mass_gov_orders_given_up_total{where="running"}') == 1
    with ledger(server) as read:
        made = [e.predicate.body.type for e in read.entries() if e.index >= before]
    assert made.count("change.recorded") == 2, "nothing was recorded for the one who went away undecided"


def test_a_learner_that_dies_is_replaced_and_its_order_is_finished(server: Server) -> None:
    answers: list[Any] = []
    with server.client() as ada:
        asking = threading.Thread(
            target=lambda: answers.append(ada.post("/v1/chat/completions", json=_body(TASK + "2")))
        )
        asking.start()
        wait_for(lambda: metric(server, "mass_gov_queue_running") == 1)
        os.kill(learner(server), signal.SIGKILL)
        asking.join(120)
    (answer,) = answers
    assert answer.status_code in (200, 202) and metric(server, "mass_gov_learner_restarts_total") == 1
    assert_recorded(server, answer)


def test_while_the_ledger_cannot_be_written_nothing_is_learned_and_what_is_served_is_marked(server: Server) -> None:
    with ledger(server) as read:
        before = read.latest_checkpoint().size
    held = sqlite3.connect(server.home / "ledger.sqlite3", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client(server))
        assert (caught.value.status_code, caught.value.response.headers["Retry-After"]) == (503, "5")
        said = ask(client(server), adaptation="none")
        assert said.mass_gov["recorded"] is False and said.mass_gov["note"] and said.choices[0].message.content
        with server.client(None) as anybody:
            ready = anybody.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["ledger"]) == (503, "LedgerUnavailableError")
    finally:
        held.rollback()
        held.close()
    with ledger(server) as read:
        assert read.latest_checkpoint().size == before
        assert read.pointer("local", "default").change_id is None, "nothing moved it, and the trial before was undone"
    assert ask(client(server), adaptation="none").mass_gov["recorded"] is True


def test_logs_and_metrics_have_ids_and_no_contents(server: Server, adapted: Any) -> None:
    lines = [json.loads(line) for line in server.log.read_text("utf-8").splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("mass_gov_change") == adapted[1].mass_gov["change_id"]][:1]
    assert line["request_id"] and line["status"] == 200 and line["route"] == "/v1/chat/completions"
    with server.client("dora") as dora, server.client("ada") as ada:
        text = dora.get("/metrics").text
        assert ada.get("/metrics").status_code == 403
    for secret in ("FFF", adapted[1].choices[0].message.content, server.tokens["ada"]):
        assert secret not in server.log.read_text("utf-8") and secret not in text


def test_a_stop_finishes_what_is_under_way_and_the_log_verifies(server: Server) -> None:
    """Last in this module: it ends the server."""
    answers: list[Any] = []

    def one(number: int) -> None:
        with server.client() as ada:
            answers.append(ada.post("/v1/chat/completions", json=_body(f"{TASK}{number}")))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: metric(server, "mass_gov_queue_running") == 1 and metric(server, "mass_gov_queue_waiting") > 0)
    assert server.stop() == 0, server.tail()
    for thread in threads:
        thread.join(60)
    served = next(answer for answer in answers if answer.status_code in (200, 202))
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["Retry-After"] and refused.json()["error"]["code"] == "unavailable"
    assert_recorded(server, served)
    with ledger(server) as read:
        assert verify(read).first_wrong is None


def assert_recorded(server: Server, answer: httpx2.Response) -> None:
    """The change of an answer is in the log, and an answer that left has its event."""
    with ledger(server) as read:
        change = read.change(answer.headers["X-Mass-Gov-Change"])
        assert bool(read.responses(change_id=change.change_id)) == (answer.status_code == 200)


def _body(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "default", "messages": [{"role": "user", "content": question}], **more}


def metric(server: Server, name: str) -> float:
    with server.client("dora") as dora:
        lines = dora.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def learner(server: Server) -> int:
    """The process of the learner: the server's only child besides the resource tracker."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            command = entry.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == server.process.pid and b"spawn_main" in command:
            return int(entry.parent.name)
    raise AssertionError("there is no learner")
