"""The tutorials' commands work as they are written, one after the other, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"


def commands(page: str) -> list[str]:
    """The lines that a page shows after a prompt, in order."""
    text = (TUTORIALS / page).read_text("utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def run_all(folder: Path, lines: list[str]) -> subprocess.CompletedProcess[str]:
    """Run them in one shell that stops at the first failure and marks where each command begins."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MASS_GOV_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["COLUMNS"] = "160"
    script = "\n".join(f"printf '\\n=== {number}\\n'\n{command}" for number, command in enumerate(lines))
    script = f"trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{script}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=240)


def said_by(result: subprocess.CompletedProcess[str], lines: list[str]) -> dict[str, str]:
    """What each command printed; every one has to have ended well."""
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    parts = re.split(r"^=== \d+\n", result.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(lines, parts, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_the_tutorial_over_http(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    lines = [line.replace("8000", port) for line in commands("over-http.md")]
    said = said_by(run_all(tmp_path, lines), lines)

    def of(part: str) -> str:
        return next(text for command, text in said.items() if part in command)

    held = json.loads(of("jq '{served"))
    assert (held["served"], held["status"]) == ("base", "held")
    assert json.loads(of(":approve"))["status"] == "active"
    assert held["change"] in of("/changes?status=held") and held["change"] in of("status=active")
    assert json.loads(of("history.approvals"))[0]["approver"] == "bob"
    assert json.loads(of("/v1/responses"))["count"] >= 1, "the answer after it was approved"
    assert json.loads(of('"adaptation": "none"'))["served"] == "unadapted"
    assert of("verify --bundle").count("holds") and of("verify --export").count("holds")
    assert json.loads(of("jq '{state_digest"))["change_id"] == held["change"]
    assert json.loads(of('/default" | jq .change_id')) is None, "undone: the base again"
    assert json.loads(of(":promote"))["status"] == "active"
    assert "What was checked holds" in said["mass-gov verify"]


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    lines = commands("first-change.md")
    result = run_all(tmp_path, lines)
    said = said_by(result, lines)
    assert "policy solo" in result.stderr
    change = next(text for command, text in said.items() if command.startswith("mass-gov changes promote")).split()[0]
    assert change in said["mass-gov pointers show"]
    rollback = next(text for command, text in said.items() if command.startswith("mass-gov changes rollback"))
    assert f"{change} is rolled back" in rollback
    served = re.findall(r"^\d+ +(adapted|unadapted) ", rollback, re.MULTILINE)
    assert len(served) == 2, "its own answer and the one after it, which stood on its state"
    assert "What was checked holds; not checked: step 12 (witnesses)" in said["mass-gov verify"]
    assert said["mass-gov replay $CHANGE"].count("equal") >= 7
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["ok"] is False and "exit status 1" in result.stdout
