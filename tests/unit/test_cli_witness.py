"""`mass-gov witness` and `mass-gov log` as people use them: files, pipes and exit statuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.cli.main import run
from mass_gov.evidence.checkpoint import vkey
from tests.fakes.ledger_world import LedgerWorld

Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    """Run a command line: exit status and stdout."""

    def command(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        return run(list(words)), capfd.readouterr().out

    return command


@pytest.fixture
def home(tmp_path: Path, own_home: Path) -> Path:
    """A ledger under its usual name, with its log's key and a policy of one witness beside it."""
    world = LedgerWorld.make(own_home)
    world.record("one")
    (tmp_path / "log.key").write_text(vkey(world.ledger.origin, world.ledger.log_key) + "\n")
    world.close()
    (own_home / "ledger.db").rename(own_home / "ledger.sqlite3")
    return own_home


def test_a_log_is_witnessed_by_three_commands_and_verified_offline(
    home: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, made = said("witness", "init", "w.example", "--json")
    assert status == 0 and (home / "witness" / "witness-ed25519.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "policy").write_text(f"witness w {json.loads(made)['verifier_key']}\nquorum w\n")
    monkeypatch.setenv("MASS_GOV_WITNESSES", str(tmp_path / "policy"))
    assert said("witness", "follow", str(tmp_path / "log.key"))[0] == 0
    assert said("verify")[0] == 1  # a policy, and nobody yet
    request = said("log", "prove", "--from", "0")[1]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(request.encode())))
    status, line = said("witness", "cosign")
    assert status == 0 and line.startswith("— w.example ")
    (tmp_path / "answer").write_text(line)
    status, kept = said("log", "cosign", str(tmp_path / "answer"), "--json")
    size = json.loads(kept)["size"]
    assert (status, json.loads(kept)["cosignatures"][0]["witness"]) == (0, "w.example")
    assert said("log", "checkpoint")[1].endswith(line)
    assert said("log", "checkpoint", "--size", str(size - 1))[0] == 2
    assert said("verify", "--max-age", "1h")[0] == 0
    assert json.loads(said("witness", "show", "--json")[1])["logs"][0]["size"] == size
    (tmp_path / "again").write_text(request)
    assert said("witness", "cosign", str(tmp_path / "again"))[0] == 5  # it starts from 0, and the witness saw more
    assert json.loads(said("log", "prove", "--from", str(size), "--json")[1])["from_root"]


def test_an_export_is_verified_without_the_ledger(home: Path, tmp_path: Path, said: Said) -> None:
    path, key = str(tmp_path / "log.ndjson"), str(tmp_path / "log.key")
    assert json.loads(said("log", "export", "-o", path, "--json")[1])["events"] == 6
    assert said("verify", "--against", path)[0] == 0
    home.rename(tmp_path / "away")
    status, report = said("verify", "--export", path, "--pubkey", key, "--json")
    assert (status, json.loads(report)["trust"]) == (0, "key given")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-40])
    status, report = said("verify", "--export", path, "--pubkey", key, "--json")
    assert (status, json.loads(report)["first_wrong"]["index"]) == (1, 6)


@pytest.mark.parametrize(
    "words",
    [
        ["log", "prove"],
        ["log", "prove", "0", "--from", "0"],
        ["log", "prove", "99"],
        ["log", "prove", "--from", "99"],
        ["log", "cosign", "nothing"],
        ["log", "export", "-o", "x", "--witnesses", "y"],
        ["witness", "init", "no name"],
        ["witness", "follow", "nothing"],
        ["verify", "--export", "x", "--against", "y"],
        ["verify", "--max-age", "24h"],
    ],
)
def test_bad_input_is_named_and_nothing_happens(home: Path, said: Said, words: list[str]) -> None:
    assert said(*words)[0] == 2


def test_without_a_witness_there_is_an_outage_and_not_a_traceback(home: Path, said: Said) -> None:
    assert said("witness", "show")[0] == 6
