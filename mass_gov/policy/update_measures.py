"""What a policy asks to be measured of an update, and the figures that follow from the update's own record.

Rules: nothing is measured that nobody asks for, and whoever asks for what was not measured gets no figure, which never
passes. A policy asks by a gate that it uses for the scope, by a limit of its envelope, or by a rule that names the
metric. Every figure here is derived from the artifact `update` alone, so that an auditor derives it again without a
model; those of the samples are the business of `mass_gov.policy.diversity`, and what the log itself tells (depth,
budget, cooldown) of `mass_gov.policy.standing`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from mass_gov.policy.cel import compile_program
from mass_gov.policy.diversity import FROM_THE_SAMPLES
from mass_gov.policy.document import MEASURED_LIMITS, PolicyDocument
from mass_gov.policy.metrics import metric_of
from mass_gov.policy.standing import CHANGES, DEPTH, FLOPS, FROM_THE_LOG
from mass_gov.records.artifacts import UpdateContent
from mass_gov.records.change import Measure, Scope

SPECTRAL = ("update.spectral_norm", "update.cumulative_spectral_norm")
ANCHORS = ("update.anchor_kl", "update.anchor_kl_p99")
LOSS_JUMP = "update.loss_jump"
FROM_THE_UPDATE = (*SPECTRAL, *ANCHORS, LOSS_JUMP)
"""Measures that the artifact `update` gives."""


def asked_for(document: PolicyDocument, scope: Scope) -> frozenset[str]:
    """Names of the measures that this policy judges for a change of this scope."""
    gates = document.gates_for(scope).used()
    found = {f"update.{limit}" for limit in MEASURED_LIMITS if getattr(document.envelope, limit) != "unused"}
    found |= {measure for gate in gates for measure in _JUDGED.get(gate, (gate,))}
    named = {metric for rule in document.rules for metric in compile_program(rule.require).names}
    return frozenset(name for name in _MEASURED if name in found or metric_of(name) in named)


_MEASURED = (*FROM_THE_SAMPLES, *FROM_THE_UPDATE, *FROM_THE_LOG)
"""What is measured where it is asked for. What stands in windows follows from their gates alone
(`mass_gov.policy.monitors.windows`)."""
_JUDGED = {"update.budget": (CHANGES, FLOPS), "window.generation_depth": (DEPTH,)}
"""Gates that judge other measures than the one of their name."""


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
