"""The main job on real tasks, by the command line that a user has: `make demo`.

Solves held-out tasks of every domain, promotes one change, adapts from the promoted state, rolls it back, replays every
change from scratch in a new process, recalls all of them in one table, and verifies the log. Each command is printed
before it runs. Everything it makes lies under runs/demo, which it empties first.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TASKS, SEED = 12, 7
ROOT = Path(__file__).resolve().parents[1] / "runs" / "demo"
HOME = ROOT / "home"


def run(*arguments: str, quiet: bool = False) -> str:
    """Run one `mass-gov` command; stop the demonstration if it fails."""
    shown = " ".join(f"'{argument}'" if " " in argument else argument for argument in arguments)
    print(f"\n$ mass-gov {shown}", flush=True)
    environment = {**os.environ, "MASS_GOV_HOME": str(HOME), "COLUMNS": os.environ.get("COLUMNS", "120")}
    command = [sys.executable, "-m", "mass_gov.cli.main", *arguments]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE if quiet else None, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"mass-gov {shown} ended with exit status {result.returncode}")
    return result.stdout or ""


def first_applied() -> str:
    """The oldest change whose adapted answer was served."""
    listed = json.loads(run("changes", "list", "--status", "applied", "--json", quiet=True))
    changes = listed["changes"]
    if not changes:
        sys.exit("no change applied by itself, so there is none to promote")
    return str(changes[-1]["change_id"])


def main() -> None:
    """Run the demonstration."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    tasks = ROOT / "tasks.jsonl"
    tasks.write_text(run("tasks", "sample", "--n", str(TASKS), "--seed", str(SEED), "--jsonl", quiet=True))
    run("solve", "--file", str(tasks))
    change = first_applied()
    run("changes", "show", change)
    run("changes", "promote", change, "--reason", "its answers hold up")
    run("pointers", "show")
    run("solve", "max 4 9 2 7 1")
    run("changes", "rollback", change, "--reason", "end of the demonstration")
    run("replay", "--all")
    run("solve", "--file", str(tasks))  # again: every task is recalled from the ledger, none is adapted twice
    run("verify")


if __name__ == "__main__":
    main()
