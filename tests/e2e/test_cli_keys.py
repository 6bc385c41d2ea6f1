"""`mass-gov keys` as a person and a script meet it, and that no secret is ever printed."""

from __future__ import annotations

import base64
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mass_gov.evidence.checkpoint import parse_vkey
from mass_gov.evidence.signers import signing_files
from mass_gov.evidence.trust import parse_trust_root
from tests.e2e.conftest import Command

REASON = ("--reason", "A laptop was stolen.")


@pytest.fixture
def home(cli: Command, own_home: Path) -> Path:
    """A ledger with a policy and no change."""
    assert cli("init").status == 0
    return own_home


def test_keys_are_listed_rotated_revoked_and_exported(cli: Command, home: Path, tmp_path: Path) -> None:
    before = {key["purpose"]: key for key in cli("keys", "list", "--json").json["keys"]}
    assert cli("init", "--json").json["verifier_key"] == before["log"]["verifier_key"]
    (tmp_path / "pinned").write_text(cli("keys", "export").out)
    done = cli("keys", "rotate", "--purpose", "log", "--json").json
    assert done["old_key"] == before["log"]["key"]
    assert cli("keys", "rotate", "--purpose", "delta").status == 0
    first, second, *deltas = cli("keys", "list", "--json").json["keys"]
    assert (first["last_index"], second["first_index"]) == (done["rotated_index"], done["rotated_index"] + 1)
    assert [key["in_use"] for key in (first, second, *deltas)] == [False, True, False, True]
    assert cli("verify", "--pubkey", tmp_path / "pinned").status == 0
    (tmp_path / "later").write_text(cli("keys", "export", second["key"][:8]).out)
    assert cli("verify", "--pubkey", tmp_path / "later", "--json").json["log_key"] == second["key"]
    assert parse_vkey((tmp_path / "pinned").read_text().strip())[1].keyid == first["key"]
    pem = cli("keys", "export", deltas[1]["key"]).out.encode()
    assert parse_trust_root(pem).key.keyid == deltas[1]["key"]
    assert cli("keys", "export", second["key"], "--pem").out == second["pem"]
    shown = cli("keys", "list").out
    assert shown.count("in use") == 2
    assert shown.count("handed over") == 2


def test_after_a_compromise_the_last_line_does_not_say_that_everything_holds(
    cli: Command, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "pinned").write_text(cli("keys", "export").out)
    old = cli("keys", "rotate", "--purpose", "log", "--json").json["old_key"]
    revoked = cli("keys", "revoke", old, "--compromised", "--trusted-size", "1", *REASON, "--yes", "--json").json
    assert (revoked["compromised"], revoked["trusted_size"]) == (True, 1)
    for pinned in ((), ("--pubkey", tmp_path / "pinned")):
        ran = cli("verify", *pinned)
        assert (ran.status, ran.out.count("Trust ends at size 1:")) == (0, 1)
        assert "Everything holds" not in ran.out
        assert "What was checked holds" not in ran.out
        report = cli("verify", *pinned, "--json").json
        assert report["trusted_size"] == 1
        assert any("events 1 to" in what for what in report["not_checked"])
    assert "believed up to size 1" in " ".join(cli("keys", "list").out.split())


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["revoke", "{old}", *REASON], 2, "--yes"),
        (["revoke", "{old}", *REASON, "--trusted-size", "1", "--yes"], 2, "--compromised"),
        (["revoke", "{old}", "--compromised", "--trusted-size", "99", *REASON, "--yes"], 2, "believed up to size 99"),
        (["revoke", "{new}", "--compromised", *REASON, "--yes"], 5, "rotate it first"),
        (["revoke", "00000000", "--compromised", *REASON, "--yes"], 2, "no key"),
        (["revoke", "{old}", "--compromised", "--reason", " ", "--yes"], 2, "reason"),
        (["export", "zz"], 2, "keys list"),
        (["rotate"], 2, "--purpose"),
        (["rotate", "--purpose", "master"], 2, "purpose"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    cli: Command, home: Path, arguments: list[str], status: int, says: str
) -> None:
    done = cli("keys", "rotate", "--purpose", "log", "--json").json
    named = [a.format(old=done["old_key"], new=done["new_key"]["key"]) for a in arguments]
    size = cli("log", "checkpoint", "--json").json["size"]
    ran = cli("keys", *named)
    assert (ran.status, says in ran.err) == (status, True), ran.err
    assert "Traceback" not in ran.err
    assert cli("log", "checkpoint", "--json").json["size"] == size


def test_no_command_prints_a_secret(cli: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASS_GOV_DEBUG", "1")
    cli("keys", "rotate", "--purpose", "log")
    secrets = [line for name in signing_files(home / "keys") for line in (home / "keys" / name).read_text().split("\n")]
    secrets = [line for line in secrets if len(line) > 40] + [(home / "keys" / "master.key").read_text().strip()]
    assert len(secrets) >= 3
    secrets += [base64.b64decode(line + "==", validate=False).hex() for line in list(secrets)]
    commands = [
        ("keys", "list"), ("keys", "list", "--json"), ("keys", "export"), ("keys", "export", "--json"),
        ("keys", "rotate", "--purpose", "delta", "--json"), ("init", "--json"), ("doctor",), ("verify",),
        ("verify", "--json"), ("log", "checkpoint"),
    ]  # fmt: skip
    for command in commands:
        ran = cli(*command)
        assert "PRIVATE KEY" not in ran.out + ran.err
        assert not [one for one in secrets if one in ran.out + ran.err], command
    (home / "keys" / signing_files(home / "keys")[1]).write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n")
    ran = cli("keys", "list")
    assert (ran.status, "c2VjcmV0" in ran.err, "Traceback" in ran.err) == (6, False, False)


def _at_a_terminal(typed: str, *arguments: str) -> tuple[int, str]:
    """Run the command in a process of its own whose terminal somebody types into."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mass_gov.cli.main", *arguments]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True, close_fds=True
    )
    os.close(follower)
    seen = b""
    while b"Passphrase" not in seen:
        seen += os.read(leader, 1000)
    os.write(leader, f"{typed}\n".encode())
    while True:
        try:
            seen += os.read(leader, 1000)
        except OSError:  # the process closed its terminal
            break
    os.close(leader)
    return process.wait(timeout=60), seen.decode()


def test_a_protected_store_asks_a_person_at_a_terminal_and_nobody_else(
    cli: Command, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASS_GOV_PASSPHRASE", "correct horse")
    assert cli("init").status == 0
    monkeypatch.delenv("MASS_GOV_PASSPHRASE")
    refused = cli("keys", "list")
    assert (refused.status, "MASS_GOV_PASSPHRASE" in refused.err) == (6, True)
    status, shown = _at_a_terminal("correct horse", "keys", "list")
    assert status == 0, shown
    assert shown.count("in use") == 2
    assert "correct horse" not in shown
    status, shown = _at_a_terminal("wrong", "keys", "list")
    assert (status, "does not open with this passphrase" in " ".join(shown.split())) == (6, True)
