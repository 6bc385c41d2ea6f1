"""What governing an adaptation costs: ratios within one run, on the shipped model.

    python bench/governance.py [--tasks 12] [--rounds 2] [--json]

For each of N held-out tasks, after a warm-up and in turns, so that a busy machine slows both alike:

    un-governed   write samples, score and weigh them, take the step, answer with the new weights and with the base
    governed      the same through `adapt`: every gate of the catalogue that generates nothing, what the log says
                  (depth, budget, cooldown), and the decision
    recorded      all of `adapt`: who may ask, signing, sealing and appending to the ledger as well

Both learn from the same samples. `governed_over_ungoverned` is the median over tasks and rounds of governed seconds
over un-governed ones; the bar is 1.15. `recorded_over_ungoverned` is the same with the ledger. Both sides answer alike:
the base's answer is what is served where a change does not apply; `one_answer` counts it as governance too. What
generates is left out of the ratios and reported by itself: verifier agreement by fresh solutions a sample, and
regression by suite size. `parts` are medians of milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from mass_gov.config import load_settings
from mass_gov.config_data import data_folder
from mass_gov.flows.adapt import adapt, answer_from
from mass_gov.flows.exchange import Answered, Request
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


class Timing:
    """Milliseconds by what was timed."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = defaultdict(list)

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Time one call."""
        started = time.perf_counter()
        result = work()
        self.found[name].append(1e3 * (time.perf_counter() - started))
        return result


def ungoverned(bench: Workbench, task: Task, seed: int, kept: frozenset[int]) -> tuple[float, float]:
    """The adaptation with nobody watching; returns the seconds with both answers, and with the new weights' alone."""
    learner, spec = bench.learner, bench.spec
    started = time.perf_counter()
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
    once = time.perf_counter() - started
    answer_from(task.question, bench.base_state, None, bench)
    return time.perf_counter() - started, once


def governed(bench: Workbench, task: Task, seed: int, name: str) -> tuple[float, float, Answered]:
    """The same through `adapt`; returns the seconds up to the decision and of all of it, both without regression."""
    started = time.perf_counter()
    answered = adapt(Request(task.question, name, seed=seed), bench)
    spent = time.perf_counter() - started
    seconds = answered.change.body.cost.seconds
    return sum(seconds.values()) - seconds["regression"], spent - seconds["regression"], answered


def kept_of(answered: Answered, bench: Workbench) -> frozenset[int]:
    """Which samples the governed update learned from."""
    content = SamplesContent.model_validate_json(bench.ledger.artifact(answered.change.entry, "samples"))
    return frozenset(sample.index for sample in content.samples if not sample.dropped_by)


def compare(bench: Workbench, tasks: Sequence[Task], rounds: int) -> dict[str, Any]:
    """Governed and un-governed, in turns, the one first and then the other."""
    kept = [kept_of(governed(bench, task, i, f"warm/{i}")[2], bench) for i, task in enumerate(tasks)]
    for i, task in enumerate(tasks[:2]):
        ungoverned(bench, task, i, kept[i])
    pairs, parts = [], defaultdict[str, list[float]](list)
    for turn in range(rounds):
        for i, task in enumerate(tasks):
            first = ungoverned(bench, task, i, kept[i]) if (i + turn) % 2 else None
            decided, recorded, answered = governed(bench, task, i, f"{turn}/{i}")
            alone, once = first or ungoverned(bench, task, i, kept[i])
            pairs.append((decided, recorded, alone, once))
            for stage, value in answered.change.body.cost.seconds.items():
                parts[stage].append(1e3 * value)
            parts["ledger"].append(1e3 * (recorded - decided))
            parts["un-governed"].append(1e3 * alone)
    ratios = [decided / alone for decided, _, alone, _ in pairs]
    return {
        "governed_over_ungoverned": statistics.median(ratios),
        "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)],
        "recorded_over_ungoverned": statistics.median(recorded / alone for _, recorded, alone, _ in pairs),
        "one_answer": statistics.median(recorded / once for _, recorded, _, once in pairs),
        "parts": {name: statistics.median(values) for name, values in parts.items()},
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
    table.add_row("quartiles", ", ".join(map(str, found["quartiles"])))
    table.add_row("recorded / un-governed", f"{found['recorded_over_ungoverned']:.3f}")
    table.add_row("the same, the base's answer counted as governance", f"{found['one_answer']:.3f}")
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
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
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
