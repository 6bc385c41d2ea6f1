"""What an exact meta-gradient costs, beside naive unrolling, torchopt and a plain gradient: ratios within one run.

    python bench/meta_gradient.py [--quick] [--no-torchopt] [--sizes 3M,30M] [--methods ...] [--keep FILE] [--json]

Random Llamas of 3M and 30M parameters, K in 1..16; how memory and time are taken stands in `meta_gradient_cell.py`.
One row per method and K, then one line per bar (docs/explanation/meta-gradient.md); exit status 1 if a bar fails.
`--keep FILE` adds each figure to FILE as it comes and measures nothing twice: a run that was stopped goes on. torchopt
is installed with pip, without its dependence on torch, into an environment under a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

CELL = Path(__file__).with_name("meta_gradient_cell.py")
STEPS = (1, 2, 4, 8, 16)
METHODS = ("gradient", "attribution", "sweep", "sweep, micro-batched", "naive", "torchopt")
ONLY = {"gradient": (1,), "attribution": (1, 4), ("30M", "sweep, micro-batched"): (1, 16), ("30M", "torchopt"): (1, 4)}
"""Where not every K is worth its time."""
QUICK = (1, 4)
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
Row = dict[str, Any]
Key = tuple[str, str, int]


def wanted(size: str, method: str, quick: bool) -> list[int]:
    """The K to measure."""
    steps = ONLY.get((size, method)) or ONLY.get(method) or STEPS
    return [k for k in steps if not quick or k in QUICK]


def run_cell(python: str, method: str, size: str, steps: list[int]) -> Iterator[Row]:
    """Figures as the process prints them. Raises CalledProcessError."""
    command = [python, str(CELL), method, size, ",".join(map(str, steps))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | MALLOC) as process:
        assert process.stdout
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def with_torchopt(folder: Path) -> str | None:
    """The python of a new environment that sees this one and has torchopt; None where it cannot be installed."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    site = next(folder.glob("lib/python*/site-packages"))
    parents = {str(Path(module).parents[1]) for module in (torch.__file__, str(CELL.parents[1] / "mass_gov" / "_"))}
    (site / "parent.pth").write_text("\n".join(sorted(parents)))
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "torchopt", "optree", "graphviz"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    works = subprocess.run([python, "-c", "import torchopt"], capture_output=True, text=True, check=False)
    if done.returncode or works.returncode:
        print(f"torchopt is left out: {(done.stderr or works.stderr).strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return python


def measure(options: argparse.Namespace, known: dict[Key, Row]) -> Iterator[Row]:
    """Every figure that is not known yet."""
    methods = [m for m in options.methods.split(";") if m != "torchopt" or options.torchopt]
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes.split(","):
            for method in methods:
                steps = [k for k in wanted(size, method, options.quick) if (size, method, k) not in known]
                python: str | None = sys.executable
                if method == "torchopt" and steps:
                    python = with_torchopt(Path(folder) / size)
                if steps and python:
                    yield from run_cell(python, method, size, steps)


def bars(rows: dict[Key, Row]) -> list[tuple[str, float, float]]:
    """(what, ratio, limit) of each bar that can be told from these rows."""
    found: list[tuple[str, float, float]] = []

    def ratio(what: str, field: str, over: Key, under: Key, limit: float) -> None:
        if over in rows and under in rows:
            found.append((f"{over[0]}: {what}", rows[over][field] / rows[under][field], limit))

    for size in sorted({size for size, _, _ in rows}, key=len):
        last = max(k for s, m, k in rows if s == size)
        for method in ("sweep", "sweep, micro-batched"):
            ratio(f"{method}, peak at K={last} over K=1", "peak_mib", (size, method, last), (size, method, 1), 1.15)
        limit = 0.12 * 16 / last  # the bar is for K=16
        ratio(f"sweep, peak over naive at K={last}", "peak_mib", (size, "sweep", last), (size, "naive", last), limit)
        for k in STEPS:
            ratio(f"sweep, time over naive at K={k}", "seconds", (size, "sweep", k), (size, "naive", k), 1.6)
        ratio("attribution, peak over a gradient", "peak_mib", (size, "attribution", 1), (size, "gradient", 1), 1.1)
    return found


def show(rows: dict[Key, Row], verdicts: list[tuple[str, float, float]]) -> None:
    """One table, then one line per bar."""
    table = Table("model", "method", "K", "peak MiB", "over naive", "CPU s", "over naive")
    for (size, method, k), row in rows.items():
        naive = rows.get((size, "naive", k))
        ratios = [f"{row[f] / naive[f]:.3f}" if naive else "" for f in ("peak_mib", "seconds")]
        table.add_row(size, method, str(k), f"{row['peak_mib']:.1f}", ratios[0], f"{row['seconds']:.2f}", ratios[1])
    Console(width=100).print(table)
    for what, value, limit in verdicts:
        print(f"{'PASS' if value <= limit else 'FAIL'}  {what}: {value:.3f} (at most {limit:g})")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3M only, K = 1 and 4")
    parser.add_argument("--no-torchopt", dest="torchopt", action="store_false")
    parser.add_argument("--sizes", default="3M,30M")
    parser.add_argument("--methods", default=";".join(METHODS), help="separated by semicolons")
    parser.add_argument("--keep", type=Path, help="JSON lines; measured figures are added and not measured again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.sizes = "3M"
    kept = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    rows: dict[Key, Row] = {(r["size"], r["method"], r["steps"]): r for r in map(json.loads, kept)}
    for row in measure(options, rows):
        rows[row["size"], row["method"], row["steps"]] = row
        if options.keep:
            with options.keep.open("a") as file:
                file.write(json.dumps(row) + "\n")
    order = {name: i for i, name in enumerate(METHODS)}
    rows = dict(sorted(rows.items(), key=lambda item: (len(item[0][0]), order[item[0][1]], item[0][2])))
    verdicts = bars(rows)
    if options.json:
        judged = [{"bar": w, "value": v, "limit": b, "pass": v <= b} for w, v, b in verdicts]
        json.dump({"rows": list(rows.values()), "bars": judged}, sys.stdout)
    else:
        show(rows, verdicts)
    return int(any(value > limit for _, value, limit in verdicts))


if __name__ == "__main__":
    sys.exit(main())
