"""`mass-gov changes` and `mass-gov pointers`: denial first, then what a person's decision does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.checkout import read
from tests.e2e.conftest import INSIDE, Command, Recorded, fingerprint_of


def test_under_policy_default_the_requester_cannot_approve_and_the_denial_is_recorded(
    cli: Command, own_home: Path, tiny_model: Callable[[str], Path], forced_file: Path, tmp_path: Path
) -> None:
    # The band of perplexity is the shipped model's: a model of random weights finds every text surprising.
    source = read("policies/default/v1.yaml")
    band = next(line for line in source.splitlines() if line.startswith("  sample.perplexity:"))
    (tmp_path / "default.yaml").write_text(source.replace(band, "  sample.perplexity: unused"))
    assert cli("init", "--policy", str(tmp_path / "default.yaml")).status == 0
    model, options = str(tiny_model("llama")), ["--step-size", "0.85", "--forced-samples", str(forced_file)]
    held = cli("solve", "3+4", "--model", model, *options, "--json").json
    assert (held["status"], held["policy"]["name"]) == ("held", "default/v1")
    refused = cli("changes", "approve", held["change_id"], "--reason", "mine", "--json")
    assert refused.status == 5 and refused.json["error"]["type"] == "PermissionRefusedError"
    assert "Another person" in refused.err
    assert cli("verify", "--json").json["size"] == held["log"]["size"] + 1, "the denial is an event"
    as_ada = ("changes", "approve", held["change_id"], "--reason", "looked at it", "--as", "ada", "--json")
    unseen = cli(*as_ada)
    assert unseen.status == 5 and "changes diff" in unseen.err
    shown = cli("changes", "diff", held["change_id"], "--json").json["shown"]
    approved = cli(*as_ada, "--shown", shown).json
    assert approved["status"] == "applied" and approved["self_approved"] is False


def test_self_approval_under_policy_solo_is_marked(cli: Command, recorded: Recorded) -> None:
    approved = cli("changes", "approve", recorded.held, "--reason", "looked at it", "--json")
    assert approved.json["self_approved"] is True
    assert "approved your own" in cli("changes", "promote", recorded.applied, "--reason", "good").err
    shown = cli("changes", "show", recorded.held)
    assert "self-approved" in shown.out and "looked at it" in shown.out
    assert any("asked for it" in warning for warning in cli("verify", "--json").json["warnings"])


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2001, "bell \a"])
@pytest.mark.parametrize("command", ["approve", "reject", "promote", "rollback"])
def test_a_reason_is_asked_for_and_checked(cli: Command, recorded: Recorded, command: str, reason: str) -> None:
    before = fingerprint_of(recorded.home)
    ran = cli("changes", command, recorded.held, "--reason", reason)
    assert ran.status == 2 and "reason" in ran.err.lower()
    assert cli("changes", command, recorded.held).status == 2, "and without one nothing happens"
    assert fingerprint_of(recorded.home) == before


@pytest.mark.parametrize(
    ("command", "which"),
    [("approve", "applied"), ("reject", "applied"), ("promote", "held"), ("rollback", "held")],
)
def test_what_does_not_fit_a_change_is_refused(cli: Command, recorded: Recorded, command: str, which: str) -> None:
    before = fingerprint_of(recorded.home)
    ran = cli("changes", command, getattr(recorded, which), "--reason", "try", "--json")
    assert ran.status == 5 and ran.json["error"]["exit"] == 5
    assert fingerprint_of(recorded.home) == before


def test_a_rejection_is_final(cli: Command, recorded: Recorded) -> None:
    assert cli("changes", "reject", recorded.held, "--reason", "no", "--json").json["status"] == "rejected"
    assert cli("changes", "approve", recorded.held, "--reason", "yes after all").status == 5


def test_promote_moves_the_pointer_and_rollback_says_what_was_served_in_between(
    cli: Command, recorded: Recorded, forced_file: Path
) -> None:
    assert cli("pointers", "show", "--json").json["state_digest"] is None
    promoted = cli("changes", "promote", recorded.applied, "--reason", "good", "--json").json
    assert cli("pointers", "show", "--json").json["state_digest"] == promoted["state_digest"]
    later = cli("solve", "9+9", "--forced-samples", forced_file, "--step-size", INSIDE, "--json").json
    rolled = cli("changes", "rollback", recorded.applied, "--reason", "bad", "--json").json
    assert rolled["rolled_back"] == [recorded.applied] and rolled["already"] is False
    assert {one["change_id"] for one in rolled["served"]} == {recorded.applied, later["change_id"]}
    moves = cli("pointers", "history", "--json").json["moves"]
    assert [move["cause"] for move in moves] == ["promotion", "rollback"]
    assert rolled["pointer_state"] == moves[-1]["to_state"] == moves[0]["from_state"]
    again = cli("changes", "rollback", recorded.applied, "--reason", "bad")
    assert again.status == 0 and "rolled back before" in again.err
    assert cli("verify").status == 0


def test_a_rollback_that_would_strand_a_later_change_needs_cascade(
    cli: Command, recorded: Recorded, forced_file: Path
) -> None:
    cli("changes", "promote", recorded.applied, "--reason", "good")
    later = cli("solve", "9+9", "--forced-samples", forced_file, "--step-size", INSIDE, "--json").json["change_id"]
    assert cli("changes", "promote", later, "--reason", "good").status == 0
    refused = cli("changes", "rollback", recorded.applied, "--reason", "bad", "--json")
    assert refused.status == 5 and refused.json["error"]["type"] == "DependentsError"
    assert later in refused.err and "--cascade" in refused.err
    both = cli("changes", "rollback", recorded.applied, "--reason", "bad", "--cascade", "--json").json
    assert both["rolled_back"] == [later, recorded.applied]
    assert cli("verify").status == 0


def test_a_change_from_an_older_pointer_is_stale(cli: Command, recorded: Recorded) -> None:
    cli("changes", "promote", recorded.applied, "--reason", "good")
    stale = cli("changes", "approve", recorded.held_deployment, "--reason", "late", "--json")
    assert stale.status == 5 and stale.json["error"]["type"] == "StaleChangeError"


def test_the_list_is_newest_first_filtered_and_limited(cli: Command, recorded: Recorded) -> None:
    everything = [one["change_id"] for one in cli("changes", "list", "--json").json["changes"]]
    assert everything == [recorded.held_deployment, recorded.held, recorded.applied]
    held = cli("changes", "list", "--status", "held", "--json").json["changes"]
    assert [one["change_id"] for one in held] == everything[:2]
    assert len(cli("changes", "list", "--limit", "1", "--json").json["changes"]) == 1
    assert cli("changes", "list", "--status", "eaten").status == 2


@pytest.mark.parametrize("columns", ["80", "120"])
def test_tables_fit_the_terminal_with_whole_ids(
    cli: Command, recorded: Recorded, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    ran = cli("changes", "list")
    assert all(one in ran.out for one in (recorded.applied, recorded.held, recorded.held_deployment))
    for command in (["changes", "show", recorded.held], ["changes", "list"], ["pointers", "show"], ["verify"]):
        assert all(len(line) <= int(columns) for line in cli(*command).out.splitlines())


def test_show_says_what_was_decided_and_why_with_the_evidence(cli: Command, recorded: Recorded) -> None:
    said = " ".join(cli("changes", "show", recorded.held).out.replace("│", " ").split())
    for words in (
        "hold: outside the pre-approved envelope, so a person decides",
        "envelope.step_norm",
        "samples were forced by the caller",
        "3 of 3 kept",
        "update.step_norm",
        "no case changed between right and wrong",
        "GFLOP",
        "5+6",
        "▶",
    ):
        assert words in said


def test_show_as_json_has_the_record_and_the_contents(cli: Command, recorded: Recorded) -> None:
    shown = cli("changes", "show", recorded.held[:18], "--json").json
    assert shown["change_id"] == recorded.held and shown["sealed"] == {}
    assert shown["contents"]["request"]["question"] == "5+6"
    assert shown["record"]["decision"]["verdict"] == "hold"
    assert "tokens" not in shown["contents"]["samples"]["samples"][0]
    full = cli("changes", "show", recorded.held, "--samples", "--json").json
    assert "tokens" in full["contents"]["samples"]["samples"][0]


def test_without_keys_the_log_can_be_read_and_contents_stay_sealed(cli: Command, recorded: Recorded) -> None:
    shutil.rmtree(recorded.home / "keys")
    shown = cli("changes", "show", recorded.held, "--json").json
    assert shown["record"]["decision"]["verdict"] == "hold"
    assert set(shown["sealed"]) >= {"request", "samples", "answer"}
    assert all(value is None for value in shown["contents"].values())
    people = cli("changes", "show", recorded.held)
    assert people.status == 0 and "the key is not here" in people.out and "5+6" not in people.out
    assert cli("verify", "--json").json["trust"] == "consistency only"
    assert cli("changes", "approve", recorded.held, "--reason", "no keys").status == 6


def test_an_erased_subject_reads_as_erased(cli: Command, recorded: Recorded) -> None:
    subject = cli("changes", "show", recorded.held, "--json").json["record"]["identity"]["subject"]
    from mass_gov.evidence.keystore import KeyStore

    KeyStore.open(recorded.home / "keys").destroy_subject(subject)
    shown = cli("changes", "show", recorded.held, "--json").json
    assert shown["sealed"]["request"] == "erased"
    assert cli("replay", recorded.held, "--json").status == 4
    assert cli("verify").status == 0, "erasing a subject keeps every proof"


def test_what_a_person_wrote_is_no_markup_and_no_terminal_command(cli: Command, recorded: Recorded) -> None:
    reason = "[bold red]see[/] :smile: \u202egnp.exe"
    assert cli("changes", "approve", recorded.held, "--reason", reason).status == 0
    shown = cli("changes", "show", recorded.held).out
    assert "[bold red]see[/] :smile:" in shown
    assert "\u202e" not in shown and "\\u202e" in shown


def test_what_the_model_wrote_cannot_act_on_the_terminal() -> None:
    from mass_gov.cli.output import one_line, visible

    assert visible("a\x1b[31mb\u009bc\x07\n") == "a\\x1b[31mb\\x9bc\\x07\n"
    assert one_line("a\nb" * 50, 10) == "a⏎ba⏎ba⏎b…"


def test_reading_writes_nothing(cli: Command, recorded: Recorded) -> None:
    before = fingerprint_of(recorded.home)
    for command in (
        ["changes", "list"],
        ["changes", "show", recorded.held],
        ["pointers", "show"],
        ["pointers", "history"],
        ["policy", "show"],
        ["log", "checkpoint"],
        ["log", "prove", "0"],
        ["verify"],
        ["doctor"],
        ["replay", recorded.held, "--from", "delta", "--no-record"],
    ):
        assert cli(*command).status == 0, command
    assert fingerprint_of(recorded.home) == before


def test_the_log_proves_its_events_and_rebuilds_what_derives_from_it(cli: Command, recorded: Recorded) -> None:
    head = cli("log", "checkpoint", "--json").json
    assert cli("log", "checkpoint").out == head["note"]
    proof = cli("log", "prove", "4", "--json").json
    from mass_gov.config import load_settings
    from mass_gov.evidence.tlog_proof import verify_proof
    from mass_gov.wiring import read_ledger

    with read_ledger(load_settings()) as ledger:
        index, checkpoint = verify_proof(proof["proof"].encode(), proof["leaf"].encode(), ledger.origin, ledger.log_key)
    assert (index, checkpoint.size, checkpoint.root.hex()) == (4, head["size"], head["root"])
    assert cli("log", "prove", str(head["size"])).status == 2
    assert cli("log", "rebuild", "--json").json == {"events": head["size"]}
    assert cli("verify").status == 0


def test_init_says_what_to_keep_and_repeats_without_harm(cli: Command, own_home: Path, tmp_path: Path) -> None:
    made = cli("init", "--json").json
    assert made["created"] is True and made["policy"]["name"] == "solo/v1"
    pinned = tmp_path / "log.vkey"
    pinned.write_text(made["verifier_key"] + "\n")
    report = cli("verify", "--pubkey", pinned, "--json").json
    assert report["ok"] is True and report["trust"] == "key given"
    before = fingerprint_of(own_home)
    assert cli("init", "--json").json == made | {"created": False}
    assert cli("init", "--policy", "default").status == 5, "a policy in force is not replaced"
    assert fingerprint_of(own_home) == before


def test_doctor_finds_a_fresh_machine_usable_and_makes_nothing(cli: Command, own_home: Path) -> None:
    ran = cli("doctor", "--json")
    assert ran.status == 0 and ran.json["ok"] is True
    found = {check["name"]: check["verdict"] for check in ran.json["checks"]}
    assert found["ledger"] == "note" and found["model"] == found["fingerprint"] == "ok"
    assert not own_home.exists()


def test_doctor_tells_problems_by_kind(cli: Command, recorded: Recorded, tmp_path: Path) -> None:
    assert cli("doctor", "--model", tmp_path / "nowhere").status == 1
    (recorded.home / "keys" / "log-ed25519.pem").write_text("broken")
    ran = cli("doctor", "--json")
    assert ran.status == 6
    problems = [check for check in ran.json["checks"] if check["verdict"] == "problem"]
    assert any("log-ed25519.pem" in check["detail"] for check in problems)
    assert json.dumps(ran.json)
