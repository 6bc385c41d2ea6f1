"""The metrics of a change by the names that a policy's rules use, each with one type.

Rules: every metric is derived from the leaf (`judgement.Facts`), so that an auditor evaluates a rule again. A number
that is not known, not finite or beyond 1e30 is not there at all: whoever asks for it gets no answer. This module does
not know what a rule is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from mass_gov.policy.gate_settings import GATE_NAMES, LATER_GATES
from mass_gov.policy.measures import KINDS, KINDS_OF, RECORDED

if TYPE_CHECKING:
    from mass_gov.policy.judgement import Facts
    from mass_gov.records.change import PairedCounts, SynthesisSummary

Kind = Literal["string", "bool", "int", "double"]
Value = str | bool | int | float

LARGEST = 1e30
"""Of a metric and of a number in a rule: what products of a few of them stay finite for (`policy.cel`)."""
_SAMPLE = "sample."
_PAIRED: dict[str, Kind] = {"gained": "int", "lost": "int", "difference": "double", "lower_bound": "double"}


def _kinds() -> dict[str, Kind]:
    kinds: dict[str, Kind] = {
        "scope": "string",
        "outcome": "string",
        "forced": "bool",
        "projected": "bool",
        "generated": "int",
        "kept": "int",
    }
    kinds |= {_dropped(gate): "int" for gate in GATE_NAMES if gate.startswith(_SAMPLE)}
    kinds |= {"steps": "int", "modules": "int", "not_finite": "int"}
    kinds |= dict.fromkeys(("step_norm", "projected_norm", "cumulative_norm", "loss_first", "loss_last"), "double")
    kinds |= {"regression_n": "int"}
    kinds |= {f"{against}_{name}": kind for against in ("previous", "base") for name, kind in _PAIRED.items()}
    kinds |= {"critical_n": "int", "critical_lost": "int"}
    return kinds | {metric_of(name): "double" for name in RECORDED}


def metric_of(measure: str) -> str:
    """The metric by which a rule names a measure."""
    return measure.replace(".", "_")


def _dropped(gate: str) -> str:
    return f"dropped_{gate.removeprefix(_SAMPLE)}"


METRICS: Mapping[str, Kind] = _kinds()
"""Every metric by name, with its type."""


def gates_behind(metric: str) -> tuple[str, ...]:
    """The gates of which one has to be in use for a change to have this metric; none where it does not hang on any."""
    return _BEHIND.get(metric, ())


def _behind() -> dict[str, tuple[str, ...]]:
    windows = tuple(gate for gate in GATE_NAMES if gate.startswith("window."))
    found: dict[str, tuple[str, ...]] = {_dropped(gate): (gate,) for gate in LATER_GATES if gate.startswith(_SAMPLE)}
    for measure in (name for name in RECORDED if name.startswith("window.")):
        of = KINDS_OF if measure in KINDS else tuple(gate for gate in windows if measure.startswith(gate))
        found[metric_of(measure)] = of or windows
    return found


_BEHIND = _behind()


def metrics_of(facts: Facts) -> dict[str, Value]:
    """The metrics that this change has; what it does not have is left out."""
    synthesis, update, regression = facts.synthesis, facts.update, facts.regression
    found: dict[str, Value | None] = {
        "scope": facts.scope,
        "outcome": update.outcome,
        "forced": synthesis.forced,
        "projected": update.projected,
        "generated": synthesis.generated,
        "kept": synthesis.kept,
        "steps": update.steps,
        "modules": update.modules,
        "not_finite": update.not_finite,
        "step_norm": update.step_norm,
        "projected_norm": update.projected_norm,
        "cumulative_norm": update.cumulative_norm,
        "loss_first": update.loss_first,
        "loss_last": update.loss_last,
    }
    found |= {_dropped(gate): count for gate, count in dropped_by_gate(synthesis).items()}
    if regression is not None:
        found |= {"regression_n": regression.n, "critical_n": regression.critical_n}
        found |= {"critical_lost": regression.critical_lost}
        found |= _paired("previous", regression.against_previous) | _paired("base", regression.against_base)
    found |= {metric_of(name): measure.value for name, measure in facts.measures.items()}
    return {name: value for name, value in found.items() if name in METRICS and usable(value)}  # type: ignore[misc]


def dropped_by_gate(synthesis: SynthesisSummary) -> dict[str, int]:
    """How many samples each gate dropped, by name; of gates that nobody counted, nothing."""
    counts = (synthesis.unparseable, synthesis.near_duplicate, synthesis.target_leakage)
    return dict(zip(_ALWAYS_COUNTED, counts, strict=True)) | (synthesis.dropped or {})


_ALWAYS_COUNTED = ("sample.format", "sample.near_duplicate", "sample.target_leakage")


def _paired(against: str, counts: PairedCounts) -> dict[str, Value | None]:
    return {f"{against}_{name}": getattr(counts, name) for name in _PAIRED}


def usable(value: Value | None) -> bool:
    """Whether it is there, and within what rules compute with."""
    # Of NaN every comparison is false, so this one leaves it out, and the infinities with it.
    return isinstance(value, str | bool) or (isinstance(value, int | float) and abs(value) <= LARGEST)
