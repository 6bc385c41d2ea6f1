"""`mass-gov doctor` shows the numeric environment and compares two; a replay says which numerics a change had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Command, Recorded

Save = Callable[[Callable[[dict[str, Any]], None]], Path]


@pytest.fixture
def save(
    cli: Command, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Write what doctor says here into a file, altered."""
    monkeypatch.setenv("MASS_GOV_MODEL", str(tiny_model("llama")))

    def write(alter: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        document = cli("doctor", "--json").json
        alter(document["environment"])
        (path := tmp_path / "there.json").write_text(json.dumps(document))
        return path

    return write


def test_doctor_shows_every_part(cli: Command, save: Save) -> None:
    found = json.loads(save(lambda _: None).read_text())["environment"]["fingerprint"]
    shown = cli("doctor").out
    assert {"canary.prefill", "canary.decode", "canary.step", "numerics", "attention", "sampling"} <= set(found)
    assert all(name in shown for name in found)


def test_a_machine_compared_with_itself_is_the_same(cli: Command, save: Save) -> None:
    ran = cli("doctor", "--compare", save(lambda _: None), "--json")
    assert (ran.status, ran.json["same"], ran.json["differs"]) == (0, True, {})
    assert "nothing that was recorded differs" in cli("doctor", "--compare", save(lambda _: None)).out


def test_what_differs_is_said_with_the_stage_that_it_touches(cli: Command, save: Save) -> None:
    other = {"package.tokenizers": "0.1", "torch.threads": 4, "canary.decode": "0" * 64}
    path = save(lambda there: there["fingerprint"].update(other))
    ran = cli("doctor", "--compare", path, "--json")
    assert ran.status == 3 and set(ran.json["differs"]) == set(other)
    assert ran.json["stages"] == ["decode"]
    assert "prefill" in ran.json["differs"]["torch.threads"]["touches"]
    assert "before any numeric stage" in ran.json["differs"]["package.tokenizers"]["touches"]
    text = cli("doctor", "--compare", path)
    assert text.status == 3 and "Single-row decode (writing a token) has other bits here" in text.out


def test_canaries_of_another_model_are_not_compared(cli: Command, save: Save) -> None:
    def other(there: dict[str, Any]) -> None:
        there["model"] = "0" * 64
        there["fingerprint"]["canary.step"] = "0" * 64

    ran = cli("doctor", "--compare", save(other), "--json")
    assert (ran.status, ran.json["same"], ran.json["same_model"]) == (0, True, False)
    assert any("another model is open" in words for words in ran.json["words"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[1]",
        b"{}",
        b'{"environment": null}',
        b'{"environment": {"model": "a", "fingerprint": {}}}',
        b'{"environment": {"model": "a", "fingerprint": {"a": [1]}}}',
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
)
def test_a_file_that_doctor_did_not_write_is_refused(
    cli: Command, tmp_path: Path, own_home: Path, content: bytes
) -> None:
    (path := tmp_path / "bad.json").write_bytes(content)
    ran = cli("doctor", "--compare", path, "--json")
    assert ran.status == 2 and "doctor --json > FILE" in ran.json["error"]["message"]
    assert not own_home.exists()


def test_a_file_that_is_not_there_is_refused(cli: Command, tmp_path: Path) -> None:
    assert cli("doctor", "--compare", tmp_path / "none.json").status == 2
    assert cli("doctor", "--compare", tmp_path).status == 2


# --- numerics ---


def test_an_unknown_numerics_is_refused(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASS_GOV_NUMERICS", "exact")
    ran = cli("doctor")
    assert ran.status == 2 and "MASS_GOV_NUMERICS" in ran.err


def test_a_process_that_computes_natively_does_not_obey_silently(
    cli: Command, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASS_GOV_NUMERICS", "portable")
    for command in (["solve", "3+4"], ["replay", recorded.held]):
        ran = cli(*command)
        assert ran.status == 2 and "before the process starts" in ran.err


@pytest.mark.slow
def test_a_portable_change_is_the_same_in_portable_numerics_and_never_plainly_equal_in_native(
    cli: Command, recorded: Recorded, forced_file: Path
) -> None:
    options = ["--seed", "1", "--step-size", "0.02", "--forced-samples", str(forced_file), "--json"]
    solved = command("solve", "9+9", *options)
    fingerprint = command("changes", "show", solved["change_id"], "--json")["contents"]["fingerprint"]
    assert fingerprint["numerics"] == "portable" and "cpu.model" not in fingerprint
    assert command("replay", solved["change_id"], "--json")["verdict"] == "equal"
    ran = cli("replay", solved["change_id"], "--json")
    assert ran.json["verdict"] in ("equal, other fingerprint", "differs")
    assert ran.json["fingerprint_differs"]["numerics"] == {"recorded": "portable", "present": "native"}
    assert "MASS_GOV_NUMERICS=portable" in ran.json["detail"]


def command(*arguments: str) -> Any:
    """One command line in a process of its own, in portable numerics."""
    run = [sys.executable, "-m", "mass_gov.cli.main", *arguments]
    environment = {**os.environ, "MASS_GOV_NUMERICS": "portable"}
    ran = subprocess.run(run, capture_output=True, text=True, check=False, timeout=200, env=environment)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


# --- what older releases recorded ---


def test_a_change_recorded_before_canaries_replays_equal_and_says_what_nobody_recorded(
    cli: Command, recorded: Recorded, forced_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = _recorded_with(cli, forced_file, monkeypatch, lambda found: None, later=False)
    ran = cli("replay", change, "--json")
    assert (ran.status, ran.json["verdict"], ran.json["fingerprint_differs"]) == (0, "equal", {})
    assert "not recorded when it was recorded" in ran.json["detail"] and "canary.prefill" in ran.json["detail"]


def test_canaries_that_differ_name_their_stage_in_a_replay(
    cli: Command, recorded: Recorded, forced_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(found: dict[str, Any]) -> None:
        found["canary.step"] = "0" * 64

    ran = cli("replay", _recorded_with(cli, forced_file, monkeypatch, other), "--json")
    assert (ran.status, ran.json["verdict"]) == (0, "equal, other fingerprint")
    assert "the adaptation step (its gradients) has other bits here" in ran.json["detail"]


def _recorded_with(
    cli: Command,
    forced_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    alter: Callable[[dict[str, Any]], None],
    *,
    later: bool = True,
) -> str:
    """A change whose recorded fingerprint is another; without `later`, of the format that had no number."""
    from mass_gov.flows.fingerprints import _SINCE_2
    from mass_gov.mass.learner import Learner

    true = Learner.fingerprint

    def written(learner: Learner) -> dict[str, Any]:
        found: dict[str, Any] = dict(true(learner))
        alter(found)
        return found if later else {name: value for name, value in found.items() if name not in _SINCE_2 | {"numerics"}}

    options = ["--seed", "1", "--step-size", "0.02", "--forced-samples", str(forced_file), "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "fingerprint", written)
        return str(cli("solve", "8+8", *options).json["change_id"])
