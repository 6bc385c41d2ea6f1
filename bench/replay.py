"""What a replay costs beside the change that it repeats: ratios within one run, on the shipped model.

    python bench/replay.py [--tasks 12] [--policy default] [--json]

For each of N held-out tasks, after a warm-up: the change as it is served (`adapt`: all of it, the ledger included),
then its replay from the delta, from the samples and from scratch, in the same process. Figures are medians over tasks
of replay seconds over the change's; the bars are 1/5 from the delta and 1.1 from scratch. Reads and unseals the record
as `mass-gov replay` does; opening the model is in none of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mass_gov.config import load_settings
from mass_gov.flows.adapt import adapt
from mass_gov.flows.exchange import Request
from mass_gov.flows.replay import replay
from mass_gov.flows.replay_report import Start
from mass_gov.tasks.registry import sample_tasks
from mass_gov.wiring import initialise, open_workbench, recommended_spec

SEED = 29
BARS: dict[Start, float | None] = {"delta": 0.2, "samples": None, "scratch": 1.1}


def measure(count: int, policy: str) -> dict[str, Any]:
    """Ratios by where the replay starts; every replay has to be equal."""
    ratios: dict[str, list[float]] = defaultdict(list)
    changes: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder) / "home")
        initialise(settings, policy)[0].close()
        bench = open_workbench(settings, recommended_spec(settings))
        with bench.ledger:
            for i, task in enumerate(sample_tasks(count + 2, seed=SEED)):
                started = time.perf_counter()
                change_id = adapt(Request(task.question, str(i), seed=i), bench).change.change_id
                change = time.perf_counter() - started
                spent = {start: _seconds(change_id, start, bench) for start in BARS}
                if i < 2:  # the first two also warm up what is kept of the base
                    continue
                changes.append(change)
                for start, seconds in spent.items():
                    ratios[start].append(seconds / change)
    return {
        "tasks": count,
        "policy": policy,
        "change_ms": 1e3 * statistics.median(changes),
        "over_change": {
            start: {"median": statistics.median(ratios[start]), "max": max(ratios[start]), "bar": bar}
            for start, bar in BARS.items()
        },
    }


def _seconds(change_id: str, start: Start, bench: Any) -> float:
    started = time.perf_counter()
    replayed = replay(change_id, start, bench)
    spent = time.perf_counter() - started
    if replayed.verdict != "equal":
        raise SystemExit(f"{change_id} from {start}: {replayed.detail}")
    return spent


def main() -> int:
    """Print one table, or one JSON object; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.tasks, options.policy)
    rows = found["over_change"]
    if options.json:
        json.dump(found, sys.stdout)
    else:
        title = f"replay over change ({found['change_ms']:.0f} ms), {options.tasks} tasks, policy {options.policy}"
        table = Table("from", "median", "largest", "bar", title=title)
        for start, row in rows.items():
            table.add_row(start, f"{row['median']:.2f}", f"{row['max']:.2f}", str(row["bar"] or "-"))
        Console().print(table)
    return int(any(row["bar"] is not None and row["median"] > row["bar"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
