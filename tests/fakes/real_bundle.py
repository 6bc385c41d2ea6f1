"""A real change, from the question to the zip: the learner, the ledger and the command line, nothing in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mass_gov.cli.main import run
from mass_gov.config import load_settings
from mass_gov.wiring import read_ledger
from tests.fakes.policies import lean_policy

SUBJECT = "s-" + "7" * 32


def real_bundle(folder: Path, model: Path, changes: int = 1) -> Path:
    """Make changes of one subject with a tiny model, each on top of the one before, and export the last one."""
    forced, output = folder / "forced.jsonl", folder / "change.zip"
    samples = [{"question": f"{a}+1", "solution": f"{a + 1}#{a + 1}"} for a in (1, 2, 12)]
    forced.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASS_GOV_HOME", str(folder / "home"))
        patch.setenv("MASS_GOV_MODEL", str(model))
        assert run(["init", "--policy", lean_policy(folder), "--json"]) == 0
        for number in range(changes):
            options = ["--scope", "deployment", "--forced-samples", str(forced), "--step-size", "0.02"]
            assert run(["solve", f"max 4 8 {number}", "--subject", SUBJECT, *options, "--json"]) == 0
            with read_ledger(load_settings()) as ledger:
                (change,) = ledger.changes(limit=1)
            assert run(["changes", "approve", change.change_id, "--reason", "it was looked at", "--json"]) == 0
        assert run(["changes", "export", change.change_id, "-o", str(output), "--json"]) == 0
    return output
