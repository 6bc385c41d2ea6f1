"""`mass-gov policy` as people run it: test, diff, activate by two, backtest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mass_gov.config_data import data_folder
from tests.e2e.conftest import Command, Recorded
from tests.fakes.policies import lean_policy, lean_source

POLICIES = data_folder("policies")


@pytest.fixture
def home(tmp_path: Path, cli: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new ledger under policy default."""
    monkeypatch.setenv("MASS_GOV_HOME", str(tmp_path / "home"))
    assert cli("init", "--policy", "default").status == 0
    return tmp_path


def edited(folder: Path, *edits: tuple[str, str]) -> Path:
    """A copy of the default policy with its examples, edited."""
    shutil.copytree(POLICIES / "default", folder / "default", dirs_exist_ok=True)
    file = folder / "default" / "v2.yaml"
    source = (POLICIES / "default" / "v1.yaml").read_text().replace("version: 1", "version: 2")
    for old, new in edits:
        assert old in source
        source = source.replace(old, new, 1)
    file.write_text(source)
    return file


def test_a_policy_that_decides_an_example_otherwise_fails_its_test(tmp_path: Path, cli: Command) -> None:
    assert cli("policy", "test").status == 0
    assert cli("policy", "test", "strict").status == 0
    lax = edited(tmp_path, ("  step_norm: 0.628", "  step_norm: 0.90"))
    ran = cli("policy", "test", lax, "--json")
    assert (ran.status, ran.json["ok"]) == (1, False)
    (wrong,) = [example for example in ran.json["examples"] if not example["ok"]]
    assert (wrong["example"], wrong["expected"], wrong["decided"]) == ("hold/large-step.yaml", "hold", "apply")
    assert cli("policy", "test", lax).status == 1


def test_a_policy_without_examples_is_not_called_tested(tmp_path: Path, cli: Command) -> None:
    file = tmp_path / "bare.yaml"
    shutil.copy(POLICIES / "default" / "v1.yaml", file)
    assert cli("policy", "test", file).status == 2


def test_a_rule_that_does_not_type_check_is_refused_with_file_and_line(tmp_path: Path, cli: Command) -> None:
    rule = "rules:\n  - {name: mine, require: step_norm < 1, on_fail: hold, why: x}"
    file = edited(tmp_path, ("rules: []", rule))
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "name: mine" in text)
    ran = cli("policy", "check", file)
    assert ran.status == 2
    assert f"v2.yaml, line {line}:" in ran.err.replace("\n", " ")
    assert "do not mix" in ran.err


def test_two_people_widen_and_one_narrows(home: Path, cli: Command) -> None:
    wider = edited(home, ("  step_norm: 0.628", "  step_norm: 0.80"))
    shown = cli("policy", "diff", wider, "--json").json
    assert shown["widens"] == ["envelope.step_norm"]
    first = cli("policy", "activate", wider, "--as", "alice", "--json")
    assert (first.status, first.json["activated"]) == (0, False)
    assert cli("policy", "activate", wider, "--as", "alice").status == 5
    assert cli("policy", "show", "--json").json["policy"] == "default/v1"
    second = cli("policy", "activate", wider, "--as", "bob", "--json").json
    assert (second["activated"], second["approvers"], second["alone"]) == (True, ["alice", "bob"], False)
    assert cli("policy", "show", "--json").json["policy"] == "default/v2"
    back = cli("policy", "activate", "default", "--as", "alice", "--json").json
    assert (back["activated"], back["widens"], back["alone"]) == (True, [], True)
    assert cli("verify").status == 0


def test_a_difference_is_shown_in_its_direction(cli: Command) -> None:
    found = cli("policy", "diff", "default", "solo", "--json").json
    assert found["widens"] == ["approvals.self_approval"]
    assert {one["setting"]: one["direction"] for one in found["differences"]} == {
        "name": "neither",
        "description": "neither",
        "envelope.id": "neither",
        "approvals.self_approval": "wider",
    }
    assert "approvals.self_approval" in cli("policy", "diff", "default", "solo").out
    assert "say the same" in cli("policy", "diff", "solo", "solo").out


def test_a_backtest_says_which_decisions_flip(recorded: Recorded, tmp_path: Path, cli: Command) -> None:
    same = cli("policy", "backtest", lean_policy(tmp_path), "--json").json
    assert (same["changes"], same["flips"], same["unknown"]) == (3, 0, 0)
    closed = tmp_path / "closed.yaml"
    closed.write_bytes(lean_source(scopes=()))
    ran = cli("policy", "backtest", closed, "--json")
    assert ran.status == 0
    (flip,) = [one for one in ran.json["outcomes"] if one["recorded"] != one["candidate"]]
    assert (flip["recorded"], flip["candidate"], flip["change_ids"]) == ("apply", "hold", [recorded.applied])
    assert flip["reasons"] == {"envelope.scopes": 1}
    assert recorded.applied in cli("policy", "backtest", closed).out
    assert cli("policy", "backtest", closed, "--since", "2999-01-01", "--json").json["changes"] == 0
    assert cli("policy", "backtest", closed, "--since", "soon").status == 2
    unknown = tmp_path / "unknown.yaml"
    unknown.write_bytes(lean_source({"update.anchor_kl": {"limit": 0.5, "on_fail": "hold"}}))
    assert cli("policy", "backtest", unknown, "--json").json["missing"] == {"update.anchor_kl": 3}
    shipped = cli("policy", "backtest", "solo", "--json").json
    assert (shipped["flips"], shipped["unknown"]) == (0, 3)  # of these changes nobody measured what it asks for
