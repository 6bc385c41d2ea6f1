"""From what the gates would see on real tasks to the limits that a policy sets: distributions, and one rule a limit.

Rules: tasks are held out from training (the split `hard`) and drawn with seeds that no evaluation uses by default;
nothing is written to a ledger. A limit follows from the recorded distribution by the rule beside it, rounded
outward to three digits, so that whoever has the file can follow it again. A percentile is the nearest rank.

A calibrated limit says what is usual, not what is safe: what an update breaks is for regression to find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mass_gov.flows.calibration_samples import sample_statistics
from mass_gov.flows.calibration_updates import update_statistics
from mass_gov.flows.workbench import Workbench
from mass_gov.policy.update_measures import mean, percentile
from mass_gov.tasks.registry import sample_tasks

SEED = 900_000
"""Of the calibration tasks. `mass-gov evaluate` takes seeds below this one."""
PERCENTS = (1, 5, 50, 95, 99)
HEADROOM = 1.25


@dataclass(frozen=True, slots=True)
class LimitRule:
    """Which limit of which gate follows from which statistic, and how.

    `percent` of the distribution, times `factor`, rounded up for a limit from above and down for one from below.
    """

    gate: str
    field: str
    statistic: str
    percent: int
    factor: float
    above: bool

    @property
    def text(self) -> str:
        """For people."""
        times = f" x {self.factor:g}" if self.factor != 1 else ""
        return f"p{self.percent} of {self.statistic}{times}, rounded {'up' if self.above else 'down'}"


def _largest(gate: str) -> LimitRule:
    return LimitRule(gate, "limit", gate, 99, HEADROOM, above=True)


RULES = (
    LimitRule("sample.perplexity", "low", "perplexity.real", 1, 1.0, above=False),
    LimitRule("sample.perplexity", "high", "perplexity.real", 99, 1.0, above=True),
    LimitRule("update.distinct_2", "limit", "distinct_2", 5, 1.0, above=False),
    LimitRule("update.self_bleu", "limit", "self_bleu", 95, 1.0, above=True),
    _largest("update.step_norm"),
    _largest("update.cumulative_norm"),
    _largest("update.spectral_norm"),
    _largest("update.cumulative_spectral_norm"),
    _largest("update.anchor_kl"),
    _largest("update.anchor_kl_p99"),
    _largest("update.loss_jump"),
)
"""A loss that falls on every task gives the limit 0: what rises at all is unusual."""


def calibrate(
    bench: Workbench, tasks: int, seed: int, resolves: int, progress: Callable[[str, int], None]
) -> dict[str, Any]:
    """Practise on `tasks` tasks and return the document that limits follow from.

    Arguments:
        resolves: fresh solutions a sample, for the agreement; 0 leaves it out, which costs the most.
        progress: called with what is being done and for how many tasks it is.

    Raises:
        TaskError: `tasks` or `seed` is out of range.
    """
    drawn = sample_tasks(tasks, seed)
    found = update_statistics(bench, drawn, progress=lambda done: progress("updates", done))
    progress("samples", 0)
    found |= sample_statistics(bench, drawn, resolves=resolves)
    statistics = {name: distribution(values) for name, values in sorted(found.items())}
    core = bench.learner.core
    return {
        "format": 1,
        "tasks": tasks,
        "seed": seed,
        "resolves": resolves,
        "model": bench.learner.base_digest,
        "scorer": core.scorer_digest if core is not None else None,
        "start": bench.spec.lora.initial,
        "config": bench.config_digest,
        "anchors": bench.anchors.digest,
        "statistics": statistics,
        "limits": limits(statistics),
    }


def distribution(values: Sequence[float]) -> dict[str, float]:
    """How many, the mean, the percentiles and the extremes."""
    figures = {f"p{percent}": percentile(values, percent) or 0.0 for percent in PERCENTS}
    return {"n": len(values), "mean": mean(values) or 0.0, "min": min(values), **figures, "max": max(values)}


def limits(statistics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Gate -> field -> {limit, rule}, for every rule whose statistic was seen."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for rule in RULES:
        if rule.statistic in statistics:
            value = max(statistics[rule.statistic][f"p{rule.percent}"] * rule.factor, 0.0)
            found.setdefault(rule.gate, {})[rule.field] = {"limit": outward(value, rule.above), "rule": rule.text}
    return found


def outward(value: float, above: bool, digits: int = 3) -> float:
    """Round a value that is not negative to so many digits, up or down."""
    if value == 0:
        return 0.0
    places = digits - 1 - math.floor(math.log10(value))
    scaled = round(value * 10.0**places, 6)  # 0.07 * 1e4 is 700.0000000000001, which is no reason to round it up
    return round((math.ceil(scaled) if above else math.floor(scaled)) / 10.0**places, max(places, 0))


def yaml_lines(document: Mapping[str, Any]) -> list[str]:
    """The lines of a policy file that say these limits; what a failure does is the policy's to say."""
    return [
        f"  {gate}: " + ", ".join(f"{field}: {one['limit']}" for field, one in fields.items())
        for gate, fields in document["limits"].items()
    ]
