"""What governing an adaptation costs: ratios within one run, on the shipped model.

    python bench/governance.py [--tasks 24] [--rounds 4] [--json]

For each of N held-out tasks, after a warm-up and in turns, so that a busy machine slows all alike:

    un-governed   write samples, score and weigh them, take the step, answer with the new weights and with the base
    governed      `compute`, the very lines of an adaptation up to its decision: every gate of the catalogue that
                  generates nothing, and what the log says before and after (pause, depth, budget, cooldown, windows)
    recorded      all of `adapt`: who may ask, signing, sealing and appending to the ledger as well

All learn from the same samples. Without governance nobody asks the base for its answer, which is what is served where a
change does not apply; asking is generation, and no gate's. So the figure is

    governed_over_ungoverned = 1 + (governed - un-governed) / (un-governed without the base's answer)

of the medians over rounds of one task, and of these the median over tasks; the bar is 1.15. It is taken by processor
time, which others on the machine add little to, and by the clock on the wall; the headline is the larger of the two.
`answering_alike` divides by the un-governed side with both answers, `of_sums` divides sums over all tasks, `recorded`
adds the ledger, and `one_answer` counts the base's answer as governance too. What generates is left out of the ratios
and reported by itself: verifier agreement by fresh solutions a sample, and regression by suite size. `parts` are
medians of milliseconds of processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import yaml
from rich.console import Console
from rich.table import Table
from uuid6 import uuid7

from mass_gov.config import load_settings
from mass_gov.config_data import data_folder
from mass_gov.flows.adapt import adapt, compute
from mass_gov.flows.answering import answer_from
from mass_gov.flows.exchange import Answered, Request
from mass_gov.flows.monitoring import watching
from mass_gov.flows.standing import LogReading, refuse_paused
from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import Workbench, current_origin
from mass_gov.mass.values import TrainingSample, UpdateSettings
from mass_gov.policy.gate_settings import AgreementGate
from mass_gov.policy.sample_weights import weigh
from mass_gov.records.artifacts import SamplesContent
from mass_gov.stages.measuring import measure_agreement
from mass_gov.stages.regression import RegressionRunner
from mass_gov.stages.synthesis import score, synthesise
from mass_gov.tasks.registry import sample_tasks
from mass_gov.tasks.suite_building import build_suite, suite_bytes
from mass_gov.tasks.suites import parse_suite
from mass_gov.tasks.task import Task
from mass_gov.wiring import initialise, open_workbench, recommended_spec

BAR = 1.15
SEED = 23
SIZES = (48, 96, 200, 400)
RESOLVES = (4, 8)
HOLD, DROP = {"on_fail": "hold"}, {"limit": 1.0, "on_fail": "drop"}
GATES: dict[str, Any] = {
    "sample.contamination": {"similarity": 1.0, **DROP},
    "sample.personal_data": DROP,
    "sample.secrets": DROP,
    "sample.perplexity": {"low": 0.0, "high": 1000.0, **DROP},
    "update.distinct_2": {"limit": 0.0, **HOLD},
    "update.self_bleu": {"limit": 1.0, **HOLD},
    "update.real_share": {"limit": 0.0, **HOLD},
    "update.generation_depth": {"limit": 1000.0, **HOLD},
    "update.spectral_norm": {"limit": 10.0, **HOLD},
    "update.cumulative_spectral_norm": {"limit": 10.0, **HOLD},
    "update.anchor_kl": {"limit": 1000.0, **HOLD},
    "update.anchor_kl_p99": {"limit": 1000.0, **HOLD},
    "update.loss_jump": {"limit": 1000.0, **HOLD},
    "update.budget": {"changes_per_hour": 100_000, "flops_per_hour": 1e18, **HOLD},
    "update.cooldown": {"limit": 0.0, **HOLD},
}
"""Every later gate that generates nothing, with limits that nothing exceeds: what is timed is the looking."""


def everything_on(folder: Path) -> Path:
    """The policy `solo` with all of `GATES` in use, as a file."""
    document = yaml.safe_load((data_folder("policies") / "solo" / "v1.yaml").read_text())
    document["gates"] |= json.loads(json.dumps(GATES))  # copies: a policy file may hold no aliases
    path = folder / "everything.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class Clocks(NamedTuple):
    """Seconds on the wall, and of this process's processor time."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Clocks:
        """What both show."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Clocks) -> Clocks:
        """What passed since then."""
        return Clocks(self.wall - start.wall, self.processor - start.processor)


class Stages(Timed):
    """Both clocks by stage."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench.learner)
        self.clocks: dict[str, Clocks] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; what it took before is added to."""
        started = Clocks.now()
        with super().stage(name):
            yield
        took, before = Clocks.now().since(started), self.clocks.get(name, Clocks(0.0, 0.0))
        self.clocks[name] = Clocks(before.wall + took.wall, before.processor + took.processor)


class Pair(NamedTuple):
    """One task, once each way."""

    once: Clocks
    """Un-governed, with the new weights' answer alone."""
    alone: Clocks
    """The same with the base's answer too."""
    governed: Clocks
    recorded: Clocks


