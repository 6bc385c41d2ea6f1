"""What updates of the shipped core do to the regression suites: flips, verdicts, seconds. `--json` prints one object.

Adapts to held-out tasks of every domain with the trained core, on what the sample gates of `research` let through (no
gate of an update stands before a suite here), runs every shipped suite on each new state, and judges it by the margin
that the suite declares (`core-v1`: 0.10).
Harmful updates are the same ones with their steps taken three times as long. Seconds are CPU seconds of the one run
that a change costs; base and previous state are asked once for all. `--tasks N` and `--seed S` choose the tasks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mass_gov.config import load_settings
from mass_gov.flows.workbench import Workbench, current_origin
from mass_gov.policy.bounds import paired_lower_bound
from mass_gov.stages.gates import gate_samples
from mass_gov.stages.regression import RegressionRunner
from mass_gov.stages.synthesis import score, scorer_of, synthesise
from mass_gov.stages.update import Learned, take_steps
from mass_gov.tasks.registry import sample_tasks
from mass_gov.wiring import initialise, open_workbench, recommended_spec

SUITES = ("core-v1", "instance-v1", "deployment-v1")
HARM = 3.0


@dataclass(frozen=True)
class Run:
    """One suite on one new state."""

    suite: str
    domain: str
    kind: str
    n: int
    lost: int
    gained: int
    critical_lost: int
    passed: bool
    seconds: float


def learn(bench: Workbench, question: str, seed: int) -> Iterator[tuple[str, Learned]]:
    """The update for one task, and the same one with longer steps."""
    origin, update = current_origin(bench), bench.spec.update
    samples = score(
        bench.learner, question, synthesise(bench.learner, question, origin.adapter, seed, bench.spec.sampling)
    )
    samples, _ = gate_samples(
        samples,
        question,
        bench.policy,
        origin.state,
        scorer_of(bench.learner, samples),
        cases=bench.cases_for("instance"),
    )
    longer = update.model_copy(
        update={
            "step_size": HARM * update.step_size,
            "step_sizes": {name: HARM * size for name, size in (update.step_sizes or {}).items()} or None,
        }
    )
    for kind, settings in (("as taken", update), ("steps x3", longer)):
        learned = take_steps(bench.learner, samples, origin.start, origin.state, settings)
        if learned.files is not None:
            yield kind, learned


def run(runner: RegressionRunner, name: str, base_state: str, learned: Learned, domain: str, kind: str) -> Run:
    """One suite on one new state, against the base."""
    base = runner.answers(base_state, None)
    started, state = time.process_time(), learned.summary.state
    after = runner.answers(state, learned.adapter)
    seconds = time.process_time() - started
    runner.forget(state)
    cases, header = runner.suite.cases, runner.suite.header
    pairs = [(b == case.answer, a == case.answer) for b, a, case in zip(base, after, cases, strict=True)]
    lost, gained = pairs.count((True, False)), pairs.count((False, True))
    critical = sum(case.critical and pair == (True, False) for case, pair in zip(cases, pairs, strict=True))
    margin = header.margin if header is not None else 0.10
    passed = paired_lower_bound(gained, lost, len(cases)) >= -margin and critical == 0
    return Run(name, domain, kind, len(cases), lost, gained, critical, passed, seconds)


def measure(tasks: int, seed: int) -> list[Run]:
    """All suites on all updates."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder))
        initialise(settings, "research")[0].close()  # the one whose gates on samples ask for no measure of a model
        bench = open_workbench(settings, recommended_spec(settings))
        runners = {name: bench.runners.named(name, bench.spec.answer) for name in SUITES}
        runs = [
            run(runner, name, bench.base_state, learned, task.domain, kind)
            for i, task in enumerate(sample_tasks(tasks, seed))
            for kind, learned in learn(bench, task.question, i)
            for name, runner in runners.items()
        ]
        bench.ledger.close()
        return runs


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """Per suite, kind of update and domain of the task, and over all domains."""
    groups: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for one in runs:
        for domain in (one.domain, "all"):
            groups[one.suite, one.kind, domain].append(one)
    return [
        {
            "suite": suite,
            "updates": kind,
            "tasks of": domain,
            "changes": len(mine),
            "cases": mine[0].n,
            "lost": sum(one.lost for one in mine) / sum(one.n for one in mine),
            "gained": sum(one.gained for one in mine) / sum(one.n for one in mine),
            "critical_lost": sum(one.critical_lost for one in mine),
            "passed": sum(one.passed for one in mine) / len(mine),
            "seconds": sum(one.seconds for one in mine) / len(mine),
        }
        for (suite, kind, domain), mine in sorted(groups.items())
    ]


def main() -> None:
    """Print the table, or one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=48)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = summary(measure(asked.tasks, asked.seed))
    if asked.json:
        print(json.dumps({"tasks": asked.tasks, "seed": asked.seed, "rows": rows}))
        return
    print("  ".join(rows[0]))
    for row in rows:
        print("  ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))


if __name__ == "__main__":
    main()
