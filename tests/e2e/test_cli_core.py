"""A folder with a trained core on the command line: solved, shown, verified, and replayed by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mass_gov.mass.core import Core
from mass_gov.mass.core_settings import step_sizes_digest
from tests.e2e.conftest import Command
from tests.fakes.policies import lean_policy
from tests.fakes.small_core import make_core, make_talkative, with_core


@pytest.fixture
def core(tmp_path: Path) -> Core:
    return replace(make_core(make_talkative(tmp_path / "plain", "llama")), samples=48)


@pytest.fixture
def folder(tmp_path: Path, core: Core) -> Path:
    return with_core(tmp_path / "plain", tmp_path / "cored", core)


def solve(cli: Command, folder: Path) -> Any:
    """One task, under a policy whose suite is short: what the core learned is the point, and each case is an answer."""
    assert cli("init", "--policy", lean_policy(folder.parent)).status == 0
    return cli("solve", "what is 7?", "--model", folder, "--seed", "3", "--json").json


@pytest.mark.slow
def test_the_record_names_what_was_learned_and_another_process_finds_the_same_bits(
    cli: Command, folder: Path, core: Core
) -> None:
    solved = solve(cli, folder)
    shown = cli("changes", "show", solved["change_id"], "--samples", "--json").json
    leaf = shown["record"]
    assert leaf["synthesis"]["scorer"] == core.scorer_digest
    assert leaf["update"]["step_sizes"] == step_sizes_digest(core.step_sizes)
    assert "score" in cli("changes", "show", solved["change_id"]).out
    command = [sys.executable, "-m", "mass_gov.cli.main", "replay", "--all", "--model", str(folder), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ})
    assert ran.returncode == 0, ran.stderr
    assert [one["verdict"] for one in json.loads(ran.stdout)["replays"]] == ["equal"]
    assert cli("verify").status == 0


def test_the_folder_without_its_core_is_another_model(cli: Command, folder: Path) -> None:
    change_id = solve(cli, folder)["change_id"]
    for name in ("core.json", "core.safetensors"):
        (folder / name).unlink()
    replayed = cli("replay", change_id, "--model", folder, "--json")
    assert (replayed.status, replayed.json["verdict"]) == (1, "differs")
    assert "base model" in replayed.json["detail"]


@pytest.mark.parametrize(("name", "content"), [("core.json", b"{}"), ("core.safetensors", b"")])
def test_a_damaged_core_is_refused_in_one_sentence_and_nothing_is_written(
    cli: Command, folder: Path, own_home: Path, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    ran = cli("solve", "what is 7?", "--model", folder)
    assert ran.status == 2 and name in ran.err
    assert not own_home.exists()
