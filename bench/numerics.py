"""What portable numerics costs, and whether it keeps what it promises under emulated CPUs.

    python bench/numerics.py [--times 5] [--cpus Nehalem,Haswell] [--json]

Fresh processes compute the same adaptation of the model that ships (`numerics_cell.py`): natively, portably, and
portably under `qemu-x86_64 -cpu NAME` for each CPU. The cost is portable over native, in CPU seconds of the fastest of
several adaptations in a process. For each emulated CPU: which stages and canaries have other digests than here, in
portable numerics (none, or the promise is broken). `native` shows which differ without it: the comparison can fail.
Emulated rows are left out, with a word, where there is no qemu-x86_64 (Debian's qemu-user).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mass_gov.mass.numerics import environment

CELL = Path(__file__).with_name("numerics_cell.py")
QEMU = "qemu-x86_64"
LONG, SHORT = ("--tokens", "100", "--samples", "6"), ("--tokens", "24", "--samples", "4")


def cell(numerics: str, *options: str, cpu: str | None = None) -> dict[str, Any]:
    """Run the adaptation in a process of its own, on an emulated CPU where one is named."""
    machine = [QEMU, "-cpu", cpu] if cpu is not None else []
    variables = environment(os.environ) if numerics == "portable" else dict(os.environ)
    ran = subprocess.run(
        [*machine, sys.executable, str(CELL), numerics, *options],
        check=True,
        capture_output=True,
        env=variables | {"PYTHONPATH": str(CELL.parents[1])},
    )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Stages and canaries with other digests."""
    return [name for name, digest in one["digests"].items() if other["digests"][name] != digest]


def measure(times: int, cpus: list[str]) -> dict[str, Any]:
    """The ratio, and what differs where."""
    timed = {numerics: cell(numerics, *LONG, "--times", str(times)) for numerics in ("native", "portable")}
    here, native = cell("portable", *SHORT), cell("native", *SHORT)
    emulated = {}
    if shutil.which(QEMU):
        emulated = {cpu: cell("portable", *SHORT, cpu=cpu) for cpu in cpus}
    return {
        "seconds": {numerics: row["seconds"] for numerics, row in timed.items()},
        "portable_over_native": timed["portable"]["seconds"] / timed["native"]["seconds"],
        "digests": len(here["digests"]),
        "native_differs": differing(here, native),
        "emulated": {
            cpu: {"avx2": row["avx2"], "differs": differing(here, row), "same_fingerprint": _same(here, row)}
            for cpu, row in emulated.items()
        },
    }


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["fingerprint"] == other["fingerprint"])


def main() -> int:
    """Print one table, or one JSON object; 1 where an emulated CPU gave other bits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--cpus", default="Nehalem,Haswell", help="emulated CPUs; empty for none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.times, [cpu for cpu in options.cpus.split(",") if cpu])
    broken = any(row["differs"] for row in found["emulated"].values())
    if options.json:
        json.dump(found, sys.stdout)
        return int(broken)
    table = Table("portable here, beside", "other digests", title="the same adaptation, stage by stage")
    table.add_row("native here", ", ".join(found["native_differs"]) or "none")
    for cpu, row in found["emulated"].items():
        table.add_row(f"portable on an emulated {cpu}", ", ".join(row["differs"]) or f"none of {found['digests']}")
    console = Console()
    console.print(table)
    if not found["emulated"]:
        console.print(f"There is no {QEMU} here: install qemu-user to compare emulated CPUs.")
    console.print(f"portable costs {found['portable_over_native']:.2f} times native ({options.times} adaptations each)")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
