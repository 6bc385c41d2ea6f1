"""The JSON of every command has exactly the fields that docs/reference/cli.md (of `evaluate`, evaluation.md) lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mass_gov.config_data import data_folder
from tests.contract.checkout import read
from tests.contract.test_cli_contract import commands, sections
from tests.e2e.conftest import INSIDE, Command, Recorded
from tests.fakes.fluent_base import make_fluent

CALLS: dict[str, list[str]] = {
    "solve": ["3+4", "--id", "again", "--forced-samples", "FORCED", "--step-size", INSIDE],
    "init": [],
    "doctor": [],
    "replay": ["HELD", "--no-record"],
    "verify": [],
    "changes list": [],
    "changes show": ["HELD"],
    "changes diff": ["HELD"],
    "changes expire": [],
    "changes approve": ["HELD", "--reason", "yes"],
    "changes promote": ["APPLIED", "--reason", "yes"],
    "changes reject": ["HELD", "--reason", "no"],
    "changes rollback": ["APPLIED", "--reason", "no"],
    "pointers show": [],
    "pointers history": [],
    "pointers rollback": ["--to", "base", "--reason", "back"],
    "monitors show": [],
    "freeze": ["--reason", "stop"],
    "unfreeze": ["--reason", "go on"],
    "principals list": [],
    "principals register": ["carl", "--role", "admin"],
    "tokens list": [],
    "keys list": [],
    "subjects list": [],
    "log checkpoint": [],
    "log prove": ["0"],
    "log rebuild": [],
    "policy check": ["solo"],
    "policy show": [],
    "policy diff": ["default", "solo"],
    "policy test": ["solo"],
    "policy backtest": ["solo"],
    "policy calibrate": ["--read", str(data_folder("policies") / "calibration.json")],
    "tasks sample": [],
    "tasks domains": [],
    "incidents open": ["--title", "A wrong sum", "--severity", "serious"],
    "incidents list": [],
    "report": ["retention"],
}


ELSEWHERE = (
    # below
    "train base",
    "train meta",
    "evaluate",
    # done once only, or with files: test_cli_keys, test_cli_subjects, test_cli_witness, test_restore, test_bundle,
    # test_cli_principals, test_cli_pointers, test_cli_policies, test_cli_incidents, test_serving_http
    "serve",
    "incidents show",
    "incidents update",
    "incidents close",
    "blame",
    "changes rebase",
    "pointers rebase",
    "pointers test",
    "policy activate",
    "principals retire",
    "tokens issue",
    "tokens revoke",
    "notify",
    "keys export",
    "keys rotate",
    "keys revoke",
    "subjects show",
    "subjects hold",
    "subjects release",
    "subjects erase",
    "witness init",
    "witness follow",
    "witness cosign",
    "witness show",
    "log backup",
    "log cosign",
    "log discard",
    "log export",
    "log import",
    "log succeed",
    "changes export",
)


def fields(name: str) -> set[str]:
    """Fields that the page lists for a command without options; what comes with one says so first."""
    section = sections()[f"mass-gov {name}"]
    return first_table("\n".join(line for line in section.splitlines() if "` | with `--" not in line))


def first_table(text: str) -> set[str]:
    """Names in the first column of the first table of fields; a cell may hold several."""
    table = text.partition("| field |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}


def test_every_command_is_called_here() -> None:
    others = {f"mass-gov {name}" for name in ELSEWHERE}
    assert {f"mass-gov {name}" for name in CALLS} | others == commands().keys()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_json_has_the_documented_fields(cli: Command, recorded: Recorded, forced_file: Path, name: str) -> None:
    places = {"HELD": recorded.held, "APPLIED": recorded.applied, "FORCED": str(forced_file)}
    ran = cli(*name.split(), *(places.get(word, word) for word in CALLS[name]), "--json")
    assert ran.status == 0, ran.err
    assert set(ran.json) == fields(name)


def test_an_answer_without_an_update_is_recorded_and_replays(cli: Command, recorded: Recorded) -> None:
    ran = cli("solve", "3+4", "--adaptation", "none", "--json")
    assert ran.status == 0 and ran.json["change_id"] is None and ran.json["served"] == "unadapted"
    assert set(ran.json) - {"response_id", "frozen", "note"} <= fields("solve")
    assert ran.json["note"] is None, "nobody asked for learning"
    replayed = cli("replay", ran.json["response_id"], "--json")
    assert replayed.status == 0 and replayed.json["verdict"] == "equal" and replayed.json["change_id"] is None
    assert cli("replay", ran.json["response_id"]).status == 0
    assert cli("verify").status == 0


@pytest.mark.slow
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


def test_meta_training_reports_what_it_made(cli: Command, tmp_path: Path) -> None:
    base = make_fluent(tmp_path / "base")
    small = ["--steps", "1", "--tasks", "1", "--samples", "2", "--validation-tasks", "1", "--answer-tokens", "8"]
    settings = ["--set", "max_new_tokens=16", "--set", "solution_tokens=8", "--set", "warmup=1"]
    ran = cli("train", "meta", "--base", base, "--out", tmp_path / "run", *small, *settings, "--json")
    assert ran.status == 0 and set(ran.json) == fields("train meta"), ran.err
    assert (Path(ran.json["weights"]) / "core.json").is_file()


def test_an_evaluation_reports_what_it_found(cli: Command) -> None:
    page = read("docs/reference/evaluation.md").partition("## JSON")[2]
    top, of_a_method = first_table(page), first_table(page.partition("Each method:")[2])
    ran = cli("evaluate", "--methods", "base", "--n", "6", "--answer-tokens", "8", "--json")
    assert ran.status == 0 and set(ran.json) == top, ran.err
    assert set(ran.json["methods"]["base"]) == of_a_method - {"forgetting"}
    assert isinstance(ran.json["methods"]["base"]["flops_per_task"], float), "figures are numbers"
