"""Two changes of the same question with the same seed make the same state: each keeps to itself all the same."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.documents.traces import trace_document
from mass_gov.flows.erase import erase
from mass_gov.flows.lineage import reached_from
from mass_gov.flows.rollback import rollback
from mass_gov.ledger import ChangeView
from mass_gov.records.events import Actor
from tests.fakes import ledger_world
from tests.fakes.api_world import ApiWorld, api_world
from tests.fakes.ledger_world import BOTH_SCOPES, SUBJECT

OTHER = "s-" + "6" * 32
OPERATOR = Actor(principal="bob", role="operator")
Pair = tuple[ApiWorld, ChangeView, ChangeView]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """One of acme, and one of elsewhere and another subject, that zoe is let into; the delta's bytes are the same."""
    monkeypatch.setattr(ledger_world, "os", types.SimpleNamespace(urandom=lambda length: b"\7" * length))
    with api_world(tmp_path, BOTH_SCOPES) as api:
        one = api.world.record("one", scope="deployment")
        api.world.tenant = "elsewhere"
        two = api.world.record("two", scope="deployment", subject=OTHER)
        assert one.body.update.state == two.body.update.state
        assert one.status == two.status == "active"
        yield api, one, two


def test_erasing_the_one_leaves_the_other_to_be_loaded(pair: Pair) -> None:
    api, one, two = pair
    ledger = api.world.ledger
    erase(ledger, SUBJECT, OPERATOR, "asked")
    made = ledger.change_of_state(two.body.update.state, ("elsewhere", "tutor"))
    assert made is not None and made.change_id == two.change_id
    assert ledger.artifact(made.entry, "delta.adapter_model")
    assert ledger.change(two.change_id).status == "active"
    assert ledger.change(one.change_id).status == "rolled_back"


def test_a_state_is_first_that_of_ones_own_place(pair: Pair) -> None:
    api, one, two = pair
    for change, place in ((one, ("acme", "tutor")), (two, ("elsewhere", "tutor"))):
        found = api.world.ledger.change_of_state(change.body.update.state, place)
        assert found is not None and found.change_id == change.change_id


def test_nobody_is_shown_another_tenants_change_for_having_made_the_same_state(pair: Pair) -> None:
    api, one, two = pair
    ledger, zoe = api.world.ledger, api.client("zoe")
    (answer,) = zoe.get("/v1/responses").json()["responses"]
    shown = zoe.get(f"/v1/responses/{answer['response_id']}")
    assert [delta["change_id"] for delta in shown.json()["deltas"]] == [two.change_id]
    of_one = next(r for r in ledger.responses() if r.change_id == one.change_id)
    assert one.change_id not in shown.text
    reached = reached_from(ledger, [two.change_id])
    assert {r.change_id for r in reached.responses} == {two.change_id}
    done = rollback(ledger, two.change_id, OPERATOR, "harmful")
    assert of_one.response_id not in {r.response_id for r in done.responses}
    assert ledger.change(one.change_id).status == "active"


def test_an_answer_is_traced_from_event_to_event(pair: Pair) -> None:
    api, one, _ = pair
    world = api.world
    world.tenant = "acme"
    after = world.record("after", scope="instance")
    (response,) = world.ledger.responses(change_id=after.change_id)
    line = trace_document(world.ledger, response)["deltas"]
    assert [delta["change_id"] for delta in line] == [one.change_id, after.change_id]
