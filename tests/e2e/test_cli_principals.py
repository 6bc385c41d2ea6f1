"""Who may act, by the commands themselves: the first admin, tokens, diffs, signed approvals, refusals. No learner."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path

import pytest

from mass_gov import wiring
from tests.e2e.conftest import Command, OneChange


@pytest.fixture
def held(one_change: OneChange) -> str:
    """A home with a held change of ada's under the default policy; nobody is registered."""
    return one_change(step_norm=0.7)


def test_from_the_first_admin_on_a_name_alone_is_worth_nothing(
    cli: Command, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("principals", "register", "bob", "--role", "operator").status == 5, "the first must be an admin"
    first = cli("principals", "register", "carl", "--role", "admin", "--json").json
    approve = ("changes", "approve", held, "--reason", "fine", "--as", "bob")
    nameless = cli(*approve)
    assert nameless.status == 5 and "MASS_GOV_TOKEN" in nameless.err
    monkeypatch.setenv("MASS_GOV_TOKEN", first["token"])
    borrowed = cli(*approve)
    assert borrowed.status == 5 and "not bob's" in borrowed.err
    assert cli("principals", "register", "ada", "--role", "requester").status == 0
    assert cli("principals", "register", "bob", "--role", "operator").status == 0
    assert cli("principals", "register", "bob", "--role", "king").status == 2
    listed = cli("principals", "list", "--json").json["principals"]
    assert [(one["principal"], one["roles"]) for one in listed] == [
        ("ada", ["requester"]),
        ("bob", ["operator"]),
        ("carl", ["admin"]),
    ]
    ada = cli("tokens", "issue", "ada", "--json").json
    monkeypatch.setenv("MASS_GOV_TOKEN", ada["token"])
    refused = cli("changes", "reject", held, "--reason", "no")
    assert refused.status == 5 and "operator or admin" in refused.err
    assert cli("tokens", "issue", "ada").status == 5
    monkeypatch.setenv("MASS_GOV_TOKEN", first["token"])
    assert cli("tokens", "revoke", first["token_id"]).status == 5, "the last admin's last token stays"
    assert cli("tokens", "revoke", ada["token_id"]).status == 0
    monkeypatch.setenv("MASS_GOV_TOKEN", ada["token"])
    assert "revoked" in cli("changes", "reject", held, "--reason", "no").err
    tokens = cli("tokens", "list").out
    assert ada["token"] not in tokens and first["token"] not in tokens
    # An auditor's reading takes no token, a bad one does not hinder it, and every refusal left its trace.
    report = cli("verify", "--json").json
    assert report["ok"], report["first_wrong"]


def test_what_was_shown_is_what_is_approved_and_signed(
    cli: Command, held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, public = tmp_path / "olga.pem", tmp_path / "olga.pub.pem"
    phrase = "pass:correct horse"
    command = ["openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", phrase, "-out", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    command = ["openssl", "pkey", "-in", str(key), "-passin", phrase, "-pubout", "-out", str(public)]
    subprocess.run(command, check=True, capture_output=True)
    carl = cli("principals", "register", "carl", "--role", "admin", "--json").json["token"]
    monkeypatch.setenv("MASS_GOV_TOKEN", carl)
    assert cli("principals", "register", "olga", "--role", "operator", "--public-key", str(public)).status == 0
    assert cli("principals", "register", "eve", "--role", "operator", "--public-key", str(public)).status == 5
    monkeypatch.setenv("MASS_GOV_TOKEN", cli("tokens", "issue", "olga", "--expires-in", "12", "--json").json["token"])

    screen = cli("changes", "diff", held).out
    document = cli("changes", "diff", held, "--json").json
    assert f"shown: {document['shown']}" in screen and "envelope.step_norm" in screen
    why = cli("changes", "show", held).out
    assert why.index("envelope.step_norm") < why.index("task and answers")
    assert "waits for 1 of 1 approval(s) by operator or admin, not ada" in why and "changes diff" in why

    approve = ("changes", "approve", held, "--reason", "seen", "--json", "--shown", document["shown"])
    assert "--sign-with" in cli(*approve).err
    missing = cli(*approve, "--sign-with", str(key.with_name("missing.pem")))
    assert missing.status == 2
    assert "missing.pem" in missing.err
    assert cli(*approve, "--sign-with", str(key)).status == 6, "without its passphrase the key does not open"
    monkeypatch.setenv("MASS_GOV_SIGNING_PASSPHRASE", "correct horse")
    done = cli(*approve, "--sign-with", str(key))
    assert done.status == 0 and done.json["status"] == "applied" and done.json["shown"] == document["shown"]
    assert cli("verify").status == 0
    assert cli("changes", "expire", "--json").json == {"expired": []}
    monkeypatch.setenv("MASS_GOV_TOKEN", carl)
    again = cli("principals", "register", "olga", "--role", "operator", "--role", "auditor")
    assert again.status == 0 and "has none any more" in again.err, "nobody loses a key unseen"
    assert cli("tokens", "revoke", "zz").err.count("mass-gov tokens list") == 1


def test_a_token_whose_time_is_over_is_not_said_to_be_in_use(
    cli: Command, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carl = cli("principals", "register", "carl", "--role", "admin", "--json").json["token"]
    monkeypatch.setenv("MASS_GOV_TOKEN", carl)
    assert cli("tokens", "issue", "carl", "--expires-in", "1").status == 0
    assert cli("tokens", "list").out.count("in use") == 2
    hence = wiring.now() + dt.timedelta(hours=1)
    monkeypatch.setattr(wiring, "now", lambda: hence)
    listed = cli("tokens", "list").out
    assert (listed.count("in use"), listed.count("expired")) == (1, 1)


def test_nobody_is_told_where_nobody_is_to_be(cli: Command, held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("notify").status == 2
    monkeypatch.setenv("MASS_GOV_WEBHOOK_URL", "http://127.0.0.1:9/hook")
    assert "MASS_GOV_WEBHOOK_SECRET" in cli("notify").err
    monkeypatch.setenv("MASS_GOV_WEBHOOK_SECRET", "whsec_" + "QUJD" * 8)
    waits = cli("notify", "--dry-run", "--json").json
    assert [one["change_id"] for one in waits["waiting"]] == [held] and waits["told"] == []
    failed = cli("notify")
    assert failed.status == 6 and "QUJD" not in failed.err + failed.out
