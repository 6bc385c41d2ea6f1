"""What bad input gets: one clear message, the documented exit status, no traceback, and nothing written or lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import typer

from mass_gov import wiring
from mass_gov.cli.exits import guarded
from mass_gov.config import load_settings
from tests.e2e.conftest import Command, Ran, Recorded, fingerprint_of

UNKNOWN = "01a1fa4b-0000-7000-8000-000000000000"


def refused(ran: Ran, status: int, *said: str) -> None:
    """One message that says something to do, the status, and one JSON object where it was asked for."""
    assert ran.status == status, ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ran.err
    assert lines[0].count(".") >= 1 or ":" in lines[0][7:]
    for words in said:
        assert words in lines[0], lines[0]
    if ran.out:
        assert set(ran.json) == {"error"} and ran.json["error"]["exit"] == status


# ---- tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("x" * 8001, "8,001 characters"),
        ("bell\a", "U+0007"),
        ("esc \x1b[2J", "U+001B"),
        ("\udcff", "surrogate"),
    ],
    ids=["empty", "blank", "over-long", "bell", "escape", "not-utf-8"],
)
def test_a_task_that_cannot_be_posed_leaves_no_trace(cli: Command, own_home: Path, text: str, said: str) -> None:
    refused(cli("solve", text, "--json"), 2, said)
    assert not own_home.exists()


def test_a_task_too_long_for_the_model_leaves_no_change(cli: Command, recorded: Recorded) -> None:
    before = fingerprint_of(recorded.home)
    refused(cli("solve", "1+" * 300 + "1", "--json"), 2, "Shorten")
    assert fingerprint_of(recorded.home) == before


def test_a_task_that_the_model_has_no_tokens_for_leaves_no_trace(cli: Command, own_home: Path) -> None:
    refused(cli("solve", "wie groß ist 三?", "--json"), 2, "no token")
    refused(cli("solve", "1+" * 300 + "1", "--json"), 2, "Shorten")
    assert not own_home.exists()


def test_bytes_on_the_command_line_that_are_no_utf_8(own_home: Path) -> None:
    command = [sys.executable.encode(), b"-m", b"mass_gov.cli.main", b"solve", b"3+\xff"]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert ran.returncode == 2
    assert b"error: " in ran.stderr and b"Traceback" not in ran.stderr
    assert not own_home.exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"question": "1+1"', "not valid JSON"),
        (b"[1]", "not an object"),
        (b'{"question": "\xff"}', "UTF-8"),
        (b'{"question": "1", "question": "2"}', "twice"),
        (b'{"q": "1+1"}', "question"),
        (b'{"question": 7}', "not a text"),
        (b'{"question": "a\\u0000b"}', "U+0000"),
        (b'{"question": "1+1", "answer": NaN}', "NaN"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_adapted(
    cli: Command, own_home: Path, tasks_file: Callable[[Sequence[object]], Path], line: bytes, said: str
) -> None:
    path = tasks_file([{"question": "3+4"}, line])
    refused(cli("solve", "--file", path, "--json"), 2, "line 2", said)
    assert not own_home.exists()


def test_a_file_that_is_not_there_or_is_a_folder(cli: Command, own_home: Path, tmp_path: Path) -> None:
    refused(cli("solve", "--file", tmp_path / "none.jsonl"), 2, "none.jsonl")
    refused(cli("solve", "--file", tmp_path), 2, "folder")
    assert not own_home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve"],
        ["solve", "1+1", "--file", "x.jsonl"],
        ["solve", "1+1", "--limit", "3"],
        ["solve", "--file", "x.jsonl", "--gold", "1"],
        ["solve", "1+1", "--step-size", "nan"],
        ["solve", "1+1", "--step-size", "-1"],
        ["solve", "1+1", "--seed", "-1"],
        ["solve", "1+1", "--seed", str(2**63)],
        ["solve", "1+1", "--samples", "0"],
        ["solve", "1+1", "--scope", "world"],
        ["solve", "1+1", "--gold", ""],
        ["solve", "1+1", "--deployment", "Bad Name"],
        ["tasks", "sample", "--domain", "alchemy"],
        ["tasks", "sample", "--n", "0"],
        ["tasks", "sample", "--split", "medium"],
        ["eat"],
        ["changes", "eat"],
        ["verify", "--pubkey", "/nowhere.pem"],
        ["policy", "check", "/nowhere.yaml"],
        ["policy", "check", "nobody"],
        ["init", "--policy", "nobody"],
    ],
)
def test_usage_that_does_not_fit_is_refused_and_makes_nothing(
    cli: Command, own_home: Path, arguments: list[str]
) -> None:
    refused(cli(*arguments), 2)
    refused(cli(*arguments, "--json"), 2)
    assert not own_home.exists()


def test_an_unknown_domain_is_answered_with_the_known_ones(cli: Command) -> None:
    refused(cli("tasks", "sample", "--domain", "alchemy", "--json"), 2, "operator", "largest")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"question": "1+1"}'], "question"),
        (["{"], "line 1"),
        (['{"question": "1+1", "solution": 2}'], "texts"),
        ([], "no sample"),
        (['{"question": "1+1", "solution": ""}'], "empty"),
    ],
)
def test_forced_samples_are_checked_first(
    cli: Command, own_home: Path, tmp_path: Path, lines: list[str], said: str
) -> None:
    path = tmp_path / "forced.jsonl"
    path.write_text("\n".join(lines))
    refused(cli("solve", "3+4", "--forced-samples", path, "--json"), 2, said)
    refused(cli("solve", "3+4", "--forced-samples", tmp_path / "none"), 2)
    assert not own_home.exists()


# ---- models and policies --------------------------------------------------------------------------------------


def _broken(kind: str, model: Path, folder: Path) -> Path:
    if kind == "missing":
        return folder / "nowhere"
    shutil.copytree(model, folder / "model")
    weights = folder / "model" / "model.safetensors"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "pickle":
        weights.rename(weights.with_name("pytorch_model.bin"))
    elif kind == "no config":
        (folder / "model" / "config.json").unlink()
    elif kind == "code":
        config = json.loads((folder / "model" / "config.json").read_text())
        config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
        (folder / "model" / "config.json").write_text(json.dumps(config))
    elif kind == "bad settings":
        (folder / "model" / "adaptation.json").write_text('{"update": {"step_size": "large"}}')
    return folder / "model"


@pytest.mark.parametrize("kind", ["missing", "truncated", "pickle", "no config", "code", "bad settings"])
def test_a_model_that_cannot_be_loaded_safely(
    cli: Command, own_home: Path, tiny_model: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    ran = cli("solve", "3+4", "--model", _broken(kind, tiny_model("llama"), tmp_path), "--json")
    refused(ran, 2)
    assert ran.json["error"]["type"] == "ModelError"
    assert not own_home.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("self_approval: true", "self_aproval: true", "unknown key"),
        ("  step_norm: 0.628", "  step_norm: .nan", "line"),
        ("  step_norm: 0.628", "  step_norm: .inf", "line"),
        ("  step_norm: 0.628", '  step_norm: "0.628"', "line"),
        ("required: 1", "required: one", "line"),
        ("required: 1", "required: 0", "line"),
        ("format: 2", "format: 3", "format"),
        ("name: solo", "name: !!python/name:os.system", "tag"),
        ("format: 2", "format: 2\nformat: 2", "second time"),
    ],
)
def test_a_policy_that_does_not_validate(
    cli: Command, own_home: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    source = (Path(__file__).resolve().parents[2] / "policies" / "solo" / "v1.yaml").read_text()
    path = tmp_path / "mine.yaml"
    assert source.count(old) == 1
    path.write_text(source.replace(old, new))
    for command in (["policy", "check"], ["policy", "show"], ["init", "--policy"]):
        refused(cli(*command, path, "--json"), 2, "mine.yaml", said)
    assert not own_home.exists()


def test_a_file_larger_than_memory_is_refused_by_its_beginning(cli: Command, own_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # without a block on the disk
    refused(cli("policy", "check", path, "--json"), 2, "huge.yaml", "more than the 262144 bytes")
    refused(cli("principals", "register", "ada", "--role", "admin", "--public-key", path, "--json"), 2, "no public key")
    assert not own_home.exists()
    path.chmod(0o600)
    assert wiring.signing_passphrase(load_settings(), path) is None


def test_a_policy_whose_suite_nobody_has_is_not_put_in_force(cli: Command, own_home: Path, tmp_path: Path) -> None:
    source = (Path(__file__).resolve().parents[2] / "policies" / "solo" / "v1.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(source.replace("deployment: deployment-v1", "deployment: moon-v1"))
    for command in (["policy", "check"], ["init", "--policy"]):
        refused(cli(*command, path, "--json"), 2, "moon-v1", "core-v1")
    assert not own_home.exists()


# ---- ledgers and keys -----------------------------------------------------------------------------------------

READERS = (["changes", "list"], ["pointers", "show"], ["log", "checkpoint"], ["policy", "show"])
WRITERS = (["changes", "approve", "ID", "--reason", "x"], ["replay", "ID"], ["solve", "3+4"])


@pytest.mark.parametrize("command", [*READERS, ["verify"], ["replay", UNKNOWN], ["log", "rebuild"]])
def test_without_a_ledger_a_reader_says_how_to_make_one(cli: Command, own_home: Path, command: list[str]) -> None:
    refused(cli(*command, "--json"), 2, "MASS_GOV_HOME")
    assert not own_home.exists()


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday", "9" * 5000])
@pytest.mark.parametrize("command", [["pointers", "show", "--at"], ["policy", "backtest", "solo", "--since"]])
def test_a_moment_that_is_none_is_named(cli: Command, own_home: Path, command: list[str], moment: str) -> None:
    assert cli("init").status == 0
    refused(cli(*command, moment, "--json"), 2, "time")


@pytest.mark.parametrize("name", [UNKNOWN, "abc", "01a1", "x" * 5000, "\udcff", "'; DROP TABLE changes --", "%" * 10])
def test_an_unknown_change_is_not_found(cli: Command, recorded: Recorded, name: str) -> None:
    before = fingerprint_of(recorded.home)
    for command in (["show"], ["approve", "--reason", "x"], ["reject", "--reason", "x"], ["rollback", "--reason", "x"]):
        ran = cli("changes", command[0], *command[1:], "--json", "--", name)
        assert ran.status == 2 and ran.err.startswith("error: ") and "NotFoundError" in ran.out
    ran = cli("replay", "--json", "--", name)
    assert ran.status == 2 and "mass-gov changes list" in ran.err
    assert fingerprint_of(recorded.home) == before


def test_a_prefix_of_several_ids_is_not_guessed(cli: Command, recorded: Recorded) -> None:
    """Ids of the same 65 seconds begin alike: so do two of three changes, wherever the border between such spans is."""
    made = Counter(one[:8] for one in (recorded.applied, recorded.held, recorded.held_deployment))
    prefix, count = made.most_common(1)[0]
    assert count > 1, "the three were made within a minute"
    refused(cli("changes", "show", prefix), 2, "more characters")


def test_a_database_of_a_newer_schema_is_left_alone(cli: Command, recorded: Recorded) -> None:
    with sqlite3.connect(recorded.home / "ledger.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = fingerprint_of(recorded.home)
    for command in (*READERS, *WRITERS):
        named = [recorded.held if word == "ID" else word for word in command]
        refused(cli(*named, "--json"), 6, "Upgrade")
    assert cli("doctor").status == 6
    assert fingerprint_of(recorded.home) == before


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100], ids=["empty", "noise"])
def test_a_file_that_is_no_ledger(cli: Command, recorded: Recorded, content: bytes) -> None:
    (recorded.home / "ledger.sqlite3").write_bytes(content)
    for command in READERS:
        ran = cli(*command, "--json")
        assert ran.status == 6 and ran.json["error"]["exit"] == 6


def test_a_wrong_log_key_is_told_at_opening(cli: Command, recorded: Recorded, tmp_path: Path) -> None:
    from mass_gov.evidence.keystore import KeyStore

    other = tmp_path / "other"
    KeyStore.open(other, create=True)
    shutil.copyfile(other / "log-ed25519.pem", recorded.home / "keys" / "log-ed25519.pem")
    before = fingerprint_of(recorded.home)
    for command in (*READERS, *WRITERS):
        named = [recorded.held if word == "ID" else word for word in command]
        refused(cli(*named, "--json"), 6, "key")
    assert cli("verify", "--json").status == 1, "and verification names it as the trust root's fault"
    assert cli("verify", "--json").json["first_wrong"]["step"] == 2
    assert fingerprint_of(recorded.home) == before


def test_a_wrong_or_superfluous_passphrase(cli: Command, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASS_GOV_PASSPHRASE", "guess")
    ran = cli("changes", "list", "--json")
    refused(ran, 6, "passphrase")
    assert "guess" not in ran.err + ran.out


@pytest.mark.parametrize("home", ["/proc/mass-gov", "{file}/home"], ids=["proc", "below a file"])
@pytest.mark.parametrize("command", [["init"], ["solve", "max 1 2"]])
def test_a_home_that_cannot_be_made(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, command: list[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("taken")
    monkeypatch.setenv("MASS_GOV_HOME", home.format(file=file))
    refused(cli(*command, "--json"), 6)
    assert cli("doctor").status == 6
    assert file.read_text() == "taken"


@pytest.fixture
def read_only(recorded: Recorded, tmp_path: Path) -> Path:
    """The home on a medium that cannot be written, also by root; skips where mounting is not allowed."""
    folder = tmp_path / "medium"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "none", str(folder)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copytree(recorded.home, folder / "home")
        subprocess.run([mount, "-o", "remount,ro", str(folder)], check=True)
        yield folder / "home"  # type: ignore[misc]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_home_can_be_read_and_verified_and_not_written(
    cli: Command, recorded: Recorded, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASS_GOV_HOME", str(read_only))
    for command in (*READERS, ["verify"], ["changes", "show", recorded.held]):
        assert cli(*command).status == 0, command
    assert cli("replay", recorded.held, "--no-record").status == 0
    for command in WRITERS:
        named = [recorded.held if word == "ID" else word for word in command]
        refused(cli(*named, "--json"), 6, "ead-only")
    assert cli("doctor").status == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [("THREADS", "many"), ("THREADS", "0"), ("TENANT", "No Spaces"), ("BUSY_TIMEOUT", "nan"), ("PRINCIPAL", "../x")],
)
def test_a_setting_with_an_unusable_value_is_named(
    cli: Command, own_home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MASS_GOV_{name}", value)
    refused(cli("changes", "list", "--json"), 2, f"MASS_GOV_{name}", "docs/reference/settings.md")


# ---- defects and outputs --------------------------------------------------------------------------------------


def test_a_defect_of_ours_is_one_line_and_a_traceback_only_on_request(
    cli: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from mass_gov.cli.main import run
    from mass_gov.tasks import registry

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(registry, "sample_tasks", broken)
    ran = cli("tasks", "sample", "--json")
    assert ran.status == 70 and ran.json["error"]["type"] == "ZeroDivisionError"
    assert "MASS_GOV_DEBUG" in ran.err and len(ran.err.splitlines()) == 1
    monkeypatch.setenv("MASS_GOV_DEBUG", "1")
    assert run(["tasks", "sample"]) == 70
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["tasks", "domains"], ["tasks", "domains", "--json"], ["policy", "check", "x"]])
def test_a_full_disk_behind_stdout_is_an_outage(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "mass_gov.cli.main", *arguments, "--json"][: len(arguments) + 4]
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ran.returncode == 6 and "Traceback" not in ran.stderr and "Exception ignored" not in ran.stderr


def test_a_terminal_that_knows_no_unicode_gets_escapes(own_home: Path) -> None:
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "mass_gov.cli.main", "policy", "show", "solo"]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=60, env=env)
    assert ran.returncode == 0 and b"solo/v1" in ran.stdout


def test_whoever_backs_out_of_a_question_met_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def asked() -> None:
        raise typer.Abort

    assert guarded(asked, ["keys", "rotate"]) == 130
    assert "defect" not in capsys.readouterr().err
