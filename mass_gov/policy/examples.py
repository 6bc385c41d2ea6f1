"""An example change beside a policy: a few metrics, what the policy must make of them, and why.

    why: The step is larger than the envelope lets pass.
    because: [envelope.step_norm]
    change: {step_norm: 0.75}

Rules: metrics have the names that rules use (`mass_gov.policy.metrics`); what an example does not say is taken from the
policy's ordinary change. `null` is a number that is not finite, `missing` a measure that was not taken. What follows
from others is not said: bounds, differences, and `kept` unless something is to be wrong with it. `because` names what
stands in the way, so that no example passes for another reason than its own; where nothing does, it is the decision's
reason. This module does not read folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mass_gov.errors import PolicyError
from mass_gov.policy.document import Policy
from mass_gov.policy.gate_settings import MarginGate
from mass_gov.policy.judgement import Facts, judge_and_decide
from mass_gov.policy.measures import RECORDED
from mass_gov.policy.metrics import METRICS, metric_of
from mass_gov.policy.paired import paired_counts
from mass_gov.policy.strict_yaml import read_mapping
from mass_gov.records.change import (
    SCOPES,
    Decision,
    GateResult,
    Measure,
    PairedCounts,
    RegressionSummary,
    SynthesisSummary,
    UpdateSummary,
)

_NOBODY = "0" * 64
_MEASURES = {metric_of(name): name for name in RECORDED}
_DERIVED = frozenset(f"{against}_{name}" for against in ("previous", "base") for name in ("difference", "lower_bound"))
_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "bool": (bool,), "int": (int,), "double": (int, float)}


@dataclass(frozen=True, slots=True)
class Example:
    """One example file."""

    name: str
    why: str
    because: tuple[str, ...]
    facts: Facts


def read_metrics(source: bytes, where: str) -> dict[str, Any]:
    """The metrics of an ordinary change: a file of its own, with the one key `change`.

    Raises:
        PolicyError: with the line.
    """
    data, lines = read_mapping(source, where)
    if set(data) != {"change"}:
        raise PolicyError(f"{where}: an ordinary change has the one key `change`; take the others out.")
    return _checked(data["change"], lines, where)


def read_example(source: bytes, where: str, ordinary: Mapping[str, Any], policy: Policy) -> Example:
    """Read one example against the ordinary change.

    Raises:
        PolicyError: a metric that there is not, a value of another type, counts that do not add up; with the line.
    """
    data, lines = read_mapping(source, where)
    because = data.get("because", ())
    if set(data) != {"why", "because", "change"} or not isinstance(because, tuple) or not isinstance(data["why"], str):
        raise PolicyError(f"{where}: an example says `why` (text), `because` (a list) and `change`, and nothing else.")
    metrics = dict(ordinary) | _checked(data["change"], lines, where)
    try:
        facts = _facts(metrics, policy)
    except (ValueError, KeyError) as error:
        raise PolicyError(f"{where}: these metrics are no change: {error}. Mend the example.") from None
    return Example(where, data["why"], because, facts)


def decide_example(example: Example, policy: Policy) -> tuple[tuple[GateResult, ...], Decision]:
    """Judge and decide it as a change would be."""
    return judge_and_decide(example.facts, policy)


def _checked(change: Any, lines: Mapping[tuple[str, ...], int], where: str) -> dict[str, Any]:
    if not isinstance(change, dict):
        raise PolicyError(f"{where}: `change` is a mapping of metrics.")
    for name, value in change.items():
        line = lines.get(("change", name), 1)
        if name not in METRICS or name in _DERIVED:
            raise PolicyError(
                f"{where}, line {line}: {name} is no metric that an example sets; see docs/reference/policy.md."
            )
        kind = METRICS[name]
        fine = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
        unknown = (value is None and kind == "double") or (value == "missing" and name in _MEASURES)
        if not fine and not unknown:
            raise PolicyError(f"{where}, line {line}: {name} is of type {kind}; write one.")
    return change


def _facts(metrics: Mapping[str, Any], policy: Policy) -> Facts:
    measures = {
        _MEASURES[name]: Measure(name=_MEASURES[name], value=value, n=1)
        for name, value in metrics.items()
        if name in _MEASURES and value != "missing"
    }
    update = _update(metrics)
    if metrics["scope"] not in SCOPES:
        raise ValueError(f"there is no scope {metrics['scope']!r}")
    regression = _regression(metrics, policy) if update.outcome == "stepped" else None
    return Facts(metrics["scope"], _synthesis(metrics), update, regression, measures)


def _synthesis(metrics: Mapping[str, Any]) -> SynthesisSummary:
    dropped = {name.removeprefix("dropped_"): n for name, n in metrics.items() if name.startswith("dropped_")}
    kept = metrics.get("kept", metrics["generated"] - sum(dropped.values()))
    if kept + sum(dropped.values()) != metrics["generated"]:
        raise ValueError(
            f"{sum(dropped.values())} dropped and {kept} kept are not the {metrics['generated']} generated"
        )
    old = {"unparseable": "format", "near_duplicate": "near_duplicate", "target_leakage": "target_leakage"}
    counts = {field: dropped.pop(name, 0) for field, name in old.items()}
    return SynthesisSummary(
        generated=metrics["generated"],
        kept=kept,
        forced=metrics.get("forced", False),
        generator=_NOBODY,
        scorer=None,
        dropped={f"sample.{name}": n for name, n in dropped.items()},
        **counts,
    )


def _update(metrics: Mapping[str, Any]) -> UpdateSummary:
    stepped = metrics["steps"] > 0
    projected = metrics.get("projected", False)
    return UpdateSummary(
        outcome=metrics.get("outcome", "stepped" if stepped else "no_valid_samples"),
        steps=metrics["steps"],
        modules=metrics["modules"],
        not_finite=metrics.get("not_finite", 0),
        step_sizes=_NOBODY if stepped else None,
        step_norm=metrics["step_norm"],
        cumulative_norm=metrics["cumulative_norm"],
        projected=projected,
        projected_norm=metrics["projected_norm"] if projected else None,
        loss_first=metrics["loss_first"],
        loss_last=metrics["loss_last"],
        anchor_kl=None,
        delta=_NOBODY if stepped else None,
        retained="delta",
        delta_key=_NOBODY if stepped else None,
        state=_NOBODY,
    )


def _regression(metrics: Mapping[str, Any], policy: Policy) -> RegressionSummary:
    gates, n = policy.document.gates_for(metrics["scope"]), metrics["regression_n"]
    right = max(metrics["previous_gained"], metrics["base_gained"], n // 2)
    return RegressionSummary(
        n=n,
        against_previous=_paired(metrics, "previous", n, right, gates.regression_previous),
        against_base=_paired(metrics, "base", n, right, gates.regression_base),
        critical_n=metrics["critical_n"],
        critical_lost=metrics["critical_lost"],
    )


def _paired(metrics: Mapping[str, Any], against: str, n: int, right: int, gate: MarginGate) -> PairedCounts:
    gained, lost = metrics[f"{against}_gained"], metrics[f"{against}_lost"]
    return paired_counts(both_right=right - gained, lost=lost, gained=gained, both_wrong=n - lost - right, gate=gate)