def ungoverned(bench: Workbench, task: Task, seed: int, kept: frozenset[int]) -> tuple[Clocks, Clocks]:
    """The adaptation with nobody watching: with the new weights' answer alone, and with the base's as well."""
    learner, spec = bench.learner, bench.spec
    started = Clocks.now()
    origin = current_origin(bench)
    written = score(learner, task.question, synthesise(learner, task.question, origin.adapter, seed, spec.sampling))
    used = [sample for sample in written.samples if sample.index in kept]
    weights = weigh([sample.score for sample in used])
    training = [
        TrainingSample(sample.question or "", sample.solution or "", weight)
        for sample, weight in zip(used, weights, strict=True)
    ]
    sizes = tuple(sorted((spec.update.step_sizes or {}).items()))
    settings = UpdateSettings(spec.update.steps, spec.update.step_size, sizes, spec.update.softening)
    adapter = learner.update(training, origin.start, settings).adapter
    answer_from(task.question, bench.base_state, adapter, bench)
    once = Clocks.now().since(started)
    answer_from(task.question, bench.base_state, None, bench)
    return once, Clocks.now().since(started)


def governed(bench: Workbench, task: Task, seed: int) -> tuple[Clocks, dict[str, Clocks]]:
    """Up to the decision, without regression; and the stages."""
    started, stages = Clocks.now(), Stages(bench)
    refuse_paused("instance", bench)
    origin = current_origin(bench)
    with stages:
        log, watch = LogReading("instance", origin, bench).measures, watching(str(uuid7()), bench)
        compute(task.question, "instance", seed, origin, bench, from_log=log, watch=watch, timed=stages)
    took, regressed = Clocks.now().since(started), stages.clocks.pop("regression")
    return Clocks(took.wall - regressed.wall, took.processor - regressed.processor), stages.clocks


def recorded(bench: Workbench, task: Task, seed: int, name: str) -> Answered:
    """All of it, with the ledger."""
    return adapt(Request(task.question, name, seed=seed), bench)


def kept_of(answered: Answered, bench: Workbench) -> frozenset[int]:
    """Which samples the governed update learned from."""
    content = SamplesContent.model_validate_json(bench.ledger.artifact(answered.change.entry, "samples"))
    return frozenset(sample.index for sample in content.samples if not sample.dropped_by)


def compare(bench: Workbench, tasks: Sequence[Task], rounds: int) -> dict[str, Any]:
    """Governed and un-governed, in turns, the one first and then the other."""
    kept = [kept_of(recorded(bench, task, i, f"warm/{i}"), bench) for i, task in enumerate(tasks)]
    for i, task in enumerate(tasks[:2]):
        ungoverned(bench, task, i, kept[i])
    pairs: list[list[Pair]] = [[] for _ in tasks]
    parts = defaultdict[str, list[float]](list)
    for turn in range(rounds):
        for i, task in enumerate(tasks):
            first = ungoverned(bench, task, i, kept[i]) if (i + turn) % 2 else None
            decided, stages = governed(bench, task, i)
            once, alone = first or ungoverned(bench, task, i, kept[i])
            ledger = _ledger(bench, task, i, f"{turn}/{i}")
            pairs[i].append(Pair(once, alone, decided, ledger))
            for name, took in (*stages.items(), ("ledger", ledger), ("un-governed", once)):
                parts[name].append(1e3 * took.processor)
            parts["base's answer"].append(1e3 * (alone.processor - once.processor))
    found = {clock: _ratios(pairs, clock) for clock in Clocks._fields}
    return {
        "governed_over_ungoverned": max(one["governed"] for one in found.values()),
        **found,
        "parts": {name: statistics.median(values) for name, values in parts.items()},
    }


def _ledger(bench: Workbench, task: Task, seed: int, name: str) -> Clocks:
    """What recording adds: all of `adapt` but what `compute` does."""
    inside = Clocks(0.0, 0.0)

    def computing(*given: Any, **named: Any) -> Any:
        nonlocal inside
        started = Clocks.now()
        try:
            return compute(*given, **named)
        finally:
            inside = Clocks.now().since(started)

    started = Clocks.now()
    with patch("mass_gov.flows.adapt.compute", computing):
        recorded(bench, task, seed, name)
    took = Clocks.now().since(started)
    return Clocks(took.wall - inside.wall, took.processor - inside.processor)


