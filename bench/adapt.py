"""What governing an adaptation costs, and what a replay costs beside the change it repeats: ratios within one run.

    python bench/adapt.py [--tasks 12] [--json]

For each of N held-out tasks: the un-governed adaptation (write samples, take the step, answer), the governed one (the
same plus gates, regression, decision, signing, sealing, the ledger), and its replay from the delta, from the samples
and from scratch. One row per figure: median of the per-task ratio to the un-governed adaptation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from mass_gov.config import load_settings
from mass_gov.flows.adapt import adapt
from mass_gov.flows.exchange import Request
from mass_gov.flows.replay import replay
from mass_gov.flows.workbench import Workbench, current_origin
from mass_gov.stages.gates import gate_samples
from mass_gov.stages.synthesis import score, scorer_of, synthesise
from mass_gov.stages.update import take_steps
from mass_gov.tasks.registry import sample_tasks
from mass_gov.wiring import open_workbench, recommended_spec

T = TypeVar("T")


def timed(work: Callable[..., T], *arguments: object) -> tuple[float, T]:
    """Wall seconds of one call, and its result."""
    started = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - started, result


def ungoverned(question: str, seed: int, bench: Workbench) -> None:
    """The same adaptation with nobody watching: samples, step, answer."""
    origin = current_origin(bench)
    written = synthesise(bench.learner, question, origin.adapter, seed, bench.spec.sampling)
    scored = score(bench.learner, question, written)
    samples, _ = gate_samples(scored, question, bench.policy, origin.state, scorer_of(bench.learner, scored))
    learned = take_steps(bench.learner, samples, origin.start, origin.state, bench.spec.update)
    bench.learner.answer([question], learned.adapter, max_new_tokens=bench.spec.answer.max_new_tokens)


def measure(tasks: int) -> dict[str, list[float]]:
    """Ratios per task to the un-governed adaptation of the same task."""
    found: dict[str, list[float]] = {"governed": [], "replay delta": [], "replay samples": [], "replay scratch": []}
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder) / "home")
        bench = open_workbench(settings, recommended_spec(settings))
        for i, task in enumerate(sample_tasks(tasks + 1, seed=11)):
            alone, _ = timed(ungoverned, task.question, i, bench)
            governed, answered = timed(adapt, Request(task.question, task.task_id, seed=i), bench)
            change_id = answered.change.change_id
            again = {start: timed(replay, change_id, start, bench)[0] for start in ("delta", "samples", "scratch")}
            if i == 0:
                continue  # the first task also warms up the base's regression outcomes
            found["governed"].append(governed / alone)
            for start, spent in again.items():
                found[f"replay {start}"].append(spent / alone)
        bench.ledger.close()
    return found


def main() -> int:
    """Print one table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ratios = measure(options.tasks)
    rows = {name: {"median": statistics.median(v), "min": min(v), "max": max(v)} for name, v in ratios.items()}
    if options.json:
        json.dump({"tasks": options.tasks, "over_ungoverned": rows}, sys.stdout)
        return 0
    table = Table("figure", "median", "min", "max", title=f"times the un-governed adaptation, {options.tasks} tasks")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.2f}" for key in ("median", "min", "max")))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
