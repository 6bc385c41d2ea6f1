"""What happens to a pointer after its change took effect, from the command line and with the model that ships: tested,
moved to another model, blamed, frozen; and what waits for it made again. Denial first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mass_gov.cli.main import run
from mass_gov.config import load_settings
from mass_gov.mass.model_folder import base_digest
from mass_gov.mass.reference_model import reference_folder, trained_folder
from mass_gov.wiring import read_ledger
from tests.e2e.conftest import Command, fingerprint_of
from tests.e2e.test_cli_json import fields
from tests.fakes.policies import lean_policy

RULE = "3>12 5>16 0>6 7>?"
"""A task whose practice costs cases of other domains: what blame is for."""
WHY = ("--reason", "looked at it")


@dataclass(frozen=True)
class Stood:
    """A home whose pointer stands on `active`; `stale` waited for a decision meanwhile."""

    home: Path
    active: str
    stale: str


@pytest.fixture(scope="module")
def stood_once(tmp_path_factory: pytest.TempPathFactory) -> Stood:
    home = tmp_path_factory.mktemp("stood") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASS_GOV_HOME", str(home))
        assert run(["init", "--policy", lean_policy(home.parent)]) == 0
        assert run(["solve", "max 3 9 4 1", "--seed", "1", "--scope", "deployment"]) == 0
        assert run(["solve", RULE, "--seed", "1"]) == 0
        with read_ledger(load_settings()) as ledger:
            active, stale = ledger.changes()
        if active.status == "held":
            assert run(["changes", "approve", active.change_id, *WHY]) == 0
        assert run(["changes", "promote", active.change_id, *WHY]) == 0
    assert stale.status == "held"
    return Stood(home, active.change_id, stale.change_id)


@pytest.fixture
def stood(stood_once: Stood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stood:
    """A copy of it for this test alone, in force as MASS_GOV_HOME."""
    home = Path(shutil.copytree(stood_once.home, tmp_path / "stood"))
    monkeypatch.setenv("MASS_GOV_HOME", str(home))
    return Stood(home, stood_once.active, stood_once.stale)


def pointer(cli: Command) -> Any:
    return cli("pointers", "show", "--json").json


def test_a_stale_change_is_not_approved_and_made_again_it_stands_on_the_pointer(cli: Command, stood: Stood) -> None:
    refused = cli("changes", "approve", stood.stale, *WHY, "--json")
    assert refused.status == 5 and refused.json["error"]["type"] == "StaleChangeError"
    again = cli("changes", "rebase", stood.stale, *WHY, "--json")
    assert again.status == 0 and set(again.json) == fields("changes rebase")
    assert (again.json["rebased_from"], again.json["status"]) == (stood.stale, "held")
    shown = cli("changes", "show", again.json["change_id"], "--json").json["record"]
    assert shown["parents"]["parent_state"] == pointer(cli)["state_digest"]
    assert cli("changes", "show", stood.stale, "--json").json["status"] == "rejected"
    approved = cli("changes", "approve", again.json["change_id"], *WHY, "--json").json
    assert pointer(cli)["state_digest"] == approved["state_digest"] == again.json["state_digest"]
    assert cli("changes", "rebase", again.json["change_id"], *WHY).status == 5, "it waits for nothing any more"
    assert cli("verify").status == 0


def test_a_pointer_is_tested_where_it_stands_and_the_run_is_in_the_log(cli: Command, stood: Stood) -> None:
    tested = cli("pointers", "test", "--json")
    assert tested.status == 0 and set(tested.json) == fields("pointers test")
    assert (tested.json["tested"], tested.json["passed"], tested.json["undone"]) == (stood.active, True, None)
    assert {gate["name"] for gate in tested.json["gates"]} >= {"regression.previous", "regression.base"}
    assert all(gate["verdict"] != "fail" for gate in tested.json["gates"])
    assert pointer(cli)["change_id"] == stood.active
    assert cli("pointers", "rollback", "--to", "base", *WHY).status == 0
    assert cli("pointers", "test", "--json").json["tested"] is None, "the base has nothing to be tested for"
    assert cli("verify", "--json").json["ok"] is True


def test_blame_names_the_change_that_broke_a_case(cli: Command, stood: Stood) -> None:
    flipped = cli("changes", "diff", stood.active, "--json").json["flipped"]
    case = next(one for one in flipped if one["before"] and not one["after"])
    before = fingerprint_of(stood.home)
    gold = case["before_answer"]
    found = cli("blame", "--question", case["question"], "--answer", gold, "--json")
    assert found.status == 0 and set(found.json) == fields("blame")
    assert (found.json["verdict"], found.json["change_id"]) == ("broken", stood.active)
    assert [one["right"] for one in found.json["looked"]] == [True, False]
    never = cli("blame", "--question", case["question"], "--answer", f"{gold}1", "--json")
    assert never.status == 1 and never.json["change_id"] is None
    assert fingerprint_of(stood.home) == before, "looking writes nothing"


def test_while_frozen_answers_come_un_adapted_and_say_why(cli: Command, stood: Stood) -> None:
    assert cli("freeze").status == 2, "a reason is asked for"
    frozen = cli("freeze", *WHY, "--json")
    assert frozen.status == 0 and set(frozen.json) == fields("freeze")
    assert cli("freeze", *WHY, "--json").json["already"] is True
    index = frozen.json["freeze"]["index"]
    answered = cli("solve", "max 5 2 8", "--gold", "8", "--json").json
    assert (answered["change_id"], answered["served"], answered["outcome"]) == (None, "unadapted", "right")
    assert answered["state_digest"] == pointer(cli)["state_digest"], "what was learned before is served as before"
    assert answered["frozen"]["index"] == index
    assert f"frozen for local/default since event {index}" in answered["note"]
    panel = cli("solve", "max 5 2 8")
    assert panel.status == 0 and "frozen" in panel.out and "unfreeze" in panel.out
    refused = cli("changes", "rebase", stood.stale, *WHY, "--json")
    assert refused.status == 5 and refused.json["error"]["type"] == "FrozenError"
    ended = cli("unfreeze", *WHY, "--json")
    assert ended.status == 0 and set(ended.json) == fields("unfreeze")
    assert (ended.json["frozen"], ended.json["freeze"]["index"]) == (False, index)
    assert cli("unfreeze", *WHY, "--json").json["already"] is True
    assert pointer(cli)["freeze"] is None
    assert cli("verify").status == 0


def test_a_pointer_moves_to_another_model_only_where_that_is_as_good(
    cli: Command, stood: Stood, tiny_model: Callable[[str], Path]
) -> None:
    before = fingerprint_of(stood.home)
    worse = cli("pointers", "rebase", "--model", tiny_model("llama"), *WHY, "--json")
    assert worse.status == 5 and "regression" in worse.json["error"]["message"]
    assert fingerprint_of(stood.home) == before
    assert cli("changes", "rollback", stood.active, *WHY).status == 0  # what it cost, a new model must not have to meet
    moved = cli("pointers", "rebase", "--model", reference_folder(), *WHY, "--json")
    assert moved.status == 0, moved.err
    assert set(moved.json) == fields("pointers rebase")
    assert moved.json["from_model"] == base_digest(trained_folder())
    assert moved.json["to_model"] == base_digest(reference_folder()) == pointer(cli)["base_model"]
    old = cli("solve", "max 1 2", "--adaptation", "none", "--json")
    assert old.status == 5 and "not made from this base model" in old.json["error"]["message"]
    assert cli("solve", "max 1 2", "--adaptation", "none", "--model", reference_folder()).status == 0
    assert cli("verify").status == 0
