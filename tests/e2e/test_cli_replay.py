"""`mass-gov replay` in a fresh process: equal to the bit, or which stage differs."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Command, Recorded
from tests.fakes.told import Told

STAGES = ["samples", "gates", "delta", "regression", "decision", "answer"]


def test_in_a_new_process_everything_is_equal_and_the_log_says_that_it_was_done(cli: Command, told: Told) -> None:
    size = cli("log", "checkpoint", "--json").json["size"]
    command = [sys.executable, "-m", "mass_gov.cli.main", "replay", "--all", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ})
    assert ran.returncode == 0, ran.stderr
    replays = json.loads(ran.stdout)["replays"]
    assert [one["target"] for one in replays] == [told.first, told.second, told.plain]
    assert all(one["verdict"] == "equal" for one in replays)
    assert cli("log", "checkpoint", "--json").json["size"] == size + 3
    assert cli("verify").status == 0


@pytest.mark.parametrize(
    ("start", "given"),
    [("scratch", {"samples"}), ("samples", {"samples"}), ("delta", {"samples", "gates", "delta", "regression"})],
)
def test_what_was_taken_from_the_record_is_given_and_not_equal(
    cli: Command, recorded: Recorded, start: str, given: set[str]
) -> None:
    ran = cli("replay", recorded.held, "--from", start, "--no-record", "--json")
    assert ran.status == 0 and ran.json["verdict"] == "equal"
    assert [stage["stage"] for stage in ran.json["stages"]] == STAGES
    verdicts = {stage["stage"]: stage["verdict"] for stage in ran.json["stages"]}
    assert {stage for stage, verdict in verdicts.items() if verdict == "given"} == given
    assert all(verdict == "equal" for stage, verdict in verdicts.items() if stage not in given)


def test_a_response_replays_as_the_change_behind_it(cli: Command, recorded: Recorded) -> None:
    response = cli("changes", "show", recorded.applied, "--json").json["responses"][0]["response_id"]
    ran = cli("replay", response, "--json")
    assert ran.status == 0
    assert (ran.json["target"], ran.json["change_id"]) == (response, recorded.applied)


def test_with_another_model_the_replay_differs_and_says_so(
    cli: Command, recorded: Recorded, tiny_model: Callable[[str], Path]
) -> None:
    ran = cli("replay", recorded.applied, "--model", tiny_model("qwen2"), "--json")
    assert ran.status == 1
    assert (ran.json["verdict"], ran.json["first_difference"]) == ("differs", "samples")
    assert "base model" in ran.json["detail"] and "--model" in ran.json["detail"]
    assert cli("verify").status == 0


def test_an_artifact_that_was_altered_differs_in_its_stage(cli: Command, recorded: Recorded) -> None:
    _alter_artifact(recorded, "samples")
    ran = cli("replay", recorded.held, "--no-record", "--json")
    assert ran.status == 1 and ran.json["first_difference"] == "samples"
    shown = cli("changes", "show", recorded.held)
    assert shown.status == 1 and "not what was recorded" in shown.err
    verified = cli("verify", "--json")
    assert verified.status == 1 and verified.json["ok"] is False


def test_a_replay_that_cannot_be_recorded_still_reports(
    cli: Command, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mass_gov.errors import LedgerUnavailableError
    from mass_gov.ledger import Ledger

    def full(*_: object) -> None:
        raise LedgerUnavailableError("the disk is full.")

    monkeypatch.setattr(Ledger, "append", full)
    ran = cli("replay", recorded.held, "--json")
    assert ran.status == 0 and ran.json["verdict"] == "equal"
    assert "warning" in ran.err and "not in the log" in ran.err


def test_naming_none_or_both_is_refused(cli: Command, recorded: Recorded) -> None:
    assert cli("replay").status == 2
    assert cli("replay", recorded.held, "--all").status == 2


def test_people_get_a_table(cli: Command, recorded: Recorded) -> None:
    ran = cli("replay", recorded.held)
    assert ran.status == 0
    assert "every recomputed digest agrees" in ran.out
    assert all(stage in ran.out for stage in STAGES)


def _alter_artifact(recorded: Recorded, role: str) -> None:
    """Flip one byte of an artifact of the held change, past the guard that only stops the honest."""
    from mass_gov.config import load_settings
    from mass_gov.wiring import read_ledger

    with read_ledger(load_settings()) as ledger:
        refs = ledger.change(recorded.held).entry.predicate.artifacts
    digest = next(ref.digest for ref in refs if ref.role == role)
    with sqlite3.connect(recorded.home / "ledger.sqlite3") as connection:
        guards = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        kept = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
        for name in guards:
            connection.execute(f"DROP TRIGGER {name}")
        where = (bytes.fromhex(digest),)
        (stored,) = connection.execute("SELECT stored FROM artifacts WHERE digest = ?", where).fetchone()
        altered = bytes([stored[0] ^ 1]) + stored[1:]
        connection.execute("UPDATE artifacts SET stored = ? WHERE digest = ?", (altered, *where))
        for sql in kept:
            connection.execute(sql)
    connection.close()
