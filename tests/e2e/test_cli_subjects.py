"""`mass-gov subjects` and a restored home, as a person uses them: denial first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Command, Recorded
from tests.fakes.ledger_world import BOTH_SCOPES, LedgerWorld


@pytest.fixture
def recorded(tmp_path: Path, own_home: Path) -> Recorded:
    """A home with changes in it that no model had to make: nothing here needs one."""
    world = LedgerWorld.make(tmp_path / "world", BOTH_SCOPES)
    applied = world.record("applied", subject="s-" + "a" * 32)
    held, later = world.record("held", step_norm=0.7), world.record("later", step_norm=0.7, scope="deployment")
    world.close()
    (tmp_path / "world").rename(own_home)
    (own_home / "ledger.db").rename(own_home / "ledger.sqlite3")
    return Recorded(own_home, applied.change_id, held.change_id, later.change_id)


def test_a_person_is_held_then_erased_and_everything_still_proves(cli: Command, recorded: Recorded) -> None:
    handle = cli("subjects", "show", recorded.applied, "--json").json["subject"]
    assert handle in cli("changes", "show", recorded.applied).out
    erase = ("subjects", "erase", handle, "--reason", "asked")
    assert cli("subjects", "hold", recorded.applied, "--reason", "a court", "--json").json["standing"] == "held"
    refused = cli(*erase, "--yes", "--json")
    assert refused.status == 5 and "(a court)" in refused.err
    assert cli("subjects", "release", handle, "--reason", "over").status == 0
    assert cli(*erase, "--json").status == 2, "it asks, and nobody is there to answer"
    looked = cli(*erase, "--dry-run", "--json").json
    assert looked["dry_run"] is True and looked["lineage"][0]["to_do"] == "withdraw"
    assert cli("changes", "show", recorded.applied, "--json").json["status"] == "applied", "nothing was done"
    done = cli(*erase, "--yes", "--json").json
    assert done["rolled_back"] == [recorded.applied] and done["already"] is False
    shown = cli("changes", "show", recorded.applied, "--json").json
    assert shown["status"] == "rolled_back" and set(shown["sealed"].values()) == {"erased"}
    found = cli("verify", "--json")
    assert found.status == 0 and any(
        f"erased by event {done['erased_index']}" in one for one in found.json["not_checked"]
    )
    assert cli(*erase, "--yes", "--json").json["already"] is True
    assert cli("subjects", "list", "--standing", "erased", "--json").json["subjects"][0]["subject"] == handle


def test_a_back_up_that_is_behind_takes_the_missing_events_back(cli: Command, recorded: Recorded) -> None:
    copy, database = recorded.home.parent / "copy.sqlite3", recorded.home / "ledger.sqlite3"
    assert cli("log", "backup", "-o", copy).status == 0
    assert cli("changes", "reject", recorded.held, "--reason", "no").status == 0
    export = recorded.home.parent / "log.ndjson"
    assert cli("log", "export", "--artifacts", "-o", export).status == 0
    for end in ("-wal", "-shm"):
        database.with_name(database.name + end).unlink(missing_ok=True)
    shutil.copy(copy, database)
    behind = cli("changes", "reject", recorded.held_deployment, "--reason", "no")
    assert behind.status == 1 and "older than the checkpoint" in behind.err
    done = cli("log", "import", export, "--json").json
    assert done["after"] == done["before"] + 1
    assert cli("changes", "show", recorded.held, "--json").json["status"] == "rejected"
    assert cli("verify").status == 0
    assert cli("log", "succeed").status == 2, "it is not done by mistake"