def _ratios(pairs: Sequence[Sequence[Pair]], clock: str) -> dict[str, Any]:
    """By one clock: of the medians over rounds of each task, the medians over tasks."""
    tasks = [
        [statistics.median(getattr(one, clock) for one in field) for field in zip(*of, strict=True)] for of in pairs
    ]
    ratios = [1 + (decided - alone) / once for once, alone, decided, _ in tasks]
    once, alone, decided, _ = map(sum, zip(*tasks, strict=True))
    return {
        "governed": statistics.median(ratios),
        "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)],
        "of_sums": 1 + (decided - alone) / once,
        "answering_alike": statistics.median(decided / alone for _, alone, decided, _ in tasks),
        "recorded": statistics.median(1 + (g + ledger - alone) / once for once, alone, g, ledger in tasks),
        "one_answer": statistics.median((g + ledger) / once for once, _, g, ledger in tasks),
    }


def agreement(bench: Workbench, tasks: Sequence[Task]) -> dict[str, dict[str, float]]:
    """Seconds and FLOPs a sample, by fresh solutions a sample."""
    found: dict[str, dict[str, float]] = {}
    gates = bench.policy.document.gates
    for resolves in RESOLVES:
        document = bench.policy.document.model_copy(
            update={"gates": gates.model_copy(update={"sample_agreement": _agreement_gate(resolves)})}
        )
        policy = bench.policy.model_copy(update={"document": document})
        seconds, flops, samples = [], [], 0
        for i, task in enumerate(tasks):
            written = synthesise(bench.learner, task.question, None, i, bench.spec.sampling)
            # A sample whose perplexity nobody noted is dropped, and a dropped one is not solved again.
            written = score(bench.learner, task.question, written, perplexity=True)
            before, started = bench.learner.flops, time.perf_counter()
            measure_agreement(
                bench.learner,
                written,
                task.question,
                None,
                i,
                policy,
                "instance",
                bench.cases_for("instance"),
                bench.spec.sampling.max_new_tokens,
            )
            seconds.append((time.perf_counter() - started) / len(written.samples))
            flops.append((bench.learner.flops - before) / len(written.samples))
            samples += len(written.samples)
        found[str(resolves)] = {
            "seconds_per_sample": statistics.median(seconds),
            "flops_per_sample": statistics.median(flops),
            "samples": samples,
        }
    return found


def _agreement_gate(resolves: int) -> Any:
    return AgreementGate(resolves=resolves, agreement=0.7, limit=1.0, on_fail="drop")


def regression(bench: Workbench) -> dict[str, dict[str, float]]:
    """Seconds and FLOPs of one state, by the number of cases."""
    cases = build_suite("bench", 1, 1, max(SIZES) // 4)
    found = {}
    for size in SIZES:
        suite = parse_suite(suite_bytes(cases[:: max(1, len(cases) // size)][:size]))
        runner = RegressionRunner(bench.learner, suite, bench.spec.answer)
        before, started = bench.learner.flops, time.perf_counter()
        runner.answers(bench.base_state, None)
        found[str(len(suite.cases))] = {
            "seconds": time.perf_counter() - started,
            "flops": float(bench.learner.flops - before),
        }
    return found


def measure(count: int, rounds: int) -> dict[str, Any]:
    """Everything, in a ledger of its own."""
    tasks = sample_tasks(count, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder) / "home")
        initialise(settings, str(everything_on(Path(folder))))[0].close()
        bench = open_workbench(settings, recommended_spec(settings))
        with bench.ledger:
            found = compare(bench, tasks, rounds)
            found |= {"tasks": count, "rounds": rounds, "bar": BAR, "gates": len(GATES) + 10}
            return found | {"agreement": agreement(bench, tasks[:4]), "regression": regression(bench)}


def _print(found: dict[str, Any]) -> None:
    console = Console()
    table = Table("what", "figure", title=f"governance of {found['tasks']} tasks, {found['rounds']} rounds each")
    table.add_row("governed / un-governed", f"{found['governed_over_ungoverned']:.3f} (bar {found['bar']})")
    for clock in Clocks._fields:
        for name, value in found[clock].items():
            table.add_row(f"{clock}: {name}", str(value) if isinstance(value, list) else f"{value:.3f}")
    for name, value in found["parts"].items():
        table.add_row(f"{name}, ms", f"{value:.1f}")
    for resolves, row in found["agreement"].items():
        per = f"{1e3 * row['seconds_per_sample']:.1f} ms, {row['flops_per_sample']:.3g} FLOPs"
        table.add_row(f"agreement a sample, {resolves} solutions", per)
    for size, row in found["regression"].items():
        table.add_row(f"regression of one state, {size} cases", f"{row['seconds']:.2f} s, {row['flops']:.3g} FLOPs")
    console.print(table)


def main() -> int:
    """Print one table, or one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.tasks, options.rounds)
    if options.json:
        json.dump(found, sys.stdout)
    else:
        _print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
