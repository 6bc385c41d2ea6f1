"""Do the window monitors alarm in time, and only then? Simulated streams, judged by the product's own lines.

    python bench/monitors.py [--streams 200] [--changes 1000] [--parts recursion,healthy,power] [--bank 480]
                             [--bank-seed 78] [--processes 1] > report.json
    python bench/monitors.py --pool      count the reference pool again and compare it with the shipped table

recursion  a learner that is trained on what it writes (`recursive_learner`), without and with a real share of 0.2: when
           the first window monitor alarms, when accuracy has fallen by 10 points, and by how many changes the alarm
           leads
healthy    streams in which nothing is wrong: samples as the shipped core writes them for fresh hard tasks, of all
           domains or of one, and probes at several discordance rates, balanced or losing exactly the tolerance. The
           share of streams with an alarm of any monitor within `--changes` changes, with its exact 95% upper bound
power      a state that loses a little with every change: after how many of them the e-process alarms

Limits are those of `policies/default`. Exit status 1 if a promise does not hold: alarms lead in at
least 95% of collapsing streams, real share keeps accuracy, at most 5% of healthy streams alarm.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from recursive_learner import DOMAIN, RecursiveLearner, World
from rich.console import Console
from scipy.stats import beta

from mass_gov.mass.batched_learner import BatchedLearner
from mass_gov.mass.prompting import ParsedSample, parse_sample
from mass_gov.mass.reference_model import trained_folder
from mass_gov.policy import load_policy
from mass_gov.policy.diversity import distinct_2
from mass_gov.policy.gate_settings import AtLeastGate, Gates
from mass_gov.policy.monitors.coverage import shown_by
from mass_gov.policy.monitors.reference import COUNTS, DRAWS
from mass_gov.policy.monitors.windows import History, Past, measures_of, reach_of
from mass_gov.records.change import SCOPES, Measure
from mass_gov.tasks.kinds import kind_of, practice_kind
from mass_gov.tasks.registry import DOMAINS, sample_tasks
from mass_gov.tasks.task import META_SEEDS

JUDGED = ("window.flips", "window.distinct_2", "window.tail_coverage", "window.density_ratio")
FALL = 0.10
"""Accuracy that is lost when a stream counts as collapsed."""
STEPS = 300
REAL_SHARE = 0.2
RATES = (0.01, 0.03, 0.08)
DRIFTS = (0.005, 0.01, 0.02, 0.05)
Own = tuple[Measure, ...]


def gates() -> Gates:
    """The default policy's gates, for whatever scope a stream has."""
    source = (Path(__file__).parent.parent / "policies" / "default" / "v1.yaml").read_bytes()
    settings = load_policy(source).document.gates
    judged = {name.replace(".", "_"): getattr(settings, name.replace(".", "_")) for name in JUDGED}
    both = {name: gate.model_copy(update={"scopes": SCOPES}) for name, gate in judged.items()}
    return settings.model_copy(update=both)


def limits(settings: Gates) -> dict[str, Any]:
    """What the gates judged here allow, as the policy says it."""
    return {name: getattr(settings, name.replace(".", "_")).model_dump(mode="json") for name in JUDGED}


class Stream:
    """A deployment's changes, each judged in its window as `adapt` judges them."""

    def __init__(self, settings: Gates) -> None:
        reach = reach_of(settings)
        assert reach is not None
        self._settings, self._reach = settings, reach
        self._past = deque[Past](maxlen=max(reach.recent, reach.probed))
        self.index = 0

    def change(self, own: Own) -> dict[str, Measure]:
        """Record one change; returns its measures."""
        known = {measure.name: measure for measure in own}
        past = tuple(self._past)
        window = self._reach.cut(History(past, past))
        known |= {measure.name: measure for measure in measures_of(self._settings, known, window)}
        self._past.append(Past(self.index, "deployment", known, False))
        self.index += 1
        return known

    def alarms(self, measures: Mapping[str, Measure]) -> list[str]:
        """Gates that these measures fail."""
        return [name for name in JUDGED if name in measures and self._fails(name, measures[name].value or 0.0)]

    def _fails(self, name: str, value: float) -> bool:
        gate = getattr(self._settings, name.replace(".", "_"))
        return bool(value < gate.limit if isinstance(gate, AtLeastGate) else value > gate.limit)


