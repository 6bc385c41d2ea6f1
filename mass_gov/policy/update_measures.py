"""What a policy asks to be measured of an update, and the figures that follow from the update's own record.

Rules: nothing is measured that nobody asks for, and whoever asks for what was not measured gets no figure, which never
passes. A policy asks by a gate that it uses for the scope, by a limit of its envelope, or by a rule that names the
metric. Every figure here is derived from the artifact `update` alone, so that an auditor derives it again without a
model. What the log itself tells (depth, budget, cooldown) is the business of `mass_gov.policy.standing`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from mass_gov.policy.cel import compile_program
from mass_gov.policy.document import MEASURED_LIMITS, PolicyDocument
from mass_gov.policy.gate_settings import BudgetGate
from mass_gov.records.artifacts import UpdateContent
from mass_gov.records.change import Measure, Scope

SPECTRAL = ("update.spectral_norm", "update.cumulative_spectral_norm")
ANCHORS = ("update.anchor_kl", "update.anchor_kl_p99")
LOSS_JUMP = "update.loss_jump"
FROM_THE_UPDATE = (*SPECTRAL, *ANCHORS, LOSS_JUMP)
"""Measures that the artifact `update` gives."""


def asked_for(document: PolicyDocument, scope: Scope) -> frozenset[str]:
    """Names of the measures that this policy judges for a change of this scope."""
    gates = document.gates_for(scope)
    found: set[str] = set()
    for attribute, field in type(gates).model_fields.items():
        settings, name = getattr(gates, attribute), str(field.alias)
        if isinstance(settings, BudgetGate):
            found |= {f"{name}.changes", f"{name}.flops"}
        elif settings != "unused":
            found.add(name)
    found |= {f"update.{limit}" for limit in MEASURED_LIMITS if getattr(document.envelope, limit) != "unused"}
    named = {metric for rule in document.rules for metric in compile_program(rule.require).names}
    return frozenset(found | {name for name in _BY_METRIC.values() if name.replace(".", "_") in named})


_BY_METRIC = {
    name.replace(".", "_"): name
    for name in (
        *FROM_THE_UPDATE,
        "update.generation_depth",
        "update.budget.changes",
        "update.budget.flops",
        "update.cooldown",
    )
}
"""Rules name a measure by its plain form (`mass_gov.policy.metrics`)."""


def update_measures(content: UpdateContent, names: Collection[str]) -> tuple[Measure, ...]:
    """The measures of `names` that an update gives, by name as in a leaf; a figure that is not known has no value.

    Norms and divergences are maxima, means and percentiles over all of their parts: one part that is not known leaves
    the whole unknown.
    """
    modules, tokens = content.modules, content.divergences or ()
    after, before = content.loss_after, content.losses[0] if content.losses else None
    figures = {
        SPECTRAL[0]: (_largest([module.spectral_norm for module in modules]), len(modules)),
        SPECTRAL[1]: (_largest([module.cumulative_spectral_norm for module in modules]), len(modules)),
        ANCHORS[0]: (mean(tokens), len(tokens)),
        ANCHORS[1]: (percentile(tokens, 99), len(tokens)),
        LOSS_JUMP: (None if after is None or before is None else after - before, len(content.losses)),
    }
    return tuple(Measure(name=name, value=value, n=n) for name, (value, n) in sorted(figures.items()) if name in names)


def mean(values: Sequence[float | None]) -> float | None:
    """The exact mean, rounded once (`math.fsum`); None of nothing or of an unknown."""
    known = _known(values)
    return math.fsum(known) / len(known) if known else None


def percentile(values: Sequence[float | None], percent: int) -> float | None:
    """The nearest-rank percentile: the smallest value that at least `percent` of them do not exceed.

    It is always one of the values, so that two readers cannot interpolate differently. None as for `mean`.
    """
    known = sorted(_known(values))
    return known[-(-len(known) * percent // 100) - 1] if known else None


def _known(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def _largest(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return max(known) if known else None
