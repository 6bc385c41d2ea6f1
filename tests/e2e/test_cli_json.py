"""The JSON of every command has exactly the fields that docs/reference/cli.md lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_cli_contract import commands, sections
from tests.e2e.conftest import INSIDE, Command, Recorded

CALLS: dict[str, list[str]] = {
    "solve": ["3+4", "--id", "again", "--forced-samples", "FORCED", "--step-size", INSIDE],
    "init": [],
    "doctor": [],
    "replay": ["HELD", "--no-record"],
    "verify": [],
    "changes list": [],
    "changes show": ["HELD"],
    "changes approve": ["HELD", "--reason", "yes"],
    "changes promote": ["APPLIED", "--reason", "yes"],
    "changes reject": ["HELD", "--reason", "no"],
    "changes rollback": ["APPLIED", "--reason", "no"],
    "pointers show": [],
    "pointers history": [],
    "log checkpoint": [],
    "log prove": ["0"],
    "log rebuild": [],
    "policy check": ["solo"],
    "policy show": [],
    "tasks sample": [],
    "tasks domains": [],
}


def fields(name: str) -> set[str]:
    """Fields that the page lists for a command."""
    table = sections()[f"mass-gov {name}"].partition("| field |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE))


def test_every_command_but_training_is_called_here() -> None:
    assert {f"mass-gov {name}" for name in CALLS} | {"mass-gov train base"} == commands().keys()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_json_has_the_documented_fields(cli: Command, recorded: Recorded, forced_file: Path, name: str) -> None:
    places = {"HELD": recorded.held, "APPLIED": recorded.applied, "FORCED": str(forced_file)}
    ran = cli(*name.split(), *(places.get(word, word) for word in CALLS[name]), "--json")
    assert ran.status == 0, ran.err
    assert set(ran.json) == fields(name)


def test_an_answer_without_an_update_is_recorded_and_replays(cli: Command, recorded: Recorded) -> None:
    ran = cli("solve", "3+4", "--adaptation", "none", "--json")
    assert ran.status == 0 and ran.json["change_id"] is None and ran.json["served"] == "unadapted"
    assert set(ran.json) - {"response_id"} <= fields("solve")
    replayed = cli("replay", ran.json["response_id"], "--json")
    assert replayed.status == 0 and replayed.json["verdict"] == "equal" and replayed.json["change_id"] is None
    assert cli("replay", ran.json["response_id"]).status == 0
    assert cli("verify").status == 0


def test_training_reports_what_it_made(cli: Command, tmp_path: Path) -> None:
    sizes = ["--steps", "10", "--card-tasks", "2", "--probe-tasks", "1", "--threads", "1"]
    ran = cli("train", "base", "--out", tmp_path / "run", *sizes, "--json")
    assert ran.status == 0 and set(ran.json) == fields("train base")
    weights = Path(ran.json["weights"])
    assert (weights / "model.safetensors").is_file() and (weights / "MODEL_CARD.md").is_file()
    assert cli("train", "base", "--out", tmp_path / "run", *sizes).status == 2, "not over a run that is there"
    assert cli("train", "base", "--out", tmp_path / "none", "--resume", *sizes).status == 2
    again: Any = cli("train", "base", "--out", tmp_path / "run", *sizes, "--resume", "--json").json
    assert again["data_digest"] == ran.json["data_digest"]
    solved = cli("solve", "max 1 2", "--model", weights, "--json")
    assert solved.status == 0 and json.dumps(solved.json)