def sampled(shown: Mapping[str, Sequence[str | None]], questions: Sequence[str]) -> Own:
    """What a change records of its samples."""
    kinds = [
        Measure(name=f"window.kinds.{name}", value=float(bits), n=n)
        for name, (bits, n) in ((name, shown_by(name, kinds)) for name, kinds in sorted(shown.items()))
    ]
    return (Measure(name="window.distinct_2.own", value=distinct_2(questions) or 1.0, n=len(questions)), *kinds)


def probed(cases: int, previous: tuple[int, int], base: tuple[int, int]) -> Own:
    """What a change records of its probe: (lost, gained) against the previous state and against the base."""
    names = ("lost", "gained", "lost_to_base", "gained_to_base")
    return tuple(
        Measure(name=f"window.flips.{name}", value=float(count), n=cases)
        for name, count in zip(names, (*previous, *base), strict=True)
    )


_processes = 1


def spread(work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
    """Do the jobs, on several processes where asked for, and give the results in their order."""
    if _processes == 1:
        yield from map(work, jobs)
        return
    with multiprocessing.get_context("fork").Pool(_processes) as pool:
        yield from pool.imap(work, jobs)


# ---- recursion ----


def recursion(streams: int, share: float, settings: Gates, say: Callable[[str], None]) -> dict[str, Any]:
    """Streams of recursive self-training: when they alarm, and when accuracy has fallen."""
    found = []
    for one in spread(_recursive_job, [(seed, share, settings) for seed in range(streams)]):
        found.append(one)
        say(f"recursion, real share {share}: {len(found)}/{streams}")
    collapsed = [one for one in found if one.fell is not None]
    leads = [one.fell - one.alarm for one in collapsed if one.alarm is not None and one.fell is not None]
    return {
        "real_share": share,
        "streams": streams,
        "changes": STEPS,
        "collapsed": len(collapsed),
        "alarm_before_fall": sum(lead > 0 for lead in leads),
        "by_tail": sum(one.tail is not None and one.fell is not None and one.tail < one.fell for one in collapsed),
        "alarmed": sum(one.alarm is not None for one in found),
        "first": dict(Counter(one.which for one in found if one.which)),
        "lead": _quantiles(leads),
        "alarm_at": _quantiles([one.alarm for one in found if one.alarm is not None]),
        "fall_at": _quantiles([one.fell for one in collapsed if one.fell is not None]),
        "accuracy_in_the_end": _quantiles([one.end for one in found]),
        "accuracy_at_start": found[0].start,
    }


@dataclass(frozen=True)
class Recursive:
    """One stream: the change of its first alarm, of its first tail alarm, and of its fall."""

    start: float
    end: float
    alarm: int | None
    which: str | None
    tail: int | None
    fell: int | None


_world = cache(World.make)


def _recursive_job(job: tuple[int, float, Gates]) -> Recursive:
    seed, share, settings = job
    return _recursive_stream(RecursiveLearner(_world(), seed, share), Stream(_of_samples(settings)))


def _recursive_stream(learner: RecursiveLearner, stream: Stream) -> Recursive:
    start = accuracy = learner.accuracy()
    alarm: int | None = None
    which: str | None = None
    tail: int | None = None
    fell: int | None = None
    for place in range(1, STEPS + 1):
        kept = learner.step()
        own = sampled({DOMAIN: [kind for _, kind in kept]}, [text for text, _ in kept])
        failed = stream.alarms(stream.change(own))
        if failed and alarm is None:
            alarm, which = place, failed[0]
        if "window.tail_coverage" in failed and tail is None:
            tail = place
        accuracy = learner.accuracy() if place % 5 == 0 else accuracy
        if accuracy < start - FALL:
            fell = place
            break  # what comes after the fall is of no interest
    return Recursive(start, accuracy, alarm, which, tail, fell)


# ---- healthy ----


def practice_bank(size: int, seed: int) -> list[tuple[str, Own]]:
    """What the shipped core's own practice for fresh hard tasks records, per task domain: `size` changes."""
    learner = BatchedLearner.open(trained_folder())
    tasks = sample_tasks(size, seed)
    core = learner.core.settings() if learner.core is not None else None
    if core is None:
        raise SystemExit("the shipped model has no trained core: nothing says how it samples")
    count = core.samples
    prompts = [learner.template.practise_prompt(task.question) for task in tasks for _ in range(count)]
    seeds = [place // count for place in range(len(prompts))]
    heat, limit = core.sampling.temperature, core.sampling.max_new_tokens
    written = learner.generate(prompts, None, max_new_tokens=limit, temperature=heat, seeds=seeds, strata=count)
    bank = []
    for place, task in enumerate(tasks):
        parsed = [
            parse_sample(one.text, learner.template, finished=one.finished)
            for one in written[place * count : (place + 1) * count]
        ]
        kept = [one.question for one in parsed if isinstance(one, ParsedSample)]
        if not kept:
            continue
        shown: dict[str, list[str | None]] = {}
        for text in kept:
            if (kind := practice_kind(task.question, text)) is not None:
                shown.setdefault(kind[0], []).append(kind[1])
        bank.append((task.domain, sampled(shown, kept)))
    return bank


def healthy(
    streams: int, changes: int, bank: Sequence[tuple[str, Own]], settings: Gates, say: Callable[[str], None]
) -> dict[str, Any]:
    """Streams in which nothing is wrong: which of them alarm all the same."""
    conditions = [(rate, edge) for rate in RATES for edge in (False, True)]
    jobs, mixes = [], []
    for seed in range(streams):
        # Half of the streams have every domain, the others one each.
        mix = None if seed % 2 == 0 else list(DOMAINS)[seed // 2 % len(DOMAINS)]
        owns = [own for name, own in bank if mix in (None, name)]
        jobs.append((seed, changes, owns, *conditions[seed // 2 % len(conditions)], settings))
        mixes.append(mix or "all domains")
    alarms, by_mix = Counter[str](), Counter[str]()
    extremes: dict[str, list[float]] = {name: [] for name in JUDGED}
    for done, (mix, (failed, worst)) in enumerate(zip(mixes, spread(_healthy_job, jobs), strict=True), start=1):
        for name, value in worst.items():
            extremes[name].append(value)
        if failed is not None:
            alarms[failed] += 1
            by_mix[mix] += 1
        say(f"healthy: {done}/{streams}, {alarms.total()} alarmed")
    alarmed = alarms.total()
    return {
        "streams": streams,
        "changes": changes,
        "alarmed": alarmed,
        "share": alarmed / streams,
        "upper_bound_95": float(beta.ppf(0.95, alarmed + 1, streams - alarmed)) if alarmed < streams else 1.0,
        "by_monitor": dict(alarms),
        "by_mix": dict(by_mix),
        "bank": len(bank),
        "worst": {name: _quantiles(values) for name, values in extremes.items()},
    }


def _healthy_job(job: tuple[int, int, Sequence[Own], float, bool, Gates]) -> tuple[str | None, dict[str, float]]:
    return _healthy_stream(*job)


def _healthy_stream(
    seed: int, changes: int, owns: Sequence[Own], rate: float, edge: bool, settings: Gates
) -> tuple[str | None, dict[str, float]]:
    rng, stream = np.random.default_rng(seed), Stream(settings)
    gate = settings.window_flips
    assert gate != "unused"
    lost = rate + (gate.tolerance if edge else 0.0)
    worst: dict[str, float] = {}
    for _ in range(changes):
        flips = [rng.multinomial(gate.cases, (lost, rate, 1 - lost - rate)) for _ in range(2)]
        probe = probed(gate.cases, *((int(one[0]), int(one[1])) for one in flips))
        found = stream.change((*owns[int(rng.integers(len(owns)))], *probe))
        for name in JUDGED:
            value, least = found[name].value or 0.0, isinstance(getattr(settings, name.replace(".", "_")), AtLeastGate)
            worst[name] = min(worst.get(name, value), value) if least else max(worst.get(name, value), value)
        if failed := stream.alarms(found):
            return failed[0], worst
    return None, worst


# ---- power ----


def power(streams: int, settings: Gates, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """How soon a slow loss is noticed, by what is lost with every change and by the discordance of equal states."""
    found = []
    for rate in RATES[:2]:
        for drift in DRIFTS:
            at = list(spread(_drift_job, [(seed, rate, drift, settings) for seed in range(streams)]))
            caught = [one for one in at if one is not None]
            say(f"power: {rate}, {drift}")
            row = {"discordance": rate, "lost_per_change": drift, "streams": streams, "caught": len(caught)}
            found.append(row | {"after": _quantiles(caught)})
    return found


def _drift_job(job: tuple[int, float, float, Gates]) -> int | None:
    return _drift(*job)


def _drift(seed: int, rate: float, drift: float, settings: Gates, before: int = 100, limit: int = 200) -> int | None:
    """Changes after the loss begins, which is after `before` healthy ones; None where it is not noticed."""
    rng, stream = np.random.default_rng(10**6 + seed), Stream(_only_flips(settings))
    gate = settings.window_flips
    assert gate != "unused"
    for place in range(1, before + limit + 1):
        fallen = max(0, place - before)
        rates = [
            (rate + (drift if fallen else 0), rate),
            (min(0.9, rate + drift * fallen), rate * max(0.0, 1 - drift * fallen)),
        ]
        flips = [rng.multinomial(gate.cases, (lost, gained, 1 - lost - gained)) for lost, gained in rates]
        probe = probed(gate.cases, *((int(one[0]), int(one[1])) for one in flips))
        if stream.alarms(stream.change(probe)):
            return fallen or None
    return None


def _of_samples(settings: Gates) -> Gates:
    """Without the flips: would the samples alone have told?"""
    return settings.model_copy(update={"window_flips": "unused"})


@cache
def _only_flips(settings: Gates) -> Gates:
    return settings.model_copy(update={name.replace(".", "_"): "unused" for name in JUDGED[1:]})


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    pick = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: ordered[min(len(ordered) - 1, int(q * len(ordered)))] for name, q in pick.items()}


def pool_counts() -> dict[str, dict[str, int]]:
    """Count the reference pool as the shipped table was counted."""
    found = {}
    for name, one in DOMAINS.items():
        tasks = (one.subproblem(one.sample(META_SEEDS + i * 7919, "meta"), i) for i in range(DRAWS))
        counts = Counter(kind_of(task) for task in tasks)
        found[name] = {kind: count for kind, count in counts.items() if count >= 16}
    return found


def promises(report: Mapping[str, Any]) -> list[str]:
    """What does not hold."""
    broken = []
    for one in report.get("recursion", ()):
        if one["real_share"] == 0 and not (one["collapsed"] and one["by_tail"] >= 0.95 * one["collapsed"]):
            broken.append("the tail monitor does not alarm before accuracy falls")
        if one["real_share"] > 0 and one["collapsed"] > 0.05 * one["streams"]:
            broken.append("a real share does not keep accuracy")
    if "healthy" in report and report["healthy"]["share"] > 0.05:
        broken.append("more than 5% of the healthy streams alarm")
    return broken


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--bank", type=int, default=480)
    parser.add_argument(
        "--bank-seed", type=int, default=78, help="other tasks than those of 77, on which limits were set"
    )
    parser.add_argument("--parts", default="recursion,healthy,power")
    parser.add_argument("--pool", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    global _processes  # noqa: PLW0603 - read by `spread`
    _processes = options.processes
    if options.pool:
        same = pool_counts() == COUNTS
        print("the pool gives the shipped table" if same else "the pool gives another table than the shipped one")
        return 0 if same else 1
    console, started = Console(stderr=True), time.perf_counter()
    settings, parts = gates(), options.parts.split(",")

    def say(text: str) -> None:
        console.print(f"{time.perf_counter() - started:7.0f} s  {text}", end="\r" if console.is_terminal else "\n")

    report: dict[str, Any] = {"gates": limits(gates()), "fall": FALL}
    if "recursion" in parts:
        report["recursion"] = [recursion(options.streams, share, settings, say) for share in (0.0, REAL_SHARE)]
    if "healthy" in parts:
        report["healthy"] = healthy(
            options.streams, options.changes, practice_bank(options.bank, options.bank_seed), settings, say
        )
    if "power" in parts:
        report["power"] = power(min(options.streams, 100), settings, say)
    report["broken"] = promises(report)
    print(json.dumps(report, indent=1))
    return 1 if report["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
