"""The tutorial's commands work as they are written, one after the other, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "first-change.md"


def commands() -> list[str]:
    """The lines that the page shows after a prompt, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def run_all(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run them in one shell that stops at the first failure and marks where each command begins."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MASS_GOV_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["COLUMNS"] = "160"
    script = "\n".join(f"echo '=== {number}'\n{command}" for number, command in enumerate(commands()))
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=240)


def test_the_tutorial(tmp_path: Path) -> None:
    result = run_all(tmp_path)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    parts = re.split(r"^=== \d+\n", result.stdout, flags=re.MULTILINE)[1:]
    said = dict(zip(commands(), parts, strict=True))
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
